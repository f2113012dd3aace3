"""Trying rejects again, since a newer release may understand them.

A reject is archived by the one writer, and removed from the rejects in the same transaction. This
proves nothing: what the page or the stream could not prove at the time is still a gap, or has been
proven since without the reject. A message from a reject may have been deleted or changed by now, so
its flow is doubted and will be listed again.
"""

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from archiver.domain.events import Event, Happening, Rejected, Signal
from archiver.domain.model import EventId, FlowId, private_path
from archiver.domain.proportion import OUT_OF_PROPORTION, is_far_beyond
from archiver.flowdock.decode import decode, decode_listed
from archiver.flowdock.framing import escape_newlines
from archiver.ingest.apply import write
from archiver.ingest.batch import Arrival, Batch
from archiver.ingest.live import OLD_NAME
from archiver.ingest.names import Names
from archiver.store import coverage, directory, rejecting
from archiver.store.connection import Engine, Transaction
from archiver.store.engine import DatabaseError, Fault, fault, first_line, transaction
from archiver.store.rejecting import Kept

IMPORT = "import "
"""The start of the origin of whatever came in an official export; the flow's path follows."""
LISTINGS = ("list ", "show ", IMPORT)
"""The starts of the origins of what the API answered or an export held; the path follows."""
MISSING = "there is no such reject"


class Retried(Struct, frozen=True, kw_only=True):
    """What became of a reject."""

    id: int
    event: str | None = None
    """The kind of event that it turned out to be."""
    flow: str | None = None
    event_id: int | None = None
    reason: str | None = None
    """Why it still cannot be placed; None if it was archived."""
    is_there: bool = True
    """Whether there was a reject of this id."""


class _Unplaced(Exception):
    """A reject still cannot be placed; the text says why."""


class _Missing(_Unplaced):
    """There is no reject of this id."""


async def retry(engine: Engine, id_: int, *, now: datetime) -> Retried:
    """Archive the reject *id_*, if it can be placed now."""
    names = Names(engine)
    await names.load()
    await names.load_paths()
    try:
        async with transaction(engine) as tx:
            arrival = await _place(tx, await rejecting.kept(tx, id_), names, now=now)
            await write(tx, Batch(now=now, arrivals=[arrival], opened=_flow_to_doubt(arrival)))
            if not await rejecting.remove(tx, [id_]):
                raise _Missing(MISSING)  # another process has placed it since it was read
            paths = await directory.flow_paths(tx)
    except _Unplaced as unplaced:
        is_there = not isinstance(unplaced, _Missing)
        return Retried(id=id_, reason=str(unplaced), is_there=is_there)
    except DatabaseError as error:
        if fault(error) is not Fault.ROW:
            raise
        return Retried(id=id_, reason=first_line(error))
    kind = arrival.decoded.kind if isinstance(arrival.decoded, Event | Signal) else None
    flow = None if arrival.flow_key is None else paths[arrival.flow_key]
    return Retried(id=id_, event=kind, flow=flow, event_id=arrival.id)


def _flow_to_doubt(arrival: Arrival) -> frozenset[int]:
    """The key of the flow to doubt, if *arrival* is an event; a signal raises no doubts."""
    if isinstance(arrival.decoded, Event) and arrival.flow_key is not None:
        return frozenset({arrival.flow_key})
    return frozenset()


async def _place(tx: Transaction, reject: Kept | None, names: Names, *, now: datetime) -> Arrival:
    """Decode a reject and find its flow.

    Raises:
        _Unplaced: it still cannot be read, its flow is unknown or uncertain, or its id is out of
            proportion.
    """
    if reject is None:
        raise _Missing(MISSING)
    was_listed = reject.origin.startswith(LISTINGS)
    was_imported = reject.origin.startswith(IMPORT)
    frame = escape_newlines(reject.raw)
    decoded = decode_listed(frame) if was_listed else decode(frame)
    if isinstance(decoded, Rejected):
        raise _Unplaced(decoded.reason)
    flow_key: int | None
    named = decoded.flow
    if was_listed:
        path = FlowId(reject.origin.partition(" ")[2])
        flow_key = _flow_asked(path, decoded, names)
        named = named or path
    else:
        flow_key = await _flow_told(tx, decoded, names, now=now)
    if reject.reason == OLD_NAME and decoded.flow is not None and names.is_old(decoded.flow):
        raise _Unplaced(OLD_NAME)
    if flow_key is not None and named is not None:
        await _require_acquaintance(tx, flow_key, named, reject)
    arrival = Arrival(
        frame=frame,
        decoded=decoded,
        flow_key=flow_key,
        witness="import" if was_imported else "list" if was_listed else "stream",
        origin=reject.origin,
        received_at=reject.received_at,
    )
    await _require_proportion(tx, arrival)
    if not was_listed or flow_key is None or arrival.id is None:
        return arrival
    # Where the position of the listing is unknown, all that is certain is that it came after the
    # event, so the event's own id is its position.
    if was_imported:
        return replace(arrival, listed_as_of=arrival.id)
    at = reject.received_at
    as_of = await rejecting.listed_as_of(tx, flow_key, arrival.id, at=at) or arrival.id
    return replace(arrival, listed_as_of=EventId(as_of))


async def _require_acquaintance(
    tx: Transaction, flow_key: int, named: FlowId, reject: Kept
) -> None:
    """Raise `_Unplaced` if *named* is a path, in any spelling, that another flow may have had."""
    id_, first_seen_at = await directory.first_seen(tx, flow_key=flow_key)
    if named != id_ and first_seen_at > reject.received_at:
        raise _Unplaced(f"it came before the flow that is {named} now: another may be meant")


async def _require_proportion(tx: Transaction, arrival: Arrival) -> None:
    """Raise `_Unplaced` if the id of *arrival* is out of all proportion to its flow's."""
    if arrival.flow_key is None or arrival.id is None:
        return
    newest = (await coverage.heads(tx, [arrival.flow_key])).get(arrival.flow_key, 0)
    path = await directory.path_of(tx, flow_key=arrival.flow_key)
    if is_far_beyond(arrival.id, newest, path):
        raise _Unplaced(OUT_OF_PROPORTION)


def _flow_asked(path: FlowId, decoded: Happening | Signal, names: Names) -> int:
    """The key of the flow at *path*, which was requested when the reject came."""
    flow_key = names.known(path)
    if flow_key is None:
        raise _Unplaced(f"there is no flow {path} any more")
    if decoded.flow is not None and names.is_another(decoded.flow, flow_key):
        raise _Unplaced("it belongs to another flow than the one requested")
    return flow_key


async def _flow_told(
    tx: Transaction, decoded: Happening | Signal, names: Names, *, now: datetime
) -> int | None:
    """The key of the flow that the reject names; None for a signal that names none."""
    if decoded.flow is not None:
        if (known := names.known(decoded.flow)) is not None:
            return known
        return (await directory.name_flows(tx, [decoded.flow], now=now))[decoded.flow]
    if decoded.to is not None and decoded.user is not None:
        for me, other in ((decoded.user, decoded.to), (decoded.to, decoded.user)):
            if (known := names.known(private_path(me, other))) is not None:
                return known
    if isinstance(decoded, Signal):
        return None
    raise _Unplaced("it names no flow")
