"""Restoring an export of another archive's journal into this one, by the one writer.

Each form of each event is written as it came, with its witness, position and time, and so are the
listings that showed it later. A row is the replay of its journal, so the rows come out the same;
where this archive already knew something, a row is the replay of both.

What the other archive had proven of a flow is proven here once all that it held of the flow is
here. But all that is proven of a flow of which anything came is also doubted, since nobody knows
what has changed since. Ids, positions and claims out of all proportion to what is known of a flow
are not believed, just as from any other source.
"""

import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import IO

from msgspec import Struct
from msgspec.structs import replace

from archiver.domain.events import Rejected
from archiver.domain.proportion import OUT_OF_PROPORTION, is_far_beyond
from archiver.errors import ArchiverError
from archiver.flowdock.redaction import redact
from archiver.ingest.apply import apply_patiently, when_possible
from archiver.ingest.batch import Arrival, Batch
from archiver.ingest.epochs import UNSETTLED
from archiver.ingest.importing import Imported, batches
from archiver.ingest.journal_lines import Claim, KeptFile, Line, arrivals_of, read, read_reject
from archiver.store import coverage, files
from archiver.store import importing as stored
from archiver.store.connection import Engine, Transaction
from archiver.store.coverage import Standing
from archiver.store.importing import KnownFlow, KnownUser

log = logging.getLogger(__name__)

BATCH_LINES = 500


class Content(Struct, frozen=True):
    """The contents of a file in an export."""

    size_bytes: int
    opened: Callable[[], IO[bytes]]


async def restore_directory(
    engine: Engine, flows: Iterable[Line], users: Iterable[Line]
) -> dict[str, int]:
    """Bring in flows and people, where the newest state of each wins; returns keys by path."""
    told_flows = [read(line, KnownFlow) for line in flows]
    told_users = [read(line, KnownUser) for line in users]
    await when_possible(engine, lambda tx: stored.merge_users(tx, told_users))
    keys = await when_possible(engine, lambda tx: stored.merge_flows(tx, told_flows))
    return {flow.path: keys[flow.flow_id] for flow in told_flows}


async def restore_events(
    engine: Engine, lines: Iterable[Line], keys: Mapping[str, int], *, now: datetime
) -> AsyncIterator[Imported]:
    """Archive forms of events; yields what became of each batch. Repeating it does no harm.

    Raises:
        ArchiverError: a line is not a form of an event, or is of a flow that is not in *keys*.
    """
    heads = partial(coverage.heads, flow_keys=set(keys.values()))
    newest = await when_possible(engine, heads)
    paths = {key: path for path, key in keys.items()}
    for batch in _batches(lines):
        told = [_understood(list(arrivals_of(line, keys))) for line in batch]
        arrivals = [one for line in told for one in _in_proportion(line, newest, paths)]
        opened = frozenset(one.flow_key for one in arrivals if one.flow_key is not None)
        brought = Batch(now=now, arrivals=arrivals, opened=opened, is_dated=True)
        applied = await apply_patiently(engine, brought)
        unread = [one for one in arrivals if isinstance(one.decoded, Rejected)]
        # A line may give several arrivals, and Postgres refuses each: count the line only once.
        rejected = len(applied.refused_from | {one.origin for one in unread})
        lacking = {one.flow_key for one in unread} | {key for key, _ in applied.refused}
        yield Imported(
            taken=applied.events,
            known=len(batch) - applied.events - rejected,
            rejected=rejected,
            lacking=frozenset(keys.values()) & lacking,
        )


async def restore_rejects(engine: Engine, lines: Iterable[Line], *, now: datetime) -> None:
    """Keep what the other archive could not place."""
    for batch in _batches(lines):
        told = [read_reject(line) for line in batch]
        arrivals = [
            Arrival(
                frame=redact(raw),
                decoded=Rejected(reason=one.reason),
                flow_key=None,
                witness="stream",
                origin=one.origin,
                received_at=one.received_at,
            )
            for one, raw in told
        ]
        await apply_patiently(engine, Batch(now=now, arrivals=arrivals))


async def restore_files(
    engine: Engine,
    lines: Iterable[Line],
    keys: Mapping[str, int],
    contents: Mapping[str, Content],
) -> AsyncIterator[int]:
    """Store the contents of files that are wanted, by digest in *contents*; yields their lengths.

    A file is wanted when a message that is archived names it, so one that was erased is not.

    Raises:
        ArchiverError: a line names a flow or a file that is not in the export.
    """
    for line in lines:
        told = read(line, KeptFile)
        content = contents.get(told.sha256)
        if told.flow not in keys or content is None:
            raise ArchiverError(
                f"{line.place}: the flow or the file that it names is not in the export"
            )
        if len(told.path.encode()) > files.LONGEST_PATH_BYTES:
            raise ArchiverError(f"{line.place}: its path is too long")
        await when_possible(engine, partial(_restore_file, told, keys[told.flow], content))
        yield content.size_bytes


async def _restore_file(told: KeptFile, flow_key: int, content: Content, tx: Transaction) -> None:
    size, digest = content.size_bytes, told.sha256
    with content.opened() as source:
        await files.attach(tx, flow_key, told.path, source, sha256=digest, size_bytes=size)


async def restore_claims(
    engine: Engine,
    claims: Mapping[str, Claim],
    keys: Mapping[str, int],
    *,
    lacking: Collection[int],
    now: datetime,
) -> None:
    """Claim what the other archive had proven of flows, all of whose events are here now.

    Flows that are *lacking* events, because some were rejected, are left out.
    """
    newest = await when_possible(engine, partial(coverage.heads, flow_keys=set(keys.values())))
    gains = {}
    for path, claim in claims.items():
        gain = Standing(
            streamed=claim.proven_by("stream"),
            listed=claim.proven_by("list"),
            due=claim.due,
            epoch=UNSETTLED,  # what another archive listed lifts no doubt here
        )
        farthest = max([gain.due, *(last for _, last in gain.proven)])
        if is_far_beyond(farthest, newest.get(keys[path], 0), path):
            log.error(
                "an export claims impossibly high ids: claims ignored",
                extra={"flow": path, "up_to": farthest},
            )
        elif keys[path] in lacking:
            log.warning(
                "some events were rejected: claims of the export ignored", extra={"flow": path}
            )
        else:
            gains[keys[path]] = gain
    opened = frozenset(gains)
    await apply_patiently(engine, Batch(now=now, gains=gains, opened=opened))


def _understood(told: list[Arrival]) -> list[Arrival]:
    """Those arrivals of one line that can be read; if none can, the first, as the line's reject."""
    return [one for one in told if not isinstance(one.decoded, Rejected)] or told[:1]


def _in_proportion(
    told: list[Arrival], newest: dict[int, int], paths: Mapping[int, str]
) -> list[Arrival]:
    """The arrivals of one line, or a reject if an id or a position is out of all proportion.

    Notes the ids in *newest*, by flow key.
    """
    for arrival in told:
        key, id_ = arrival.flow_key, arrival.id
        if key is None or id_ is None:
            continue
        known, position = newest.get(key, 0), arrival.listed_as_of or 0
        if is_far_beyond(id_, known, paths[key]) or is_far_beyond(
            position, max(known, id_), paths[key]
        ):
            return [replace(arrival, decoded=Rejected(reason=OUT_OF_PROPORTION))]
        newest[key] = max(known, id_)
    return told


def _batches(lines: Iterable[Line]) -> Iterator[list[Line]]:
    return batches(lines, lambda line: len(line.text), most=BATCH_LINES)
