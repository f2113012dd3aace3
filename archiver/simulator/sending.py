"""What a request may send as a message, and what is wrong with the rest (docs/messages)."""

import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from archiver.simulator import tags as tagging
from archiver.simulator import wire
from archiver.simulator.access import ID, answer, invalid, text_of
from archiver.simulator.directory import NoSuchThing
from archiver.simulator.entities import Flow, Message, Place, Thread, User
from archiver.simulator.world import World

MAX_TEXT = 8096
"""Characters that a message may have (docs/messages)."""

_ID = re.compile(ID)
_FILE_NAME = re.compile(r"(?!\.\.?$)[^/\0-\x1f\x7f\ud800-\udfff]+")
_CONTENT_TYPE = re.compile(r"[!-.0-~]+/[!-.0-~]+(?: *;[ -~]*)?")

POSTABLE = frozenset({"message", "comment", "status", "line", "file", "action"})


def thread_of(flow: Place, thread_id: object) -> Thread | None:
    """Return the thread that a parameter names; None when it names none."""
    if not thread_id or not isinstance(flow, Flow):
        return None
    try:
        return flow.threads[str(thread_id)]
    except KeyError:
        raise NoSuchThing(str(thread_id)) from None


def sent(request: web.Request, place: Place, message: Message) -> web.Response:
    """Return the answer to a message that was stored: 201, with a link to its comments."""
    headers = {}
    if isinstance(place, Flow):
        address = f"{request.url.origin()}/flows/{place.path}/messages/{message.id}/comments"
        headers["Link"] = f'<{address}>; rel="comments"'
    return answer(wire.listed_message(message), status=201, headers=headers)


def create(world: World, place: Place, user: User, given: Mapping[str, Any]) -> Message:
    """Store the message that parameters describe; raise `Refused` with what is wrong."""
    event = str(given.get("event") or "message")
    if event not in POSTABLE:
        raise invalid(event="is not included in the list")
    tags = checked_tags(given.get("tags"))
    thread = thread_of(place, given.get("thread_id"))
    uuid = text_of(given, "uuid") or None
    name = text_of(given, "external_user_name") if isinstance(place, Flow) else ""
    author = None if name else user
    if event == "file":
        file = _file(given.get("content"))
        return world.upload(
            place, author, **file, thread=thread, tags=tags, uuid=uuid, external_user_name=name
        )
    text = checked_text(given.get("content"))
    if event == "comment":
        flow, parent = _parent(world, place, given.get("message"))
        if parent.event == "comment":
            raise invalid(message="must not be a comment")
        return world.comment(
            flow, author, parent.id, text, tags=tags, uuid=uuid, external_user_name=name
        )
    if event == "status" and author is not None:
        author.status = text
    return world.post(
        place, author, text, event=event, tags=tags, thread=thread, uuid=uuid,
        external_user_name=name,
    )  # fmt: skip


def create_comment(world: World, flow: Flow, user: User, given: Mapping[str, Any]) -> Message:
    """Store a comment on the message that parameters name, or a file in its thread."""
    event = str(given.get("event") or "comment")
    if event not in {"comment", "file"}:
        raise invalid(event="is not included in the list")
    _, parent = _parent(world, flow, given.get("message"))
    thread_id = parent.thread.id if parent.thread else None
    return create(world, flow, user, {**given, "event": event, "thread_id": thread_id})


def checked_text(content: object) -> str:
    """Return the text of a message; raise `Refused` when there is none, or too much."""
    if not isinstance(content, str) or not content.strip():
        raise invalid(content="can't be blank")
    if len(content) > MAX_TEXT:
        raise invalid(content=f"is too long (maximum is {MAX_TEXT} characters)")
    return content


def checked_tags(value: object) -> list[str]:
    """Return the tags of a message; raise `Refused` when they are neither list nor text."""
    try:
        return tagging.from_parameter(value)
    except ValueError:
        raise invalid(tags="is invalid") from None


def _parent(world: World, place: Place, named: object) -> tuple[Flow, Message]:
    if not isinstance(place, Flow) or not _ID.fullmatch(str(named)):
        raise invalid(message="can't be blank")
    return place, world.find(place, int(str(named)))


def _file(content: object) -> dict[str, Any]:
    if isinstance(content, web.FileField):
        name, kind, data = content.filename, content.content_type, content.file.read()
    elif isinstance(content, dict) and content.get("data") and content.get("file_name"):
        name, data = str(content["file_name"]), _decoded(content["data"])
        kind = str(content.get("content_type") or "application/octet-stream")
    else:
        raise invalid(content="can't be blank")
    # Both become part of an answer: the one of its address, the other of its head.
    name = name.rpartition("/")[2]
    if not _FILE_NAME.fullmatch(name) or not _CONTENT_TYPE.fullmatch(kind):
        raise invalid(content="is invalid")
    return {"file_name": name, "content_type": kind, "data": data}


def _decoded(data: object) -> bytes:
    try:
        return b64decode("".join(str(data).split()), validate=True)
    except ValueError:
        raise invalid(content="is not Base64") from None
