"""A message as Postgres tells it to the formats that people read, and its texts made visible."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
from msgspec import Struct

from archiver.store.exporting_choice import UNDATED
from archiver.store.exporting_rows import Block

# What text must not hold is shown as its picture; others control a terminal, or turn the direction
# of what comes after them.
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if code not in {9, 10, 13}}
_TURNING = (*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_PICTURES |= {127: "\u2421"} | dict.fromkeys(_TURNING, "\ufffd")
_UNSEEN = re.compile(f"[{re.escape(''.join(map(chr, _PICTURES)))}]")
ORDINARY = frozenset({"message", "comment"})
"""Kinds of messages of which nothing is said."""
UNKNOWN = "changed before the archive saw it"
"""Instead of what a message said at a time of which nobody knows that."""
LINE_ENDS = re.compile(r"\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")


class Message(Struct, kw_only=True, gc=False):
    """A message, in the columns of ``archive.messages`` that are shown.

    What JSON says has no circles, which Python would look for in each.
    """

    id: int
    event: str
    user_id: str | None
    nick: str | None
    sent: str | None
    content: str | None
    """None when nobody knows what it said at the time that an export is of."""
    tags: list[str]
    thread_id: str | None
    edited_at: str | None
    deleted_at: str | None
    attachments: list[dict[str, Any]] | None
    reactions: dict[str, list[str]] | None
    app: str | None
    external_user_name: str | None
    day: str | None = None
    """This and what follows is told in a conversation only."""
    thread_size: int | None = None
    thread_day: str | None = None
    thread_title: str | None = None
    about: str | None = None
    """The title of what a comment is on, or of the item in another service that it tells of."""
    history: list[dict[str, Any]] | None = None

    @property
    def sender(self) -> str:
        """Who is said to have sent it."""
        person = self.user_id if self.user_id not in {None, "0"} else None
        known = self.nick or self.external_user_name
        return known or (f"user {person}" if person else self.app or "integration")

    @property
    def kind(self) -> str:
        """What it is, if it is not what somebody said."""
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
    """The messages of *blocks* of JSON lines, some at a time."""
    async with aclosing(blocks):
        yield (_DECODER.decode_lines(block.data) async for block in blocks)


async def one_by_one(told: AsyncIterator[list[Message]]) -> AsyncIterator[Message]:
    """All messages of *told*."""
    async for messages in told:
        for message in messages:
            yield message


def visible(text: str) -> str:
    """*text*, in which nothing controls what shows it."""
    # Whatever is printable is harmless, and found to be so in a third of the time.
    if text.isprintable() or not _UNSEEN.search(text):
        return text
    return text.translate(_PICTURES)


def in_line(text: str) -> str:
    """*text*, visible and on one line: how names of all kinds are shown, whoever gave them."""
    if text.isprintable():
        return text
    return visible(LINE_ENDS.sub("⏎", text).replace("\t", "␉"))


def minute(at: str) -> str:
    """A time of JSON as people read it: ``2024-05-31 12:34``."""
    return at[:16].replace("T", " ")
