"""The objects of a Slack export in Slack's JSON: users, channels, messages, files.

A channel is named after its flow. In Slack, the timestamp of a message is unique in its channel. So
the digits below its millisecond are the last three of the message's id, or the next that are free.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import chain, count
from typing import Any

from msgspec import Struct

from archiver.domain.model import NOBODY, is_private, people_of
from archiver.export.files import file_name
from archiver.export.messages import Message
from archiver.store.exporting_files import NamedFile

TEAM = "T0FLOWDOCK"
INTEGRATION = "USLACKBOT"
UPLOADS = "__uploads"
"""The folder for the contents of files, by their ids; no channel has this name."""
LONGEST_NAME = 80
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_UNFIT = re.compile(r"[^a-z0-9_-]+")


class Thread(Struct):
    """A thread, with what its messages say of one another."""

    author: str
    first: str
    """The timestamp of the first message."""
    latest: str = ""
    users: list[str] = []
    replies: list[tuple[str, str]] = []
    """Who answered, and when."""


def channels_of(flows: Sequence[str]) -> dict[str, str]:
    """By flow: the name of its channel, which no other has."""
    names = {
        flow: _fit(flow.rpartition("/")[2]) or "flow" for flow in flows if not is_private(flow)
    }
    names |= dict.fromkeys((flow for flow, name in names.items() if name == UPLOADS), "uploads")
    return distinct(names) | {flow: _talk_id(flow) for flow in flows if is_private(flow)}


def distinct(names: Mapping[str, str]) -> dict[str, str]:
    """Make the *names* unique: where several keys have one name, all but the first get a number."""
    taken: dict[str, str] = {}
    for key in sorted(names):
        numbered = chain([names[key]], (f"{names[key]}-{number}" for number in count(2)))
        taken[next(name for name in numbered if name not in taken)] = key
    return {key: name for name, key in taken.items()}


def _fit(name: str) -> str:
    return _UNFIT.sub("-", name.lower()).strip("-")[: LONGEST_NAME - len("-9999")]


def _talk_id(flow: str) -> str:
    return "D" + "X".join(_UNFIT.sub("0", user.lower()).upper() for user in people_of(flow))


def as_message(message: Message, at: str, thread: Thread | None) -> dict[str, Any]:
    """A message, as in the file of its day; *thread* is the thread that it is in."""
    user = user_id(message.user_id)
    told: dict[str, Any] = {
        "type": "message",
        "user": user,
        "ts": at,
        "text": _escaped(message.content or ""),
        "client_msg_id": f"flowdock-{message.id}",
    }
    if user == INTEGRATION:
        told |= {"username": message.external_user_name or message.event, "subtype": "bot_message"}
    if message.edited_at is not None:
        told["edited"] = {"user": user, "ts": f"{_seconds(message.edited_at)}.000000"}
    if message.reactions:
        told["reactions"] = [
            {"name": emoji, "users": [user_id(one) for one in who], "count": len(who)}
            for emoji, who in message.reactions.items()
        ]
    if message.attachments:
        told["files"] = [
            _file(message, number, one) for number, one in enumerate(message.attachments)
        ]
    if thread is not None and thread.replies:
        told["thread_ts"] = thread.first
        if thread.first == at:
            told |= {
                "reply_count": len(thread.replies),
                "replies": [{"user": who, "ts": then} for who, then in thread.replies],
                "reply_users": thread.users,
                "reply_users_count": len(thread.users),
                "latest_reply": thread.latest,
            }
        else:
            told["parent_user_id"] = thread.author
    return told


def _file(message: Message, number: int, file: dict[str, Any]) -> dict[str, Any]:
    name = file.get("file_name") or "file"
    return {
        "id": file_id(file["sha256"]) if file.get("sha256") else f"F{message.id}N{number}",
        "created": _seconds(message.sent or ""),
        "name": name,
        "title": name,
        "mimetype": file.get("content_type") or "application/octet-stream",
        "filetype": name.rpartition(".")[2].lower() if "." in name else "binary",
        "size": file.get("size_bytes") or 0,
        "user": user_id(message.user_id),
        "mode": "hosted",
    }


def file_id(sha256: str) -> str:
    """The id that all files with the same contents share."""
    return f"F{sha256.upper()}"


def slack_place(file: NamedFile) -> str | None:
    """``__uploads/ID/NAME``; None for a file of a message that Slack has no place for."""
    if not file.is_plain:
        return None
    return f"{UPLOADS}/{file_id(file.sha256 or '')}/{file_name(file.file_name)}"


def as_channel(name: str, known: Mapping[str, Any], members: list[str]) -> dict[str, Any]:
    """A flow, as in ``channels.json``."""
    purpose = f"{known['name'] or known['path']} ({known['path']} at Flowdock)"
    return {
        "id": f"C{sha256(known['flow_id'].encode()).hexdigest()[:16].upper()}",
        "name": name,
        "created": _seconds(known["first_seen_at"]),
        "creator": members[0] if members else INTEGRATION,
        "is_archived": bool(known["disabled"]),
        "is_general": False,
        "members": members,
        "topic": {"value": "", "creator": "", "last_set": 0},
        "purpose": {"value": purpose, "creator": "", "last_set": 0},
    }


def as_talk(known: Mapping[str, Any]) -> dict[str, Any]:
    """A private conversation, as in ``dms.json``."""
    return {
        "id": _talk_id(known["path"]),
        "created": _seconds(known["first_seen_at"]),
        "members": [user_id(user) for user in people_of(known["path"])],
    }


def as_users(people: Iterable[Mapping[str, Any]], heard: Iterable[str]) -> list[dict[str, Any]]:
    """People, as in ``users.json``: those who are listed, and all others who were *heard*.

    Importers drop messages of anybody who is missing from it.
    """
    listed = {one["user_id"]: one for one in people}
    unlisted = {id_: _UNLISTED | {"user_id": id_} for id_ in heard if id_ not in {*listed, NOBODY}}
    everybody = listed | unlisted
    names = distinct({id_: _fit(_nick(one)) or f"user-{id_}" for id_, one in everybody.items()})
    return [_as_user(one, names[id_]) for id_, one in everybody.items()]


_UNLISTED = {"nick": None, "name": None, "email": None, "disabled": True, "last_seen_at": None}


def _nick(one: Mapping[str, Any]) -> str:
    return one["nick"] or one["name"] or f"user {one['user_id']}"


def _as_user(one: Mapping[str, Any], name: str) -> dict[str, Any]:
    nick = _nick(one)
    real_name = one["name"] or nick
    return {
        "id": user_id(one["user_id"]),
        "team_id": TEAM,
        "name": name,
        "deleted": bool(one["disabled"]),
        "real_name": real_name,
        "profile": {"real_name": real_name, "display_name": nick, "email": one["email"] or ""},
        "is_bot": False,
        "is_admin": False,
        "updated": _seconds(one["last_seen_at"]) if one["last_seen_at"] else 0,
    }


def user_id(user: str | None) -> str:
    """The Slack id of *user*; for nobody, that of integrations."""
    if user is None or user == NOBODY:
        return INTEGRATION
    return "U" + _UNFIT.sub("0", user.lower()).upper()


def places_of(crowded: Iterable[tuple[datetime, int]]) -> dict[int, int]:
    """By id: the digits below the millisecond of a message that cannot have those of its id.

    Of messages with the same time and the same digits, the one with the lowest id keeps them, and
    the others take the next that are free. So newer messages do not move older ones.
    """
    places: dict[int, int] = {}
    taken: set[tuple[datetime, int]] = set()
    for at, id_ in crowded:
        wanted = ((id_ + step) % 1000 for step in range(1000))
        place = next((one for one in wanted if (at, one) not in taken), id_ % 1000)
        taken.add((at, place))
        if place != id_ % 1000:
            places[id_] = place
    return places


def stamp(message: Message, places: Mapping[int, int]) -> str:
    """When it was sent, in seconds; the digits below its millisecond identify it (`places_of`)."""
    at = datetime.fromisoformat(message.sent or "")
    place = places.get(message.id, message.id % 1000)
    # Rounded down, as `exporting.crowded` does.
    microseconds = (at - _EPOCH) // _MILLISECOND * 1000 + place
    seconds, rest = divmod(abs(microseconds), 1_000_000)
    return f"{'-' if microseconds < 0 else ''}{seconds}.{rest:06d}"


def _seconds(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp())


def _escaped(text: str) -> str:
    """Escape *text*, so that nothing in it is markup of Slack's."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
