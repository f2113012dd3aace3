"""What one transaction archives."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from archiver.domain.coverage import Ranges
from archiver.domain.events import Decoded, Event, Mutation, Posted, Rejected, Vanished
from archiver.domain.facts import Absence, Fact, Showing
from archiver.domain.model import EventId
from archiver.store.bulk import Key
from archiver.store.coverage import PageRow, Standing
from archiver.store.journal import Witness

NOT_FOUND = "not found"
"""What the journal calls the event that nobody sent: Show Message answered 404."""


class Arrival(Struct, frozen=True, gc=False):
    """One frame, what it says, and how it came.

    Streams and pages give the fields by position, for speed.
    """

    frame: bytes
    decoded: Decoded
    flow_key: int | None
    """None when it names no flow; an event always has one."""
    witness: Witness
    origin: str
    """The stream, page or file it came by, for people."""
    received_at: datetime
    listed_as_of: EventId | None = None
    """Of a listing or a file, the newest id its flow was known to have; None on the stream."""

    @property
    def id(self) -> EventId | None:
        """The id it takes in its flow, if any."""
        return None if isinstance(self.decoded, Rejected) else self.decoded.id

    @property
    def shown_at(self) -> datetime | None:
        """When a listing showed it; None on the stream, and in a file made nobody knows when."""
        was_asked_for = self.listed_as_of is not None and self.witness != "import"
        return self.received_at if was_asked_for else None


class Batch(Struct, frozen=True, kw_only=True):
    """Frames, and what is proven once they are kept."""

    now: datetime
    arrivals: Sequence[Arrival] = ()
    gains: Mapping[int, Standing] = {}
    """By flow key: what is proven once `arrivals` are kept."""
    opened: frozenset[int] = frozenset()
    """Flow keys: their streams were opened anew, after `gains` and before `arrivals`."""
    pages: Sequence[PageRow] = ()
    is_dated: bool = False
    """Another archive has dated its listings: none is later for being brought in later."""

    def flow_keys(self) -> set[int]:
        """The flows that it writes to."""
        named = {arrival.flow_key for arrival in self.arrivals if arrival.flow_key is not None}
        return named | self.gains.keys() | self.opened

    def targets(self) -> set[Key]:
        """The messages that it changes."""
        return {
            (arrival.flow_key, decoded.target)
            for arrival in self.arrivals
            # The first test is the fast one, and spares most of them the other.
            if type(decoded := arrival.decoded) is not Posted and isinstance(decoded, Mutation)
            if arrival.flow_key is not None
        }

    def listed(self) -> dict[int, Ranges]:
        """By flow key: what is proven by pages."""
        return {flow_key: gain.listed for flow_key, gain in self.gains.items() if gain.listed}


def parted(batch: Batch, parts: int) -> list[Batch]:
    """*batch* in so many parts, each of other flows; what is of no flow is in the first."""
    arrivals: list[list[Arrival]] = [[] for _ in range(parts)]
    for arrival in batch.arrivals:
        arrivals[(arrival.flow_key or 0) % parts].append(arrival)
    return [
        replace(
            batch,
            arrivals=its,
            gains={key: gain for key, gain in batch.gains.items() if key % parts == part},
            opened=frozenset(key for key in batch.opened if key % parts == part),
            pages=[page for page in batch.pages if page.flow_key % parts == part],
        )
        for part, its in enumerate(arrivals)
    ]


class Applied(Struct, frozen=True, kw_only=True):
    """What became of a batch."""

    events: int = 0
    """Events that are new to the journal, in any form."""
    unheard: int = 0
    """Of these, the events of which it had no form."""
    repeated: int = 0
    signals: int = 0
    rejected: int = 0
    messages: int = 0
    """Messages whose rows were made or changed."""
    kinds: Mapping[tuple[str, str], int] = {}
    """Of `events`, how many by kind and witness."""
    refused: frozenset[tuple[int, int]] = frozenset()
    """Flow key and id of events that Postgres refused; they lie with the rejects."""
    refused_from: frozenset[str] = frozenset()
    """The origins of what Postgres refused."""

    def __add__(self, other: "Applied") -> "Applied":
        """Both together."""
        return Applied(
            events=self.events + other.events,
            unheard=self.unheard + other.unheard,
            repeated=self.repeated + other.repeated,
            signals=self.signals + other.signals,
            rejected=self.rejected + other.rejected,
            messages=self.messages + other.messages,
            kinds=Counter(self.kinds) + Counter(other.kinds),
            refused=self.refused | other.refused,
            refused_from=self.refused_from | other.refused_from,
        )


def fact_of(
    event: Event,
    *,
    position: EventId,
    shown_at: datetime | None,
    since: tuple[EventId, datetime] | None = None,
) -> Fact | None:
    """What *event* tells of a message; None when it tells of none.

    *position* and *shown_at* are those of the listing that showed it; on the stream they are the
    event's own id, and None. *since* are those of the first such listing, if it was another.
    """
    if isinstance(event, Posted):
        return Showing(event, position, shown_at, since)
    if isinstance(event, Vanished) and shown_at is not None:
        return Absence(id=event.id, as_of=position, shown_at=shown_at)
    return event if isinstance(event, Mutation) else None


def vanished(id_: int, *, sent_at: datetime) -> Vanished:
    """What Show Message told at *sent_at*: there is no message of this id any more."""
    return Vanished(id=EventId(id_), flow=None, to=None, kind=NOT_FOUND, user=None, sent_at=sent_at)
