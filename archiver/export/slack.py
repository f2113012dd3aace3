"""A Slack export, which Slack, Mattermost, Zulip and Rocket.Chat import.

It has ``users.json``, ``channels.json`` and ``dms.json``, and for each channel a directory with a
file for each day: messages, threads by ``thread_ts``, reactions, and what is known of files. The
contents of files are where Mattermost looks for them; the other importers take none from a zip.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import msgspec

from archiver.domain.model import is_private
from archiver.export.folder import Shelf, Sink
from archiver.export.messages import Message, one_by_one, read_messages
from archiver.export.reading import Reading
from archiver.export.slack_objects import (
    Thread,
    as_channel,
    as_message,
    as_talk,
    as_users,
    channels_of,
    places_of,
    slack_place,
    stamp,
    user_id,
)
from archiver.store import exporting, exporting_rows
from archiver.store.exporting import Table
from archiver.store.exporting_choice import Part, Subject


class Slack:
    """Messages as importers of Slack's exports read them."""

    subject: Subject = "messages"
    by_month = False
    tables: tuple[Table, ...] = ("messages",)
    omits = "messages that are deleted, have no time, or whose text is not known"
    place = staticmethod(slack_place)

    async def write_part(self, reading: Reading, part: Part, shelf: Shelf) -> int:
        """Write the days of one channel, without messages that Slack has no place for."""
        places = places_of(await exporting.crowded(reading.tx, part.flow))
        threads = await _threads(reading, part, places)
        home = channels_of(reading.chosen.flows)[part.flow]
        rows, day, sink = 0, "", None
        with ExitStack() as opened:
            async with read_messages(
                exporting_rows.conversation(reading.tx, part, reading.chosen)
            ) as told:
                async for message in one_by_one(told):
                    rows += 1
                    reading.tally.count(1, part)
                    if message.day is None or not _is_told(message):
                        continue
                    between = b",\n"
                    if sink is None or message.day != day:
                        opened.close()
                        day = message.day
                        sink = opened.enter_context(shelf.file(f"{home}/{day}.json"))
                        opened.callback(sink.write, b"\n]\n")
                        between = b"[\n"
                    at, thread = stamp(message, places), threads.get(message.thread_id or "")
                    _write(sink, between, as_message(message, at, thread))
        return rows

    async def write_summary(self, reading: Reading, shelf: Shelf) -> None:
        """Write the lists of users, channels and direct messages."""
        flows = [part.flow for part in reading.parts]
        names = channels_of(reading.chosen.flows)
        known = {flow["path"]: flow for flow in await exporting.table(reading.tx, "flows")}
        listed = await exporting.table(reading.tx, "users")
        users = as_users(listed, await exporting.participants(reading.tx, reading.chosen))
        members = [one["id"] for one in users]
        channels = [
            as_channel(names[flow], known[flow], members) for flow in flows if not is_private(flow)
        ]
        talks = [as_talk(known[flow]) for flow in flows if is_private(flow)]
        for name, told in (("users", users), ("channels", channels), ("dms", talks)):
            with shelf.file(f"{name}.json") as sink:
                sink.write(msgspec.json.format(msgspec.json.encode(told)) + b"\n")


def _is_told(message: Message) -> bool:
    """Tell whether Slack has a place for *message*."""
    is_known = message.sent is not None and message.content is not None
    return is_known and message.deleted_at is None


async def _threads(reading: Reading, part: Part, places: Mapping[int, int]) -> dict[str, Thread]:
    threads: dict[str, Thread] = {}
    async with read_messages(
        exporting_rows.conversation(reading.tx, part, reading.chosen, by_thread=True)
    ) as told:
        async for message in one_by_one(told):
            if message.thread_id is None or not _is_told(message):
                continue
            user = user_id(message.user_id)
            known = threads.get(message.thread_id)
            if known is None:
                threads[message.thread_id] = Thread(user, stamp(message, places))
            else:
                known.latest = stamp(message, places)
                known.replies.append((user, known.latest))
                if user not in known.users:
                    known.users.append(user)
    return threads


def _write(sink: Sink, between: bytes, told: dict[str, Any]) -> None:
    sink.write(between + msgspec.json.encode(told))
