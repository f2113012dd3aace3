"""Messages as Postgres returns them to the formats for people; texts made safe to display."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
from msgspec import Struct

from archiver.domain.model import NOBODY
from archiver.store.exporting_choice import UNDATED
from archiver.store.exporting_rows import Block

# ASCII control characters, except for tabs and line ends, are shown as their pictures. Others that
# control a terminal, or change the direction of the text after them, become U+FFFD.
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if code not in {9, 10, 13}}
_TURNING = (*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_PICTURES |= {127: "\u2421"} | dict.fromkeys(_TURNING, "\ufffd")
_UNSEEN = re.compile(f"[{re.escape(''.join(map(chr, _PICTURES)))}]")
ORDINARY = frozenset({"message", "comment"})
"""Kinds of messages that are not shown beside the sender."""
UNKNOWN = "changed before the archive saw it"
"""Shown where nobody knows what a message said at the time of the export."""
LINE_ENDS = re.compile(r"\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")


class Message(Struct, kw_only=True, gc=False):
    """A message, with the columns of ``archive.messages`` that are shown.

    Python's cyclic garbage collector ignores it: values from JSON have no reference cycles.
    """

    id: int
    event: str
    user_id: str | None
    nick: str | None
    sent: str | None
    content: str | None
    """None when nobody knows what it said at the time that the export shows."""
    tags: list[str]
    thread_id: str | None
    edited_at: str | None
    deleted_at: str | None
    attachments: list[dict[str, Any]] | None
    reactions: dict[str, list[str]] | None
    app: str | None
    external_user_name: str | None
    day: str | None = None
    """This field and those below are present only in an `exporting_rows.conversation`."""
    thread_size: int | None = None
    thread_day: str | None = None
    thread_title: str | None = None
    about: str | None = None
    """For a comment: the title of what it is on. For an activity or a discussion: its thread's."""
    history: list[dict[str, Any]] | None = None

    @property
    def sender(self) -> str:
        """The name that is shown as its sender."""
        person = self.user_id if self.user_id not in {None, NOBODY} else None
        known = self.nick or self.external_user_name
        return known or (f"user {person}" if person else self.app or "integration")

    @property
    def kind(self) -> str:
        """Its kind, as it is shown; empty for chat and comments."""
        return "" if self.event in ORDINARY else self.event

    @property
    def month(self) -> str:
        """The month it was sent in."""
        return self.day[:7] if self.day else UNDATED


_DECODER = msgspec.json.Decoder(Message)


@asynccontextmanager
async def read_messages(
    blocks: AsyncGenerator[Block],
) -> AsyncIterator[AsyncIterator[list[Message]]]:
    """Decode *blocks* of JSON lines, each to a list of messages."""
    async with aclosing(blocks):
        yield (_DECODER.decode_lines(block.data) async for block in blocks)


async def one_by_one(told: AsyncIterator[list[Message]]) -> AsyncIterator[Message]:
    """Yield the messages of *told* singly."""
    async for messages in told:
        for message in messages:
            yield message


def visible(text: str) -> str:
    """Replace whatever in *text* controls a terminal or the direction of text."""
    # Printable text is harmless, and this check takes a third of the time.
    if text.isprintable() or not _UNSEEN.search(text):
        return text
    return text.translate(_PICTURES)


def in_line(text: str) -> str:
    """Make *text* `visible` and keep it on one line, as all names need, since they are foreign."""
    if text.isprintable():
        return text
    return visible(LINE_ENDS.sub("⏎", text).replace("\t", "␉"))


def minute(at: str) -> str:
    """A timestamp of JSON, shortened to the minute: ``2024-05-31 12:34``."""
    return at[:16].replace("T", " ")
