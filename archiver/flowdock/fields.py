"""Reads single fields of events: any JSON value becomes a typed value, or None.

Nothing here raises, and nothing is guessed: a value of the wrong shape counts as absent.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from archiver.domain.model import (
    LARGEST_ID,
    Attachment,
    EventId,
    FlowId,
    Json,
    Thread,
    ThreadId,
    UserId,
)
from archiver.flowdock.envelope import EXACT_IN_SECONDS, MAX_NAME_LENGTH, MAX_TAG_LENGTH

MAX_COUNT = 2**31 - 1
MAX_FILE_BYTES = 2**63 - 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PARENT = re.compile(r"influx:([0-9]{1,19})")


def read_id(value: Any) -> EventId | None:
    """Return an event's or message's id."""
    fits = type(value) is int and 0 < value <= LARGEST_ID
    return value if fits else None


def read_user(value: Any) -> UserId | None:
    """Return a user's id: text on the wire, a number in old answers and in ``flow-add``."""
    if type(value) is int and -LARGEST_ID <= value <= LARGEST_ID:
        value = str(value)
    fits = type(value) is str and 0 < len(value) <= MAX_NAME_LENGTH
    return value if fits else None


def read_flow(value: Any) -> FlowId | None:
    """Return a flow's id."""
    fits = type(value) is str and 0 < len(value) <= MAX_NAME_LENGTH
    return value if fits else None


def read_thread_id(value: Any) -> ThreadId | None:
    """Return a thread's id."""
    fits = type(value) is str and 0 < len(value) <= MAX_NAME_LENGTH
    return value if fits else None


def read_name(value: Any) -> str | None:
    """Return a short text that is not empty."""
    if isinstance(value, str) and 0 < len(value) <= MAX_NAME_LENGTH:
        return value
    return None


def read_text(value: Any) -> str | None:
    """Return a text."""
    return value if isinstance(value, str) else None


def read_moment(value: Any) -> datetime | None:
    """Return the time of milliseconds since 1970 or ISO 8601 text; UTC unless it has an offset.

    Text of digits alone is not a time: milliseconds as text would give a day centuries ago.
    """
    try:
        if type(value) is int:
            if 0 <= value < EXACT_IN_SECONDS:
                return datetime.fromtimestamp(value / 1000, UTC)
            return _EPOCH + timedelta(milliseconds=value)
        if isinstance(value, str) and len(value) <= MAX_NAME_LENGTH and not value.isdigit():
            moment = datetime.fromisoformat(value)
            return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        if isinstance(value, float):
            return _EPOCH + timedelta(milliseconds=value)
    except (ValueError, OverflowError):
        pass
    return None


def read_tags(value: Any) -> tuple[str, ...]:
    """Return tags in order, each in its first spelling.

    *value* is a list, in which numbers are tags too, or text separated by commas. What is too long
    for the index is not a tag: otherwise a change that waits for its message would cause the
    message to be rejected.
    """
    if not value:
        return ()
    if isinstance(value, str):
        return _distinct(part.strip() for part in value.split(","))
    if not isinstance(value, list):
        return ()
    try:
        folded = {tag.casefold() for tag in value}
        is_short = max(map(len, value)) <= MAX_TAG_LENGTH
        if is_short and "" not in folded and len(folded) == len(value):
            return tuple(value)
    except AttributeError:
        pass
    return _distinct(str(tag) if type(tag) is int else tag for tag in value)


def are_tags(value: Any) -> bool:
    """Tell whether *value* has the form of tags (or is None), even if some of them are too long."""
    if isinstance(value, list):
        return all(type(tag) in {str, int} for tag in value)
    return value is None or isinstance(value, str)


def _distinct(tags: Iterable[Any]) -> tuple[str, ...]:
    spellings: dict[str, str] = {}
    for tag in tags:
        if isinstance(tag, str) and 0 < len(tag) <= MAX_TAG_LENGTH:
            spellings.setdefault(tag.casefold(), tag)
    return tuple(spellings.values())


def parent_of(tags: tuple[str, ...]) -> EventId | None:
    """Return the message that a comment belongs to, from its tag ``influx:ID`` (message types)."""
    for tag in tags:
        if tag.startswith("influx:") and (match := _PARENT.fullmatch(tag)):
            return read_id(int(match[1]))
    return None


def read_attachments(value: Any, kind: str, content: Any) -> tuple[Attachment, ...]:
    """Return the attachments in the list *value*; for a ``file`` without any, its own content."""
    listed = value if isinstance(value, list) else []
    if not listed:
        if kind != "file" or not isinstance(content, dict):
            return ()
        listed = [content]
    return tuple(_attachment(item) for item in listed if isinstance(item, dict))


def _attachment(item: dict[str, Any]) -> Attachment:
    size = item.get("file_size")
    return Attachment(
        file_name=read_text(item.get("file_name")),
        content_type=read_text(item.get("content_type")),
        size_bytes=size if type(size) is int and 0 <= size <= MAX_FILE_BYTES else None,
        path=read_text(item.get("path")),
    )


def read_reactions(value: Any) -> tuple[tuple[str, tuple[UserId, ...]], ...]:
    """Return who reacted with what, from ``{emoji: [user, …]}``, ordered by emoji."""
    if not isinstance(value, dict):
        return ()
    reactions = []
    for emoji, users in sorted(value.items()):
        if isinstance(users, list):
            known = dict.fromkeys(user for user in map(read_user, users) if user is not None)
            if known and emoji:
                reactions.append((emoji, tuple(known)))
    return tuple(reactions)


def read_thread(value: Any, thread_id: ThreadId | None) -> Thread | None:
    """Return the thread that *value* shows; None if neither it nor *thread_id* gives an id."""
    if not isinstance(value, dict):
        return None
    known_id = read_thread_id(value.get("id")) or thread_id
    if known_id is None:
        return None
    return Thread(
        id=known_id,
        title=read_text(value.get("title")),
        status=_named(value.get("status"), "value"),
        external_url=read_text(value.get("external_url")),
        application=_application(value.get("source")),
        activities=_count(value.get("activities")),
        internal_comments=_count(value.get("internal_comments")),
        external_comments=_count(value.get("external_comments")),
        updated_at=read_moment(value.get("updated_at")),
        detail=value,
    )


def _application(source: Json) -> str | None:
    """Return the name of the source's application: text in the documentation, an object in fact."""
    return _named(source.get("application"), "name") if isinstance(source, dict) else None


def _named(value: Json, name: str) -> str | None:
    """Return *value*, or what it holds under *name*, when it is text."""
    return read_text(value.get(name) if isinstance(value, dict) else value)


def _count(value: Json) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_COUNT else None
