"""Keeping the search index up to date, in the background and some seconds late.

Writers note the keys of the messages that they write. Here the notes are taken, the messages are
read as they are now, and their texts are indexed, all in one transaction, so a kill costs nothing.
While nobody writes, a second session indexes half of the texts. It commits first, so that after a
kill between the two commits the notes remain, and the work is repeated. Neither session takes a
lock that a writer waits for.

Messages older than the first note are indexed from the newest down. So are all messages after a
change of the language, or of the way in which texts are split into words.
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
"""The texts in a batch of several messages: each byte may take a hundred of memory for a while."""
ENOUGH_CONNECTIONS = 4
"""How many connections the engine must have to use two here: writers must never wait for one."""
STEP_MESSAGES = 2000
"""How many messages to index in one transaction, if there are so many."""
LARGE_STEP_MESSAGES = 8000
"""The same, while nobody writes."""
IDLE_SECONDS = 1.0
"""How long to wait when little or nothing is left to index."""
FEW_MESSAGES = 500
"""After a step with fewer noted messages, wait for more, unless older messages are left to index.

Small steps cost several times as much per message."""
TICK_SECONDS = 0.05
"""How often to check what the writers are doing."""


class Writers(Struct, frozen=True):
    """The state of the writers of this process, which have priority over the indexing."""

    written: Callable[[], int]
    """How many messages they have written."""
    are_behind: Callable[[], bool]
    """Whether more has arrived than they could write."""


class Indexed(Struct, frozen=True):
    """What one step did."""

    messages: int
    is_done: bool
    """Whether nothing is left, or another process is indexing."""
    is_elsewhere: bool = False
    """Whether another process is indexing."""


class Lane(Struct, frozen=True):
    """A session that writes to the index, and the cache of its words."""

    tx: Transaction
    maker: Maker


async def index_forever(engine: Engine, writers: Writers, *, language: str) -> NoReturn:
    """Keep the search index up to date; waits while the database is away."""
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
    """Pause after so many seconds of work, to leave *writers* their share of the time.

    Returns whether they have stopped writing.
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
    """The share of the time to spend on indexing: all while nobody writes, little if they lag.

    What is written can wait to be indexed, but what waits to be written takes memory.
    """
    if is_behind:
        return 0.1
    return 1.0 if is_quiet else 0.5


async def adopt_lexicon(tx: Transaction, *, language: str) -> None:
    """Have texts indexed by this release's rules, in *language*; all again if these are new."""
    wanted = Lexicon(VERSION, language)
    made = await search_queue.adopt(tx, wanted)
    if made not in {None, wanted}:
        log.info("making all messages searchable again", extra={"language": language})


async def catch_up(engine: Engine, *, on_indexed: Callable[[int], None] | None = None) -> bool:
    """Index all that is not indexed, unless another process, such as a daemon, does so already.

    *on_indexed* is called with the number of messages of each step. Returns whether it was left to
    another process.
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
    """Index some of the noted messages, and, if these are few, some of the older ones."""
    return await _step([Lane(tx, maker)], messages=STEP_MESSAGES)


async def index_side_by_side(
    tx: Transaction, engine: Engine, makers: tuple[Maker, Maker]
) -> Indexed:
    """The same as `index_some`, but more, and with a second session, which commits first."""
    async with transaction(engine) as other:
        lanes = [Lane(tx, makers[0]), Lane(other, makers[1])]
        return await _step(lanes, messages=LARGE_STEP_MESSAGES)


async def _step(lanes: Sequence[Lane], *, messages: int) -> Indexed:
    """Index so many messages, or somewhat more; the first of *lanes* takes the notes."""
    tx = lanes[0].tx
    if not await search_queue.begin(*(lane.tx for lane in lanes)):
        return Indexed(0, is_done=True, is_elsewhere=True)
    made = await search_queue.lexicon_of(tx)  # it cannot change until the transaction ends
    if made is None or made.version != VERSION:
        return Indexed(0, is_done=True)
    keys = list(dict.fromkeys(await search_queue.take_changes(tx, enough=messages)))
    await _index_all(lanes, keys, language=made.language)
    if len(keys) >= FEW_MESSAGES:
        return Indexed(len(keys), is_done=False)
    portion = await search_queue.next_portion(tx, most=messages)
    if portion is None:
        return Indexed(len(keys), is_done=True)
    # Leave out what was just indexed: if both lanes wrote the same message, each would wait for the
    # other, and Postgres would not see the deadlock.
    noted = set(keys)
    walked = [key for id_ in portion.ids if (key := (portion.flow_key, id_)) not in noted]
    await _index_all(lanes, walked, language=made.language)
    await search_queue.advance(tx, portion)
    return Indexed(len(keys) + len(walked), is_done=False)


async def _index_all(lanes: Sequence[Lane], keys: Sequence[Key], *, language: str) -> None:
    """Index messages in batches, shared out among *lanes*."""
    rest = batches(keys, most=BATCH_MESSAGES)
    failed: list[Exception] = []

    async def work(lane: Lane) -> None:
        try:
            for batch in rest:
                await _index(lane, batch, language=language)
                if failed:
                    return
        except Exception as error:  # noqa: BLE001 - all of them are raised below
            # Raised when the other lane is done, since cancelling that would cost its connection.
            # Besides, if a task group fails inside a transaction, the transaction may see a
            # cancellation instead of the error (Python 3.11).
            failed.append(error)

    async with asyncio.TaskGroup() as group:
        for lane in lanes:
            group.create_task(work(lane))
    if failed:
        raise failed[0]


async def _index(lane: Lane, keys: Sequence[Key], *, language: str) -> None:
    """Write the rows of messages to the index; a message that Postgres refuses gets none."""
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
        log.warning(
            "PostgreSQL refused a text: it cannot be searched",
            extra={"flow": keys[0][0], "id": keys[0][1]},
        )
        await search_texts.replace(tx, keys, [])
