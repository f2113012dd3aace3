"""A world from a seed: an organization, its users and flows, and their history."""

from random import Random

from archiver.simulator.entities import User
from archiver.simulator.traffic import Traffic
from archiver.simulator.world import World

HISTORY_ENDS_AT = 1_690_000_000_000
"""When the history of a world ends unless told otherwise; fixed, so that a seed fixes all bytes."""

DAY = 86_400_000

_NAMES = (
    "Anna Virtanen|Mike Johnson|Jackie O'Neil|José Álvarez|Søren Kjær|Юлия Иванова|山田 太郎|"
    "Łukasz Nowak|Zoë Müller|Hubot|فاطمة علي|Nguyễn Văn An|Aoife Byrne|Olu Adeyemi|李 小龙|Ada L"
).split("|")
_NICKS = (
    "Anna|Mike|Jackie|Jose|soren|Yulia|Taro|Lukasz|zoe|Hubot|Fatima|An_Nguyen|Aoife|olu|Li|ada.l"
)
_FLOWS = (
    "Main|Development|Operations|Random|Design Über|Support|Releases|日本チーム|Sales|Incidents"
)


def settle(world: World, *, flows: int, users: int, token: str | None) -> User:
    """Found the organization ``acme`` and return its first user, who has joined every flow.

    That user's API token is *token* when given. The others join most flows, drawn from the seed.
    """
    chance = world.chance
    acme = world.directory.add_organization("acme", "Acme")
    nicks = _NICKS.split("|")
    people = []
    for index in range(max(1, users)):
        suffix = str(index // len(nicks) + 1) if index >= len(nicks) else ""
        people.append(
            world.directory.add_user(
                acme,
                nick=nicks[index % len(nicks)] + suffix,
                name=_NAMES[index % len(_NAMES)],
                token=token if index == 0 else None,
                admin=index == 0,
            )
        )
    names = _FLOWS.split("|")
    modes = ("organization", "invitation", "link")
    for index in range(flows):
        name = names[index] if index < len(names) else f"Flow {index + 1}"
        slug = _slug(name) if index < len(names) else f"flow-{index + 1}"
        mode = modes[index % 3]
        flow = world.directory.add_flow(acme, slug=slug, name=name, access_mode=mode)
        joined = [people[0], *(user for user in people[1:] if chance.random() < 0.8)]
        flow.members |= {user.id: True for user in joined}
    return people[0]


def write_history(
    world: World, *, seed: int, messages: int, until: int = HISTORY_ENDS_AT, days: int = 30
) -> None:
    """Let so many messages have been stored in all, over *days* that end before *until*.

    Edits, deletions and all other traffic happen in between; the streams hear nothing of it.
    """
    if not messages or not world.flows:
        return
    now = until - days * DAY
    # Some three operations in four store a message.
    pause = days * DAY * 3 // (messages * 4)
    chance = Random(f"{seed}/history")
    traffic = Traffic(world, seed)
    with world.unheard(), world.at(lambda: now):
        while _stored(world) < messages:
            for _ in range(max(1, (messages - _stored(world)) // 2)):
                now = min(until, now + chance.randint(1, 2 * pause + 1))
                traffic.step()


def _stored(world: World) -> int:
    directory = world.directory
    flows = sum(len(flow.timeline) for flow in directory.flows.values())
    return flows + sum(len(talk.timeline) for talk in directory.conversations.values())


def _slug(name: str) -> str:
    known = {"Design Über": "design-uber", "日本チーム": "japan"}
    return known.get(name, name.lower())
