"""Changes of flows, their members and profiles, with the events that the streams send of them."""

import re
from typing import Any

from archiver.simulator import wire
from archiver.simulator.entities import Flow, Message, Organization, User
from archiver.simulator.world import World

OFFLINE = 0
STATES = {"true": 2_000_000, "idle": 1_000_000}
"""By the parameter ``active`` of a stream: the state in which it shows its user."""


def found(world: World, organization: Organization, name: str, founder: User) -> Flow:
    """Create a flow with one member; its address is made from its name."""
    wanted = re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-") or "flow"
    taken = {flow.slug for flow in world.flows if flow.organization is organization}
    slug, count = wanted, 1
    while slug in taken:
        count += 1
        slug = f"{wanted}-{count}"
    flow = world.directory.add_flow(organization, slug=slug, name=name)
    join(world, flow, founder)
    return flow


def join(world: World, flow: Flow, user: User) -> Message:
    """Let *user* join: an ``action`` in the flow, ``flow-add`` to the user's streams."""
    flow.members[user.id] = True
    _tell_user(world, "flow-add", flow, user)
    content = {"type": "join", "description": None, "id": f"{flow.invitation}-{flow.slug}"}
    return world.post(flow, user, content, event="action")


def add(world: World, flow: Flow, user: User, by: User) -> Message:
    """Let somebody add *user*: an ``action`` in the flow, ``flow-add`` to the user's streams."""
    flow.members[user.id] = True
    _tell_user(world, "flow-add", flow, user)
    # The page "Message types" has the nicks as text; the service sent them as a list.
    content = {"type": "add_people", "description": user.nick, "message": [user.nick]}
    return world.post(flow, by, content, event="action")


def leave(world: World, flow: Flow, user: User, by: User | None = None) -> None:
    """Let *user* leave, or be blocked *by* another.

    It sends an ``action`` and ``backend.user.block`` to the flow, ``flow-remove`` to the user.
    """
    content = {"type": "block", "description": {"user": user.id}}
    world.post(flow, by or user, content, event="action")
    world.signal(flow, user, "backend.user.block", str(user.id))
    _tell_user(world, "flow-remove", flow, user)
    del flow.members[user.id]


def set_open(world: World, flow: Flow, user: User, *, is_open: bool) -> None:
    """Open or close the tab of a flow; opening joins it (docs/flows, "Update a flow")."""
    if user.id not in flow.members:
        if is_open:
            join(world, flow, user)
        return
    flow.members[user.id] = is_open


def change(world: World, flow: Flow, user: User | None, **changes: Any) -> None:
    """Set name, access mode, description or ``disabled`` of a flow, and send ``flow-change``."""
    for name, value in changes.items():
        setattr(flow, name, value)
    told = {"id": flow.id, "name": flow.name, "disabled": flow.disabled,
            "access_mode": flow.access_mode}  # fmt: skip
    world.signal(flow, user, "flow-change", told)


def change_user(world: World, user: User, **changes: Any) -> None:
    """Change a profile; each flow of the user gets a ``user-edit`` with an id of its own."""
    for name, value in changes.items():
        setattr(user, name, value)
    world.directory.forget_nicks()
    for flow in world.directory.flows_of(user):
        world.post(flow, user, {"user": wire.user_object(user)}, event="user-edit")


def show_presence(world: World, user: User, state: int) -> None:
    """Send a state, `OFFLINE` or one of `STATES`, to streams with ``presence=1``."""
    content = {"user_id": user.id, "state": state, "updated_at": wire.iso(world.clock())}
    body = {"event": "presence", "content": content, "user_id": user.id}
    world.log.publish(wire.encode(body), flow=None, presence=True)


def _tell_user(world: World, event: str, flow: Flow, user: User) -> None:
    content = {"id": flow.id, "name": flow.name, "organization": flow.organization.name,
               "open": flow.members[user.id]}  # fmt: skip
    body = {"user": user.id, "event": event, "content": content}
    world.log.publish(wire.encode(body), flow=None, users=frozenset({user.id}))
