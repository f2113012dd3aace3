"""What was written becomes what can be found, in the background and some seconds later.

Writers note the messages that they write; here the notes are taken, the messages read as they are
now, and their texts put down for the search, all in one transaction: a kill costs nothing. While
nobody writes, a second session puts down half of the texts; it commits first, so that of a kill
there remains what will be done again. Neither takes a lock that a writer waits for.

Messages that were there before the first note are walked from the newest down; so are all, when
their words are cut anew or in another language.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

from msgspec import Struct

from archiver.domain.query_text import VERSION
from archiver.ingest.apply import when_possible
from archiver.ingest.index_rows import Maker, batches
from archiver.store import search_queue, search_texts
from archiver.store.bulk import Key
from archiver.store.connection import Engine, Transaction
from archiver.store.engine import DatabaseError, Fault, connections_of, fault, transaction
from archiver.store.search_queue import Lexicon

log = logging.getLogger(__name__)

BATCH_MESSAGES = 500
MOST_BYTES = 300_000
"""Of texts in a batch of several messages: each may take a hundred for a while."""
ENOUGH_CONNECTIONS = 4
"""Of the engine's, to use two of them: who writes never waits for one."""
STEP_MESSAGES = 2000
"""To index at least in one transaction, if there are so many."""
LARGE_STEP_MESSAGES = 8000
"""While nobody writes."""
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
    is_elsewhere: bool = False
    """Somebody else is at it."""


class Lane(Struct, frozen=True):
    """A session that texts are put down by, and what it has learned of them."""

    tx: Transaction
    maker: Maker


async def index_forever(engine: Engine, writers: Writers, *, language: str) -> NoReturn:
    """Keep what can be searched up to date; waits while the database is away."""
    clock = asyncio.get_running_loop().time

    async def adopt(tx: Transaction) -> None:
        await adopt_lexicon(tx, language=language)

    await when_possible(engine, adopt)
    makers = (Maker(), Maker())
    alone = index = partial(index_some, maker=makers[0])
    has_two = connections_of(engine) >= ENOUGH_CONNECTIONS
    together = partial(index_side_by_side, engine=engine, makers=makers) if has_two else alone
    while True:
        began, written = clock(), writers.written()
        step = await when_possible(engine, index)
        if step.is_done:
            await asyncio.sleep(IDLE_SECONDS)
            index = alone
            continue
        is_quiet = writers.written() == written and not writers.are_behind()
        if not is_quiet:
            is_quiet = await _make_room(writers, after_seconds=clock() - began)
        index = together if is_quiet else alone


async def _make_room(writers: Writers, *, after_seconds: float) -> bool:
    """Leave to *writers* what is theirs of the time, after so many seconds of work.

    Tells whether nobody writes any more.
    """
    clock = asyncio.get_running_loop().time
    began, part = clock(), 0.0
    while (clock() - began) * part < after_seconds * (1 - part):
        written = writers.written()
        await asyncio.sleep(TICK_SECONDS)
        is_quiet = writers.written() == written
        part = part_of_time(is_quiet=is_quiet, is_behind=writers.are_behind())
    return part == 1


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
    made = await search_queue.adopt(tx, wanted)
    if made not in {None, wanted}:
        log.info("texts for the search are made anew", extra={"language": language})


async def catch_up(engine: Engine, *, on_indexed: Callable[[int], None] | None = None) -> bool:
    """Index all that is not yet, or leave it to whoever is at it, as a daemon that runs.

    *on_indexed* is told how many messages in each step. Tells whether it was left to another.
    """
    makers = (Maker(), Maker())
    step = None
    while step is None or not step.is_done:
        async with transaction(engine) as tx:
            if step is None:
                step = await index_some(tx, makers[0])
            else:
                step = await index_side_by_side(tx, engine, makers)
        if on_indexed and step.messages:
            on_indexed(step.messages)
    return step.is_elsewhere


async def index_some(tx: Transaction, maker: Maker) -> Indexed:
    """Index some of what was noted, and, when that is little, of what is walked."""
    return await _step([Lane(tx, maker)], messages=STEP_MESSAGES)


async def index_side_by_side(
    tx: Transaction, engine: Engine, makers: tuple[Maker, Maker]
) -> Indexed:
    """`index_some`, more of it and by another session too, which commits first."""
    async with transaction(engine) as other:
        lanes = [Lane(tx, makers[0]), Lane(other, makers[1])]
        return await _step(lanes, messages=LARGE_STEP_MESSAGES)


async def _step(lanes: Sequence[Lane], *, messages: int) -> Indexed:
    """Index so many messages, or somewhat more; the first of *lanes* takes them."""
    tx = lanes[0].tx
    if not await search_queue.begin(*(lane.tx for lane in lanes)):
        return Indexed(0, is_done=True, is_elsewhere=True)
    made = await search_queue.lexicon_of(tx)  # from now on nobody changes it
    if made is None or made.version != VERSION:
        return Indexed(0, is_done=True)
    keys = list(dict.fromkeys(await search_queue.take_changes(tx, enough=messages)))
    await _index_all(lanes, keys, language=made.language)
    if len(keys) >= FEW_MESSAGES:
        return Indexed(len(keys), is_done=False)
    portion = await search_queue.next_portion(tx, most=messages)
    if portion is None:
        return Indexed(len(keys), is_done=True)
    # What was noted as well is done; a second session would wait for the first, and that for it.
    noted = set(keys)
    walked = [key for id_ in portion.ids if (key := (portion.flow_key, id_)) not in noted]
    await _index_all(lanes, walked, language=made.language)
    await search_queue.advance(tx, portion)
    return Indexed(len(keys) + len(walked), is_done=False)


async def _index_all(lanes: Sequence[Lane], keys: Sequence[Key], *, language: str) -> None:
    """Index messages; each of *lanes* goes on with the next batch when it is done with one."""
    rest = batches(keys, most=BATCH_MESSAGES)
    failed: list[Exception] = []

    async def work(lane: Lane) -> None:
        try:
            for batch in rest:
                await _index(lane, batch, language=language)
                if failed:
                    return
        except Exception as error:  # noqa: BLE001 - all of them are raised below
            # When the other is done: to cut off what it does would cost its connection; and a
            # group that fails inside a transaction may end it as cancelled (Python 3.11).
            failed.append(error)

    async with asyncio.TaskGroup() as group:
        for lane in lanes:
            group.create_task(work(lane))
    if failed:
        raise failed[0]


async def _index(lane: Lane, keys: Sequence[Key], *, language: str) -> None:
    """Put down what is searched of messages; what Postgres refuses is found without its text."""
    tx = lane.tx
    if len(keys) > 1 and await search_texts.size_bytes(tx, keys) > MOST_BYTES:
        half = len(keys) // 2
        await _index(lane, keys[:half], language=language)
        await _index(lane, keys[half:], language=language)
        return
    found = await search_texts.said(tx, keys)
    old = set(keys).difference((one.flow_key, one.id) for one in found if not one.is_searched)
    try:
        async with tx.begin_nested():
            rows = await lane.maker.rows(tx, found, language=language)
            if old:
                again = [row for row in rows if row.key in old]
                await search_texts.replace(tx, old, again)
            await search_texts.add(tx, [row for row in rows if row.key not in old])
    except DatabaseError as error:
        if fault(error) is not Fault.ROW:
            raise
        if len(keys) > 1:
            for key in keys:
                await _index(lane, [key], language=language)
            return
        log.warning("a text cannot be searched", extra={"flow": keys[0][0], "id": keys[0][1]})
        await search_texts.replace(tx, keys, [])
