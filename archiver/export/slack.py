"""A Slack export, which Slack, Mattermost, Zulip and Rocket.Chat import.

``users.json``, ``channels.json`` and ``dms.json``, and for each channel a directory with a file for
each day: messages, threads by ``thread_ts``, reactions, and what is known of files. A channel is
named after its flow; a time, which has to be unique in its channel, takes the id into its
microseconds.
"""

import re
from contextlib import ExitStack
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from archiver.export.folder import Folder, Sink
from archiver.export.messages import Message, read_message
from archiver.export.writing import Reading
from archiver.store import exporting, exporting_rows
from archiver.store.exporting_choice import Part, Subject

TEAM = "T0FLOWDOCK"
INTEGRATION = "USLACKBOT"
PRIVATE = "private/"
LONGEST_CHANNEL = 80
_UNFIT = re.compile(r"[^a-z0-9_-]+")


class _Thread(Struct):
    """What the first message of a thread tells of the others."""

    first: str
    latest: str = ""
    users: list[str] = []
    replies: list[tuple[str, str]] = []
    """Who answered, and when."""


class Slack:
    """What importers of Slack's exports read."""

    subject: Subject = "messages"
    by_month = False

    async def write_part(self, reading: Reading, part: Part, folder: Folder) -> int:
        """Write the days of one channel; what was deleted, or tells no time, is left out."""
        threads = await _threads(reading, part)
        home = channel_of(part.flow, [other.flow for other in reading.parts])
        rows, day, sink = 0, "", None
        with ExitStack() as opened:
            async with exporting_rows.lines(
                exporting_rows.conversation(reading.tx, part, reading.chosen)
            ) as told:
                async for line in told:
                    message = read_message(line)
                    rows += 1
                    reading.count(1, part)
                    if (
                        message.sent is None
                        or message.deleted_at is not None
                        or message.day is None
                    ):
                        continue
                    between = b",\n"
                    if sink is None or message.day != day:
                        opened.close()
                        day = message.day
                        sink = opened.enter_context(folder.file(f"{home}/{day}.json"))
                        opened.callback(sink.write, b"\n]\n")
                        between = b"[\n"
                    _write(sink, between, _message(message, threads))
        return rows

    async def write_summary(self, reading: Reading, folder: Folder) -> None:
        """Write who and what there is."""
        flows = [part.flow for part in reading.parts]
        people = await exporting.table(reading.tx, "users")
        members = [_user_id(one["user_id"]) for one in people]
        known = {flow["path"]: flow for flow in await exporting.table(reading.tx, "flows")}
        channels = [
            _channel(flow, channel_of(flow, flows), known[flow], members)
            for flow in flows
            if not flow.startswith(PRIVATE)
        ]
        talks = [
            {
                "id": channel_of(flow, flows),
                "created": _seconds(known[flow]["first_seen_at"]),
                "members": [_user_id(user) for user in flow.split("/")[1:]],
            }
            for flow in flows
            if flow.startswith(PRIVATE)
        ]
        for name, told in (
            ("users", [_user(one) for one in people]),
            ("channels", channels),
            ("dms", talks),
        ):
            with folder.file(f"{name}.json") as sink:
                sink.write(msgspec.json.format(msgspec.json.encode(told)) + b"\n")


def channel_of(flow: str, flows: list[str]) -> str:
    """The name of the channel that *flow* becomes: unlike that of any other of *flows*."""
    if flow.startswith(PRIVATE):
        return "D" + _UNFIT.sub("0", flow.removeprefix(PRIVATE).lower()).upper()
    name = _fit(flow.rpartition("/")[2])
    namesakes = sorted(
        one for one in flows if not one.startswith(PRIVATE) and _fit(one.rpartition("/")[2]) == name
    )
    number = namesakes.index(flow) + 1
    return name if number == 1 else f"{name}-{number}"


def _fit(name: str) -> str:
    return _UNFIT.sub("-", name.lower()).strip("-")[: LONGEST_CHANNEL - 5] or "flow"


async def _threads(reading: Reading, part: Part) -> dict[str, _Thread]:
    threads: dict[str, _Thread] = {}
    async with exporting_rows.lines(
        exporting_rows.conversation(reading.tx, part, reading.chosen, by_thread=True)
    ) as told:
        async for line in told:
            message = read_message(line)
            if message.thread_id is None or message.sent is None or message.deleted_at is not None:
                continue
            user = _user_id(message.user_id)
            known = threads.get(message.thread_id)
            if known is None:
                threads[message.thread_id] = _Thread(_stamp(message))
            else:
                known.latest = _stamp(message)
                known.replies.append((user, known.latest))
                if user not in known.users:
                    known.users.append(user)
    return threads


def _message(message: Message, threads: dict[str, _Thread]) -> dict[str, Any]:
    user = _user_id(message.user_id)
    stamp = _stamp(message)
    told: dict[str, Any] = {
        "type": "message",
        "user": user,
        "ts": stamp,
        "text": _escaped(message.content or ""),
        "client_msg_id": f"flowdock-{message.id}",
    }
    if user == INTEGRATION:
        told |= {"username": message.external_user_name or message.event, "subtype": "bot_message"}
    if message.edited_at is not None:
        told["edited"] = {"user": user, "ts": f"{_seconds(message.edited_at)}.000000"}
    if message.reactions:
        told["reactions"] = [
            {"name": emoji, "users": [_user_id(one) for one in who], "count": len(who)}
            for emoji, who in message.reactions.items()
        ]
    if message.attachments:
        told["files"] = [
            _file(message, number, one) for number, one in enumerate(message.attachments)
        ]
    thread = threads.get(message.thread_id or "")
    if thread is not None and thread.replies:
        told["thread_ts"] = thread.first
        if thread.first == stamp:
            told |= {
                "reply_count": len(thread.replies),
                "replies": [{"user": who, "ts": at} for who, at in thread.replies],
                "reply_users": thread.users,
                "reply_users_count": len(thread.users),
                "latest_reply": thread.latest,
            }
        else:
            told["parent_user_id"] = user
    return told


def _file(message: Message, number: int, file: dict[str, Any]) -> dict[str, Any]:
    name = file.get("file_name") or "file"
    return {
        "id": f"F{message.id}N{number}",
        "created": _seconds(message.sent or ""),
        "name": name,
        "title": name,
        "mimetype": file.get("content_type") or "application/octet-stream",
        "filetype": name.rpartition(".")[2].lower() if "." in name else "binary",
        "size": file.get("size_bytes") or 0,
        "user": _user_id(message.user_id),
        "mode": "hosted",
    }


def _channel(flow: str, name: str, known: dict[str, Any], members: list[str]) -> dict[str, Any]:
    purpose = {
        "value": f"{known['name'] or flow} ({flow} at Flowdock)",
        "creator": "",
        "last_set": 0,
    }
    return {
        "id": f"C{name.upper().replace('-', '0')}",
        "name": name,
        "created": _seconds(known["first_seen_at"]),
        "creator": members[0] if members else INTEGRATION,
        "is_archived": bool(known["disabled"]),
        "is_general": False,
        "members": members,
        "topic": {"value": "", "creator": "", "last_set": 0},
        "purpose": purpose,
    }


def _user(one: dict[str, Any]) -> dict[str, Any]:
    nick = one["nick"] or one["name"] or one["user_id"]
    name = one["name"] or nick
    return {
        "id": _user_id(one["user_id"]),
        "team_id": TEAM,
        "name": _fit(nick),
        "deleted": bool(one["disabled"]),
        "real_name": name,
        "profile": {"real_name": name, "display_name": nick, "email": one["email"] or ""},
        "is_bot": False,
        "is_admin": False,
        "updated": _seconds(one["last_seen_at"]),
    }


def _user_id(user: str | None) -> str:
    return INTEGRATION if user in {None, "0"} else "U" + _UNFIT.sub("0", str(user).lower()).upper()


def _stamp(message: Message) -> str:
    """When it was sent, in seconds; the microseconds below its millisecond are of its id."""
    at = datetime.fromisoformat(message.sent or "")
    milliseconds = round(at.timestamp() * 1000)
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}{message.id % 1000:03d}"


def _seconds(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp())


def _escaped(text: str) -> str:
    """*text*, in which nothing is one of Slack's own marks."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _write(sink: Sink, between: bytes, told: dict[str, Any]) -> None:
    sink.write(between + msgspec.json.encode(told))
