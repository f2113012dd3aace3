"""From streams to the archive: `listen` reads, `write_forever` writes, with an `Intake` between.

One writer serves all streams, so that a batch holds the events of all flows at a moment. The
beginning and the end of a connection go through the same queue as its frames, so that the writer
claims only what it has written.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from typing import NoReturn

from msgspec import Struct
from msgspec.structs import replace

from archiver.domain.events import Decoded, Event, Happening, Rejected, Signal
from archiver.domain.model import FlowId, UserId
from archiver.domain.proportion import OUT_OF_PROPORTION, is_far_beyond, is_vouched_for
from archiver.flowdock.decode import decode
from archiver.flowdock.stream import Closed, Frames, Occurrence, Opened
from archiver.ingest.apply import apply_side_by_side
from archiver.ingest.batch import Arrival, Batch
from archiver.ingest.claims import Claims
from archiver.ingest.heads import Heads
from archiver.ingest.intake import Began, Came, Ended, Intake
from archiver.ingest.names import Names, flow_named
from archiver.ingest.tally import AccountTally, Link, Tally
from archiver.store.connection import Engine

log = logging.getLogger(__name__)

OLD_NAME = "it names a flow by an old name, which a flow that was not listed may have"

CLAIM_SECONDS = 0.5
"""How often claims are written; they lag by the settling time anyway."""
LONGEST_CLAIM_SECONDS = 5.0
"""The longest pause between claims, for very many flows."""
CLAIMS_A_SECOND = 1000
"""Roughly how many flows to write claims for per second; each costs as much as an event."""

ENOUGH_EVENTS = 16
"""A batch of so many events waits for no more: that would delay them more than it saves."""
RATE_SECONDS = 0.5
"""The time over which the rate of events is averaged."""


class Pace(Struct, frozen=True, kw_only=True):
    """How many events a batch may hold, and how long it waits for them."""

    batch_events: int
    linger_seconds: float
    """The longest wait for `ENOUGH_EVENTS`; where these would take longer, a batch never waits."""

    def lingering(self, rate: float) -> float:
        """How many seconds a batch waits when *rate* events arrive per second."""
        enough_seconds = ENOUGH_EVENTS / rate if rate else math.inf
        return enough_seconds if enough_seconds <= self.linger_seconds else 0.0


class Rate:
    """How many events have arrived per second lately; times are the event loop's seconds."""

    def __init__(self, *, now: float) -> None:
        self.per_second = 0.0
        self._at = now

    def note(self, events: int, *, now: float) -> None:
        """Note that so many have arrived since the last call."""
        passed, self._at = now - self._at, now
        if passed >= RATE_SECONDS:
            self.per_second = events / passed
        else:
            self.per_second += (events - self.per_second * passed) / RATE_SECONDS


class Listener(Struct, frozen=True, kw_only=True):
    """What `listen` needs of the account whose stream it reads, and where it puts what arrives."""

    intake: Intake
    names: Names
    me: UserId
    origin: str
    """A name of the stream, for people."""
    newest: Callable[[int], int]
    """Returns the newest id that a flow, by its key, is known to have."""
    on_opened: Callable[[], frozenset[int]]
    """Called when a connection is open; returns the keys of the flows on it."""
    on_heard: Callable[[Came], None]
    """Called with everything that arrives, before it is written."""
    tally: AccountTally
    link: Link


async def listen(occurrences: AsyncIterator[Occurrence], listener: Listener) -> None:
    """Put what happens on one shard's connections into the intake."""
    clock = asyncio.get_running_loop().time
    about = {"stream": listener.origin}
    connection = 0
    try:
        async for occurrence in occurrences:
            match occurrence:
                case Opened(answered_at=answered_at):
                    connection = listener.intake.number_connection()
                    log.info("stream opened", extra=about)
                    listener.tally.open(listener.link)
                    keys = listener.on_opened()
                    began = Began(connection, clock(), keys, answered_at, listener.me)
                    listener.intake.put_now(began)
                case Frames(frames=frames, received_at=received_at, truncated=truncated):
                    if truncated:
                        # Cut off, they are not valid JSON, so they are kept among the rejects.
                        log.warning(
                            "events were too long: cut, and kept as rejects",
                            extra={**about, "events": truncated},
                        )
                    at = clock()
                    arrivals = await receive(frames, listener, received_at=received_at)
                    came = Came(connection, at, arrivals)
                    listener.on_heard(came)
                    await listener.intake.put(came)
                case Closed():
                    _tell(occurrence, about)
                    listener.tally.end(listener.link, occurrence.reason)
                    listener.intake.put_now(Ended(connection, listener.intake.read_up_to()))
    finally:
        listener.intake.put_now(Ended(connection, listener.intake.read_up_to()))


def _tell(closed: Closed, about: Mapping[str, str]) -> None:
    what = "stream not opened" if closed.connection is None else "stream closed"
    told = {**about, "url": closed.url, "reason": closed.reason}
    log.warning(what, extra={**told, "again_seconds": round(closed.retry_in_seconds, 1)})


async def receive(
    frames: Iterable[bytes], listener: Listener, *, received_at: datetime
) -> list[Arrival]:
    """Decode *frames* and find their flows.

    An event is rejected if it names no flow, or only the path of one, or if its id is out of all
    proportion. A signal whose id is not close to the newest known one is kept without its id.
    """
    names, known, origin = listener.names, listener.names.known, listener.origin
    arrivals = []
    for frame in frames:
        decoded: Decoded = decode(frame)
        flow_key = None
        if not isinstance(decoded, Rejected):
            flow = decoded.flow or flow_named(decoded, me=listener.me)
            if flow is not None:
                flow_key = known(flow)
                if flow_key is None:
                    with listener.intake.hindering():
                        flow_key = await names.key(flow, now=received_at)
                newest, is_old = listener.newest(flow_key), names.is_old(flow)
                decoded = _believable(decoded, newest, flow, is_old=is_old)
            elif isinstance(decoded, Event):
                decoded = Rejected(reason="it names no flow")
        arrivals.append(Arrival(frame, decoded, flow_key, "stream", origin, received_at))
    return arrivals


def _believable(decoded: Happening | Signal, newest: int, flow: FlowId, *, is_old: bool) -> Decoded:
    """*decoded*, if its id is believable, given the *newest* id known of its flow.

    Nothing is believed of a flow that is only named by its path.
    """
    if decoded.id is None:
        return decoded
    if is_old and isinstance(decoded, Event):
        return Rejected(reason=OLD_NAME)
    if is_far_beyond(decoded.id, newest, flow):
        return Rejected(reason=OUT_OF_PROPORTION)
    if isinstance(decoded, Signal) and (is_old or not is_vouched_for(decoded.id, newest)):
        return replace(decoded, id=None)
    return decoded


def claim_pause(flows: int) -> float:
    """How many seconds to pause after writing the claims of so many flows."""
    return min(max(CLAIM_SECONDS, flows / CLAIMS_A_SECOND), LONGEST_CLAIM_SECONDS)


def _tell_back(tally: Tally, *, now: float) -> None:
    """Log the end of a database outage, since the warnings about it have become rare by then."""
    if tally.writer_away_since is not None:
        log.info("database back", extra={"away_seconds": round(now - tally.writer_away_since, 1)})


async def write_forever(
    engine: Engine,
    intake: Intake,
    heads: Heads,
    *,
    pace: Pace,
    tally: Tally,
    now: Callable[[], datetime],
) -> NoReturn:
    """Archive what *intake* holds, batch by batch; waits while the database is away."""
    clock = asyncio.get_running_loop().time
    claims = Claims(settling_seconds=heads.settling_seconds)
    claim_at = claimed_up_to = clock()
    rate = Rate(now=clock())
    while True:
        _tell_back(tally, now=clock())
        tally.turned(now=clock())
        items = await intake.take(
            most=pace.batch_events,
            enough=ENOUGH_EVENTS,
            linger_seconds=pace.lingering(rate.per_second),
            patience_seconds=CLAIM_SECONDS,
        )
        opened = claims.note(items) | claims.lacking(now=clock())
        gains = {}
        if opened or clock() >= claim_at:
            claimed_up_to = intake.written_up_to()
            gains = claims.take(now=claimed_up_to)
            claim_at = clock() + claim_pause(len(gains))
        came = [item for item in items if isinstance(item, Came)]
        arrivals = [arrival for item in came for arrival in item.arrivals]
        rate.note(len(arrivals), now=clock())
        if not arrivals and not gains and not opened:
            heads.claimed(up_to=claimed_up_to)
            continue
        batch = Batch(now=now(), arrivals=arrivals, gains=gains, opened=opened)
        began = clock()
        applied = await apply_side_by_side(engine, batch)
        tally.applied(applied, seconds=clock() - began)
        heads.claimed(up_to=claimed_up_to)
        heads.noted({flow_key: gain.due for flow_key, gain in gains.items()})
        claims.refuse({flow_key for flow_key, _ in applied.refused}, now=clock())
        for item in came:
            for flow_key, id_ in item.newest().items():
                heads.seen(flow_key, id_, at=item.at)
