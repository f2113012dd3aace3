"""What was written becomes what can be found, in the background and some seconds later.

Writers note the messages that they write; here the notes are taken, the messages read as they are
now, and their texts put down for the search, all in one transaction: a kill costs nothing. It takes
no lock that a writer waits for. Messages that were there before the first note are walked from the
newest down; so are all, when their words are cut anew or in another language.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

from msgspec import Struct

from archiver.domain.query_text import VERSION
from archiver.ingest.apply import when_possible
from archiver.ingest.index_rows import Maker, batches
from archiver.store import search_queue, search_texts
from archiver.store.bulk import Key
from archiver.store.engine import (
    DatabaseError,
    Engine,
    Fault,
    Transaction,
    fault,
    transaction,
)
from archiver.store.search_queue import Lexicon

log = logging.getLogger(__name__)

BATCH_MESSAGES = 500
IDLE_SECONDS = 1.0
"""How long to wait for something to do, or for more of it."""
FEW_MESSAGES = 500
"""Fewer cost several times as much for each, and wait for others to come."""
TICK_SECONDS = 0.05
"""How often to look how the writers are doing."""


class Writers(Struct, frozen=True):
    """How those are doing who come first."""

    written: Callable[[], int]
    """How many messages they have written."""
    are_behind: Callable[[], bool]
    """Whether more has come than they could write."""


class Indexed(Struct, frozen=True):
    """What one step did."""

    messages: int
    is_done: bool
    """Nothing is left, or somebody else is at it."""


async def index_forever(engine: Engine, writers: Writers, *, language: str) -> NoReturn:
    """Keep what can be searched up to date; waits while the database is away."""
    clock = asyncio.get_running_loop().time

    async def adopt(tx: Transaction) -> None:
        await adopt_lexicon(tx, language=language)

    await when_possible(engine, adopt)
    index = partial(index_some, maker=Maker())
    while True:
        began = clock()
        step = await when_possible(engine, index)
        if step.is_done:
            await asyncio.sleep(IDLE_SECONDS)
        else:
            await _make_room(writers, after_seconds=clock() - began)


async def _make_room(writers: Writers, *, after_seconds: float) -> None:
    """Leave to *writers* what is theirs of the time, after so many seconds of work."""
    clock = asyncio.get_running_loop().time
    began, part = clock(), 0.0
    while (clock() - began) * part < after_seconds * (1 - part):
        written = writers.written()
        await asyncio.sleep(TICK_SECONDS)
        is_quiet = writers.written() == written
        part = part_of_time(is_quiet=is_quiet, is_behind=writers.are_behind())


def part_of_time(*, is_quiet: bool, is_behind: bool) -> float:
    """How much of the time to spend on it: all when nobody writes, little when writers are behind.

    What they write can wait for the search; what they do not get to write waits in memory.
    """
    if is_behind:
        return 0.1
    return 1.0 if is_quiet else 0.5


async def adopt_lexicon(tx: Transaction, *, language: str) -> None:
    """Have the texts made as this release makes them, in *language*; anew if they are not."""
    wanted = Lexicon(VERSION, language)
    made = await search_queue.lexicon_of(tx)
    if made != wanted:
        if made is not None:
            log.info("texts for the search are made anew", extra={"language": language})
        await search_queue.adopt(tx, wanted)


async def catch_up(
    engine: Engine, *, seconds: float = math.inf, on_indexed: Callable[[int], None] | None = None
) -> None:
    """Index what is not yet, for so long at most; *on_indexed* is told how many in each step."""
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    maker = Maker()
    while clock() < until:
        async with transaction(engine) as tx:
            step = await index_some(tx, maker)
        if on_indexed and step.messages:
            on_indexed(step.messages)
        if step.is_done:
            return


async def index_some(tx: Transaction, maker: Maker) -> Indexed:
    """Index some of what was noted, and, when that is little, of what is walked."""
    made = await search_queue.lexicon_of(tx)
    if made is None or made.version != VERSION or not await search_queue.begin(tx):
        return Indexed(0, is_done=True)
    keys = list(dict.fromkeys(await search_queue.take_changes(tx)))
    for batch in batches(keys, most=BATCH_MESSAGES):
        await _index(tx, batch, maker, language=made.language)
    if len(keys) >= FEW_MESSAGES:
        return Indexed(len(keys), is_done=False)
    stretch = await search_queue.next_stretch(tx, most=BATCH_MESSAGES)
    if stretch is None:
        return Indexed(len(keys), is_done=True)
    walked = [(stretch.flow_key, id_) for id_ in stretch.ids]
    await _index(tx, walked, maker, language=made.language)
    await search_queue.advance(tx, stretch)
    return Indexed(len(keys) + len(stretch.ids), is_done=False)


async def _index(tx: Transaction, keys: Sequence[Key], maker: Maker, *, language: str) -> None:
    """Put down what is searched of messages; what Postgres refuses is found without its text."""
    found = await search_texts.said(tx, keys)
    old = set(keys).difference((one.flow_key, one.id) for one in found if not one.is_searched)
    try:
        async with tx.begin_nested():
            rows = await maker.rows(tx, found, language=language)
            if old:
                again = [row for row in rows if row.key in old]
                await search_texts.replace(tx, old, again)
            await search_texts.add(tx, [row for row in rows if row.key not in old])
    except DatabaseError as error:
        if fault(error) is not Fault.ROW:
            raise
        if len(keys) > 1:
            for key in keys:
                await _index(tx, [key], maker, language=language)
            return
        log.warning("a text cannot be searched", extra={"flow": keys[0][0], "id": keys[0][1]})
        await search_texts.replace(tx, keys, [])
