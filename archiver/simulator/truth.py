"""The truth: for each flow and conversation, what List Messages would show in the end.

A record is a JSON object whose ``kind`` is ``user``, ``file``, ``flow``, ``conversation``,
``thread``, ``message`` or ``gone``; all but users and files name their ``flow``
(``organization/flow``, or ``private/<lower id>/<higher id>``).
"""

from collections.abc import Iterator, Mapping
from hashlib import sha256

from archiver.simulator import wire
from archiver.simulator.directory import Directory
from archiver.simulator.entities import Flow, Json, Message, Place


def records(directory: Directory, path: str | None = None) -> Iterator[Json]:
    """Yield every record, or only those of the flow or conversation that *path* names."""
    if path is None:
        for user in directory.users.values():
            yield {"kind": "user"} | wire.user_object(user) | {"disabled": user.disabled}
    places: list[Place] = [*directory.flows.values(), *directory.conversations.values()]
    for place in places:
        if path is None or place.path == path:
            yield from _of_place(place)


def contents(files: Mapping[str, tuple[str, bytes]]) -> Iterator[Json]:
    """Yield a record of the kind ``file`` for each file: its path in messages, size and digest."""
    for path, (_, data) in files.items():
        digest = sha256(data).hexdigest()
        yield {"kind": "file", "path": path, "file_size": len(data), "sha256": digest}


def statement(directory: Directory) -> Json:
    """Return the whole truth as one object.

    ``{"users": [record], "flows": {path: {…head, "messages": [record], "threads": [record],
    "gone": [record]}}}``; conversations are among the flows.
    """
    users: list[Json] = []
    flows: dict[str, Json] = {}
    lists = {"message": "messages", "thread": "threads", "gone": "gone"}
    for record in records(directory):
        kind = record["kind"]
        if kind == "user":
            users.append(record)
        elif kind in lists:
            flows[record["flow"]][lists[kind]].append(record)
        else:
            flows[record["flow"]] = record | {"messages": [], "threads": [], "gone": []}
    return {"users": users, "flows": flows}


def _of_place(place: Place) -> Iterator[Json]:
    path = place.path
    timeline = place.timeline
    state: Json = {"flow": path, "head": timeline.head, "stored": len(timeline)}
    if isinstance(place, Flow):
        yield {
            "kind": "flow",
            **state,
            "flow_id": place.id,
            "organization": place.organization.slug,
            "name": place.name,
            "access_mode": place.access_mode,
            "disabled": place.disabled,
            "members": sorted(place.members),
        }
        for thread in place.threads.values():
            yield {"kind": "thread"} | wire.thread_object(thread) | {"flow": path}
    else:
        members = [user.id for user in place.users]
        yield {"kind": "conversation", **state, "members": members}
    for message in timeline:
        yield _message(message, path)
    for message in timeline.gone.values():
        yield {"kind": "gone", "flow": path, "id": message.id, "event": message.event}


def _message(message: Message, path: str) -> Json:
    return {
        "kind": "message",
        "flow": path,
        "id": message.id,
        "event": message.event,
        "user": message.user,
        "to": message.to,
        "sent": message.sent,
        "edited": message.edited,
        "deleted": message.is_deleted(),
        "content": message.content,
        "tags": list(message.tags),
        "thread_id": message.thread.id if message.thread else None,
        "attachments": list(message.attachments),
        "emojiReactions": {emoji: list(who) for emoji, who in message.reactions.items()},
        "app": message.app,
        "uuid": message.uuid,
        "external_user_name": message.external_user_name,
        **message.extra,
    }
