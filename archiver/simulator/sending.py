"""What a request may send as a message, and what is wrong with the rest (docs/messages)."""

import re
from base64 import b64decode
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
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

POSTABLE = frozenset({"message", "status", "line", "file", "action"})
COMMENTS = frozenset({"comment", "file"})
"""Events that may be posted as comments; a ``comment`` only there (docs/messages)."""


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
    event = _event(given, POSTABLE)
    thread = thread_of(place, given.get("thread_id"))
    author, common = _sender(place, user, given)
    if event == "file":
        return world.upload(place, author, **_file(given.get("content")), thread=thread, **common)
    text = checked_text(given.get("content"))
    if event == "status" and author is not None:
        author.status = text
    return world.post(place, author, text, event=event, thread=thread, **common)


def create_comment(world: World, flow: Flow, user: User, given: Mapping[str, Any]) -> Message:
    """Store a comment on the message that parameters name, or a file in its thread."""
    event = _event(given, COMMENTS)
    parent = _parent(world, flow, given.get("message"))
    author, common = _sender(flow, user, given)
    if event == "file":
        file = _file(given.get("content"))
        return world.upload(flow, author, **file, thread=parent.thread, **common)
    return world.comment(flow, author, parent.id, checked_text(given.get("content")), **common)


def _event(given: Mapping[str, Any], allowed: AbstractSet[str]) -> str:
    event = str(given.get("event") or "")
    if event not in allowed:
        raise invalid(event="is not included in the list" if event else "can't be blank")
    return event


def _sender(
    place: Place, user: User, given: Mapping[str, Any]
) -> tuple[User | None, dict[str, Any]]:
    """The sender (None under another name), and the parameters that all kinds of messages share."""
    name = text_of(given, "external_user_name") if isinstance(place, Flow) else ""
    tags, uuid = checked_tags(given.get("tags")), text_of(given, "uuid") or None
    return None if name else user, {"tags": tags, "uuid": uuid, "external_user_name": name}


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


def _parent(world: World, flow: Flow, named: object) -> Message:
    if not _ID.fullmatch(str(named)):
        raise invalid(message="can't be blank")
    parent = world.find(flow, int(str(named)))
    if parent.event == "comment":
        raise invalid(message="must not be a comment")
    return parent


def _file(content: object) -> dict[str, Any]:
    if isinstance(content, web.FileField):
        name, kind, data = content.filename, content.content_type, content.file.read()
    elif isinstance(content, dict) and content.get("data") and content.get("file_name"):
        name, data = str(content["file_name"]), _decoded(content["data"])
        kind = str(content.get("content_type") or "application/octet-stream")
    else:
        raise invalid(content="can't be blank")
    # Both become part of answers: the name of an address, the type of a header.
    name = name.rpartition("/")[2]
    if not _FILE_NAME.fullmatch(name) or not _CONTENT_TYPE.fullmatch(kind):
        raise invalid(content="is invalid")
    return {"file_name": name, "content_type": kind, "data": data}


def _decoded(data: object) -> bytes:
    try:
        return b64decode("".join(str(data).split()), validate=True)
    except ValueError:
        raise invalid(content="is not Base64") from None
