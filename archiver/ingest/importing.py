"""Importing official exports into the archive, by the one writer.

A file is read through before anything is written. This shows that it is complete, how many messages
it holds, and how far the flow had come when it was made. The newest id in the file is the position
of all its messages, as if they had been listed. When the file was made is unknown, so any listing
of the same position outweighs it. So the rows are the same, whichever is read first.

A file proves nothing: what it leaves out cannot be known. But it may show messages that were
deleted since, so its flow is doubted and will be listed again. That is done with each batch,
because an import that was interrupted may never be resumed.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from archiver.domain.events import Event, Happening, Rejected
from archiver.domain.model import EventId, FlowId, Message
from archiver.domain.proportion import OUT_OF_PROPORTION, is_far_beyond
from archiver.errors import ArchiverError
from archiver.flowdock.decode import decode_listed
from archiver.flowdock.elements import Element, Misshapen, elements
from archiver.flowdock.envelope import storable
from archiver.flowdock.fields import read_flow, read_id
from archiver.flowdock.official import ExportFile, ExportUnreadable
from archiver.flowdock.redaction import redact
from archiver.ingest.apply import apply_patiently, when_possible
from archiver.ingest.batch import Arrival, Batch
from archiver.ingest.epochs import UNSETTLED
from archiver.ingest.names import Names
from archiver.store import coverage, directory, messages
from archiver.store.bulk import Key
from archiver.store.connection import Engine
from archiver.store.coverage import Standing

T = TypeVar("T")

BATCH_ELEMENTS = 1000
BATCH_BYTES = 4_000_000


class Survey(Struct, frozen=True, kw_only=True):
    """What a file holds, before any of it is archived."""

    elements: int
    newest: EventId
    """How far the flow had come when the file was made; 0 when it holds no message.

    An id out of all proportion to the others does not count, wherever in the file it is."""
    flow: FlowId | None
    """The flow that the messages name."""


class Imported(Struct, frozen=True, kw_only=True):
    """What became of the elements of a file."""

    taken: int = 0
    """Messages that the archive did not have."""
    known: int = 0
    """Messages that it had, and that the file did not change."""
    changed: int = 0
    """Messages that it had, and that the file changed."""
    rejected: int = 0
    """Elements that could not be placed; they are kept among the rejects."""
    lacking: frozenset[int] = frozenset()
    """Keys of the flows of which elements were rejected, as far as known."""

    @property
    def read(self) -> int:
        """How many elements were read."""
        return self.taken + self.known + self.changed + self.rejected

    def __add__(self, other: "Imported") -> "Imported":
        """The sum of both."""
        return Imported(
            taken=self.taken + other.taken,
            known=self.known + other.known,
            changed=self.changed + other.changed,
            rejected=self.rejected + other.rejected,
            lacking=self.lacking | other.lacking,
        )


class Destination(Struct, frozen=True, kw_only=True):
    """The flow that a file is imported into."""

    flow_key: int
    path: str


class _Glance(Struct):
    id: Any = None
    flow: Any = None


_GLANCE = msgspec.json.Decoder(_Glance)


def survey(export: ExportFile) -> Iterator[Survey]:
    """Read a file through; yields what was found so far now and then, and finally all of it.

    Raises:
        ExportUnreadable: it is damaged, or not an array of messages.
    """
    count, newest, flow = 0, 0, None
    for element in _elements_of(export):
        try:
            glance = _GLANCE.decode(element.raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            glance = _Glance()
        count += 1
        id_ = read_id(glance.id) or 0
        came_too_far = id_ > 0 and is_far_beyond(newest, id_, flow or "")
        if came_too_far or (id_ > newest and not is_far_beyond(id_, newest, flow or "")):
            newest = id_
        flow = flow or storable(read_flow(glance.flow))
        if count % BATCH_ELEMENTS == 0:
            yield Survey(elements=count, newest=EventId(newest), flow=flow)
    yield Survey(elements=count, newest=EventId(newest), flow=flow)


async def find_destination(
    engine: Engine, found: Survey, *, path: str | None, now: datetime
) -> Destination:
    """Find the flow that a file's messages belong to; if they name none, *path* has to name it.

    Raises:
        ArchiverError: the messages name no flow, or another than *path*, or have ids out of all
            proportion to those of the flow.
    """
    if found.flow is None and path is None:
        raise ArchiverError("its messages name no flow: name it with --flow")
    names = Names(engine)
    await names.load()
    await names.load_paths()
    there = (
        None if path is None else await when_possible(engine, partial(directory.flow_at, path=path))
    )
    if there is not None and found.flow is not None and not names.is_same(found.flow, there):
        raise ArchiverError(f"its messages belong to another flow than {path}: {found.flow}")
    key = there or await names.key(found.flow or FlowId(path or ""), now=now)
    if path is not None and there is None:
        await when_possible(engine, partial(directory.name_path, flow_key=key, path=path))
    goes_by = await when_possible(engine, partial(directory.path_of, flow_key=key))
    if path is not None and goes_by != path:
        raise ArchiverError(f"its messages belong to {goes_by}, not to {path}")
    newest = (await when_possible(engine, partial(coverage.heads, flow_keys=[key]))).get(key, 0)
    if is_far_beyond(found.newest, newest, goes_by):
        raise ArchiverError(
            f"it has a message with the id {found.newest}, impossibly high for {goes_by}, whose "
            f"newest is {newest}: remove that message"
        )
    return Destination(flow_key=key, path=goes_by)


async def import_export(
    engine: Engine, export: ExportFile, found: Survey, destination: Destination, *, now: datetime
) -> AsyncIterator[Imported]:
    """Archive a file; yields what became of each batch. Importing it again does no harm.

    Raises:
        ExportUnreadable: it has changed since it was surveyed.
    """
    names = Names(engine)
    await names.load()
    await names.load_paths()
    for batch in batches(_elements_of(export), lambda one: len(one.raw), most=BATCH_ELEMENTS):
        arrivals = [_arrival(one, found, destination, names, now=now) for one in batch]
        yield await _archive(engine, arrivals, destination.flow_key, now=now)
    # It proves nothing, but the ledger records the time of this, however old the messages are.
    gains = {destination.flow_key: Standing(epoch=UNSETTLED)}
    await apply_patiently(engine, Batch(now=now, gains=gains))


async def _archive(
    engine: Engine, arrivals: list[Arrival], flow_key: int, *, now: datetime
) -> Imported:
    """Archive *arrivals*, and compare the messages in the archive before and after."""
    keys = [(flow_key, one.id) for one in arrivals if one.id is not None]
    before = await _held(engine, keys)
    opened = frozenset({flow_key})
    applied = await apply_patiently(engine, Batch(now=now, arrivals=arrivals, opened=opened))
    after = await _held(engine, before) if before and applied.events else before
    changed = sum(not _is_same(before[key], after.get(key)) for key in before)
    return Imported(
        taken=applied.unheard,
        known=len(arrivals) - applied.unheard - changed - applied.rejected,
        changed=changed,
        rejected=applied.rejected,
    )


async def _held(engine: Engine, keys: Iterable[Key]) -> dict[Key, Message]:
    held = await when_possible(engine, lambda tx: messages.held(tx, keys))
    return {key: one.message for key, one in held.items()}


def _is_same(before: Message, after: Message | None) -> bool:
    return after is not None and replace(after, as_of=before.as_of) == before


def _arrival(
    element: Element,
    found: Survey,
    destination: Destination,
    names: Names,
    *,
    now: datetime,
) -> Arrival:
    frame = redact(element.raw)
    decoded = _at_home(decode_listed(frame), found, destination, names)
    if isinstance(decoded, Rejected):
        decoded = Rejected(reason=f"{decoded.reason} (at byte {element.at:,} of the file)")
    return Arrival(
        frame=frame,
        decoded=decoded,
        flow_key=destination.flow_key,
        witness="import",
        origin=f"import {destination.path}",
        received_at=now,
        listed_as_of=found.newest,
    )


def _at_home(
    decoded: Happening | Rejected, found: Survey, destination: Destination, names: Names
) -> Happening | Rejected:
    if not isinstance(decoded, Event):
        return decoded
    if is_far_beyond(decoded.id, found.newest, destination.path):
        return Rejected(reason=OUT_OF_PROPORTION)
    is_own = decoded.flow in {None, found.flow}
    if not is_own and not names.is_same(decoded.flow, destination.flow_key):
        return Rejected(reason="it names another flow than the others in the file")
    return decoded


def batches(found: Iterable[T], size_bytes: Callable[[T], int], *, most: int) -> Iterator[list[T]]:
    """Split *found* into batches of at most *most*, or fewer if they are large."""
    batch: list[T] = []
    size = 0
    for one in found:
        batch.append(one)
        size += size_bytes(one)
        if len(batch) >= most or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _elements_of(export: ExportFile) -> Iterator[Element]:
    try:
        yield from elements(export.chunks())
    except Misshapen as error:
        raise ExportUnreadable(f"{export} is not a complete list of messages: {error}") from error
