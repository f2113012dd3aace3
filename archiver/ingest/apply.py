"""The one writer: a batch becomes journal, rows and coverage, together or not at all.

One transaction locks the flows, finds the new forms (`archiver.ingest.novelty`), writes these to
the journal, folds them into the messages they are about (`archiver.ingest.folding`), and updates
the ledger.

An event that Postgres refuses is found by halving the batch, put among the rejects, and not
claimed.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from datetime import datetime, timedelta
from functools import partial, reduce
from operator import add
from typing import TypeVar

from msgspec.structs import replace
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from archiver.domain.coverage import Ranges
from archiver.domain.events import Event, Rejected, Signal
from archiver.ingest.batch import Applied, Arrival, Batch, parted
from archiver.ingest.folding import change_messages
from archiver.ingest.novelty import Novelty, look_before, sort_out
from archiver.store import asides, coverage, directory, doubts, messages
from archiver.store.asides import Reject, StoredSignal
from archiver.store.connection import Engine, Transaction
from archiver.store.engine import DatabaseError, Fault, carried, fault, first_line, transaction

log = logging.getLogger(__name__)

T = TypeVar("T")

NONE: frozenset[int] = frozenset()
LARGE = 500
"""How many events make a batch worth splitting: several transactions have their own cost."""
SIDE_BY_SIDE = 2
LONGEST_PAUSE_SECONDS = 5.0
TOLD_FLOWS = 10
CONTRADICTION_PAUSE = timedelta(minutes=1)
"""How long a flow must have been free of doubts before a contradiction doubts it again.

If the service never streams some kind of event, its flows must not be listed again for ever."""


async def apply_patiently(engine: Engine, batch: Batch) -> Applied:
    """`apply`, retried for as long as the database is away; any other error is raised."""
    return await _patiently(partial(apply, engine, batch))


async def apply_side_by_side(engine: Engine, batch: Batch) -> Applied:
    """`apply_patiently`, but a large batch in parallel transactions, each for other flows.

    While the database works on one of them, this process works on another.
    """
    if len(batch.arrivals) < LARGE:
        return await apply_patiently(engine, batch)
    try:
        async with asyncio.TaskGroup() as group:
            parts = parted(batch, SIDE_BY_SIDE)
            tasks = [group.create_task(apply_patiently(engine, part)) for part in parts]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return reduce(add, (task.result() for task in tasks))


async def when_possible(engine: Engine, work: Callable[[Transaction], Awaitable[T]]) -> T:
    """Do *work* in a transaction; retry for as long as the database is away."""

    async def once() -> T:
        async with transaction(engine) as tx:
            return await work(tx)

    return await _patiently(once)


async def apply(engine: Engine, batch: Batch) -> Applied:
    """Archive *batch*: journal, rows and coverage are written together or not at all.

    Raises:
        DBAPIError, psycopg.Error: the database is away, or a statement of ours is wrong.
    """
    try:
        async with transaction(engine) as tx:
            return await write(tx, batch, commits=True)
    except DatabaseError as error:
        is_aside = all(isinstance(one.decoded, Rejected) for one in batch.arrivals)
        if fault(error) is not Fault.ROW or is_aside:
            raise
        reason = first_line(error)
    return await _apply_halves(engine, batch, reason)


async def _apply_halves(engine: Engine, batch: Batch, reason: str) -> Applied:
    """Archive all of *batch* except what Postgres refuses, then write its remaining claims."""
    arrivals = batch.arrivals
    if len(arrivals) == 1:
        log.warning(
            "PostgreSQL refused an event: kept as a reject", extra={"origin": arrivals[0].origin}
        )
        refused = _as_reject(arrivals[0], reason)
        applied = await apply(engine, replace(batch, arrivals=[refused], gains={}, pages=()))
        applied = replace(applied, refused_from=frozenset({refused.origin}))
        key = (arrivals[0].flow_key, arrivals[0].id)
        if key[0] is not None and key[1] is not None:
            applied = replace(applied, refused=frozenset({key}))
    else:
        half = len(arrivals) // 2
        applied = Applied()
        for part in (arrivals[:half], arrivals[half:]):
            applied += await apply(engine, replace(batch, arrivals=part, gains={}, pages=()))
    proven = without(batch, applied.refused)
    # Listed events go with the claims, as repetitions: they show which doubts must not be lifted.
    told = [
        one
        for one in arrivals
        if one.listed_as_of is not None and (one.flow_key, one.id) not in applied.refused
    ]
    await apply(engine, replace(proven, arrivals=told if proven.gains else ()))
    return applied


def without(batch: Batch, refused: Iterable[tuple[int, int]]) -> Batch:
    """*batch* without claims of the ids *refused*."""
    gains = dict(batch.gains)
    for flow_key, id_ in refused:
        if gain := gains.get(flow_key):
            hole = Ranges(((id_, id_),))
            gains[flow_key] = replace(
                gain, streamed=gain.streamed - hole, listed=gain.listed - hole
            )
    return replace(batch, gains=gains)


async def write(tx: Transaction, batch: Batch, *, commits: bool = False) -> Applied:
    """Write *batch* on the caller's transaction.

    With *commits*, the transaction may already be committed when this returns, since the commit is
    sent with the last statements to save a round trip. Nothing may follow in it then.
    """
    carried(tx, [len(arrival.frame) for arrival in batch.arrivals])
    new = await sort_out(tx, batch, await look_before(tx, batch))
    signals, rejects = _asides(new.others)
    if signals:
        await asides.add_signals(tx, signals)
    if rejects:
        await asides.add_rejects(tx, rejects)
    is_last = not (batch.gains or batch.opened or batch.pages or new.listed or new.unread)
    changed = await change_messages(tx, new, commits=commits and is_last)
    if not is_last:
        await _prove(tx, batch, new, commits=commits)
    return Applied(
        events=len(new.entries),
        unheard=new.unheard,
        repeated=new.repeated,
        signals=len(signals),
        rejected=len(rejects),
        messages=changed,
        kinds=Counter((entry.event, entry.witness) for entry in new.entries),
    )


async def _prove(tx: Transaction, batch: Batch, new: Novelty, *, commits: bool) -> None:
    """Write to the ledger what is proven once *batch* is kept, and what is doubtful."""
    unsure = await _unsure(tx, batch.arrivals, new) if batch.gains else {}
    # Flows in which a listing shows a new event within a range that a stream claimed.
    contradicted = await coverage.claimed_by_stream(tx, new.listed) if new.listed else NONE
    is_last = not (contradicted or batch.opened or new.unread)
    await coverage.advance(
        tx,
        batch.gains,
        unsure=unsure,
        pages=batch.pages,
        now=batch.now,
        commits=commits and is_last,
    )
    if contradicted:
        await _tell_contradicted(tx, contradicted)
        before, most = batch.now - CONTRADICTION_PAUSE, len(contradicted)
        await doubts.doubt_flows(tx, contradicted, before=before, now=batch.now, most=most)
    if new.unread:
        await doubts.doubt_messages(tx, new.unread)
    if batch.opened:
        await doubts.open_streams(tx, batch.opened)


async def _tell_contradicted(tx: Transaction, flow_keys: Collection[int]) -> None:
    paths = await directory.paths_of(tx, flow_keys)
    about: dict[str, object] = {"flows": paths[:TOLD_FLOWS]}
    if len(paths) > TOLD_FLOWS:
        about["more_flows"] = len(paths) - TOLD_FLOWS
    log.warning("a stream missed messages: listing its flows again", extra=about)


async def _unsure(tx: Transaction, arrivals: Iterable[Arrival], new: Novelty) -> dict[int, Ranges]:
    """By flow key: listed messages of which a fact newer than the listing is known.

    The listing cannot lift the doubts about these: it may already show a later change that no
    stream brought, and yet be outweighed by a fact that is newer than its position.
    """
    listed: dict[tuple[int, int], int] = {
        (arrival.flow_key, arrival.id): arrival.listed_as_of
        for arrival in arrivals
        if arrival.listed_as_of is not None and arrival.flow_key is not None and arrival.id
        if not (
            isinstance(arrival.decoded, Event)
            and new.knows_no_other_fact((arrival.flow_key, arrival.id))
        )
    }
    if not listed:
        return {}
    unsure: dict[int, list[tuple[int, int]]] = {}
    for (flow_key, id_), as_of in (await messages.positions(tx, listed)).items():
        if as_of > max(id_, listed[flow_key, id_]):
            unsure.setdefault(flow_key, []).append((id_, id_))
    return {flow_key: Ranges.of(spans) for flow_key, spans in unsure.items()}


def _asides(arrivals: Iterable[Arrival]) -> tuple[list[StoredSignal], list[Reject]]:
    signals, rejects = [], []
    for arrival in arrivals:
        decoded = arrival.decoded
        if isinstance(decoded, Signal):
            signals.append(_stored_signal(arrival, decoded))
        elif isinstance(decoded, Rejected):
            rejects.append(
                Reject(
                    received_at=arrival.received_at,
                    origin=arrival.origin,
                    reason=decoded.reason,
                    raw=arrival.frame,
                )
            )
    return signals, rejects


def _stored_signal(arrival: Arrival, signal: Signal) -> StoredSignal:
    return StoredSignal(
        flow_key=arrival.flow_key,
        event=signal.kind,
        user=signal.user,
        at=_likely_time(signal.sent_at, arrival.received_at),
        payload=arrival.frame.decode(),
    )


def _likely_time(sent_at: datetime | None, received_at: datetime) -> datetime:
    """When a signal was sent, if plausible, else when it came; its retention counts from then."""
    if sent_at is None or abs(sent_at - received_at) > timedelta(days=1):
        return received_at
    return sent_at


def _as_reject(arrival: Arrival, reason: str) -> Arrival:
    return replace(arrival, decoded=Rejected(reason=reason))


async def _patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Do *work*; while the database is away, retry at once, then with growing pauses.

    The first attempt is made without tenacity, whose overhead is a good part of the time of a small
    transaction.
    """
    try:
        return await work()
    except DatabaseError as error:
        if not _is_server_away(error):
            raise
        _tell_database_away(error, failures=1)
    again = AsyncRetrying(
        retry=retry_if_exception(_is_server_away),
        wait=wait_random_exponential(multiplier=0.1, max=LONGEST_PAUSE_SECONDS),
        before_sleep=_tell_tried,
    )
    return await again(work)


def _is_server_away(error: BaseException) -> bool:
    return isinstance(error, DatabaseError) and fault(error) is Fault.SERVER


def _tell_tried(state: RetryCallState) -> None:
    if state.outcome and (error := state.outcome.exception()):
        _tell_database_away(error, failures=1 + state.attempt_number)


def _tell_database_away(error: BaseException, *, failures: int) -> None:
    about = {"attempt": failures, "reason": first_line(error)}
    log.warning("database away, trying again", extra=about)
