"""Turning messages into rows of `texts`, the search index: their texts, and their marks.

A mark is a lexeme that stands for something else to search by: the flow, the sender, a tag.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import TypeVar

from msgspec import Struct

from archiver.domain import query_marks as marks
from archiver.domain.model import Message
from archiver.domain.query_text import LONGEST_TEXT, has_link, is_plain, with_names
from archiver.domain.tags import is_receipt, visible
from archiver.ingest.vocabulary import LONGEST_KEPT, Vocabulary
from archiver.store import search_texts
from archiver.store.connection import Transaction
from archiver.store.search_texts import Said, Searched

T = TypeVar("T")

MOST_MARKS = 10_000
"""How many marks of one kind to cache."""
AT_ONCE = 100
"""How many messages to process before other tasks of this process have a turn."""


def are_found_alike(before: Message, after: Message) -> bool:
    """Tell whether a message, whose history is the same, has the same rows *before* and *after*."""
    return _found_by(before) == _found_by(after)


def _found_by(message: Message) -> tuple[object, ...]:
    """Everything in a message that its rows are made from: the same as in `Said`."""
    return (
        message.content,
        visible(message.tags),
        message.event,
        message.user,
        message.sent_at,
        message.thread,
        message.edits > 0,
        message.deleted_at is None,
        message.attachments,
        bool(message.reactions),
        message.external_user_name,
    )


class Cut(Struct, frozen=True):
    """A text of a message, cut into pieces."""

    message: Said
    ordinal: int
    is_plain: bool
    pieces: Sequence[str]
    marks: set[bytes]


class Maker:
    """Makes rows; reuse it for many messages, since it caches the lexemes of words."""

    def __init__(self) -> None:
        self._plain = Vocabulary(is_plain=True)
        self._foreign = Vocabulary(is_plain=False)

    def _vocabulary(self, *, is_plain: bool) -> Vocabulary:
        return self._plain if is_plain else self._foreign

    async def rows(
        self, tx: Transaction, messages: Iterable[Said], *, language: str
    ) -> list[Searched]:
        """The rows by which *messages* are found.

        Raises:
            psycopg.DataError: a text has more lexemes than Postgres takes.
        """
        texts: list[Cut] = []
        for some in batches(messages, most=AT_ONCE):
            texts += [text for message in some for text in _texts(message)]
            await asyncio.sleep(0)
        for plain in (True, False):
            pieces = set().union(*(text.pieces for text in texts if text.is_plain is plain))
            await self._vocabulary(is_plain=plain).learn(tx, pieces, language=language)
        rows: list[Searched] = []
        for cuts in batches(texts, most=AT_ONCE):
            rows += map(self._row, cuts)
            await asyncio.sleep(0)
        self._plain.forget_rare()
        self._foreign.forget_rare()
        return rows

    def _row(self, text: Cut) -> Searched:
        vocabulary = self._vocabulary(is_plain=text.is_plain)
        spaced, found = vocabulary.form(text.pieces)
        return search_texts.searched(text.message, text.ordinal, spaced, found | text.marks)


def _texts(message: Said) -> Iterator[Cut]:
    marked = _marks(message)
    # A deleted message has no content, so it is found by its last one.
    now = message.content or message.last
    if message.file_names:
        now = with_names(now, message.file_names)
    yield _cut(message, 0, now, marked)
    earlier = [text for text in message.earlier if text != message.content]
    for ordinal, text in enumerate(earlier, start=1):
        yield _cut(message, ordinal, text, marked)


def _cut(message: Said, ordinal: int, text: str, marked: set[bytes]) -> Cut:
    searched = text[:LONGEST_TEXT]
    found = marked | {_LINK} if has_link(text) else marked
    return Cut(message, ordinal, is_plain(searched), searched.split(), found)


def _marks(message: Said) -> set[bytes]:
    found = {_flow(message.flow_key), _event(message.event)}
    if message.tags:
        found.update(_tag(tag) for tag in message.tags if not is_receipt(tag))
    if message.user_id:
        found.add(_user(message.user_id))
    if message.external_user_name:
        found.add(_stranger(message.external_user_name))
    if message.thread_id:
        found |= {_thread(message.thread_id), _THREAD}
    if message.has_files:
        found.add(_FILE)
    if message.is_edited:
        found.add(_EDIT)
    if message.has_reactions:
        found.add(_REACTION)
    if message.is_deleted:
        found.add(_DELETED)
    return found


def _encoded(lexemes: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(map(str.encode, lexemes))


def _kept(mark: Callable[[T], str]) -> Callable[[T], bytes]:
    return lru_cache(MOST_MARKS)(lambda it: mark(it).encode())


def _kept_if_short(mark: Callable[[str], str]) -> Callable[[str], bytes]:
    """The same as `_kept`, but for names that others may choose as long as they like."""
    kept = _kept(mark)
    return lambda it: kept(it) if len(it) <= LONGEST_KEPT else mark(it).encode()


_flow = _kept(marks.of_flow)
_event = _kept(marks.of_event)
_tag = _kept_if_short(marks.of_tag)
_user = _kept(marks.of_user)
_stranger = _kept_if_short(marks.of_stranger)
_thread = _kept(marks.of_thread)

_FILE, _LINK, _EDIT, _REACTION, _THREAD, _DELETED = _encoded(
    (
        *(marks.HAS_FILE, marks.HAS_LINK, marks.HAS_EDIT, marks.HAS_REACTION),
        *(marks.HAS_THREAD, marks.IS_DELETED),
    )
)


def batches(all_: Iterable[T], *, most: int) -> Iterator[list[T]]:
    """Split *all_* into batches of at most *most*."""
    rest = iter(all_)
    while batch := list(islice(rest, most)):
        yield batch
