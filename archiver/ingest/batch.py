"""What is archived in one transaction."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from archiver.domain.coverage import Ranges
from archiver.domain.events import Decoded, Event, Mutation, Noted, Posted, Rejected, Vanished
from archiver.domain.facts import Absence, Fact, Showing
from archiver.domain.model import EventId
from archiver.store.bulk import Key
from archiver.store.coverage import PageRow, Standing
from archiver.store.erasure import WHOLE
from archiver.store.journal import Witness

NOT_FOUND = "not found"
"""The kind of event that the journal records when Show Message answers 404."""


class Arrival(Struct, frozen=True, gc=False):
    """One frame, what it was decoded to, and how it came.

    Streams and pages pass the fields by position, for speed.
    """

    frame: bytes
    decoded: Decoded
    flow_key: int | None
    """None when it names no flow; an event always has one."""
    witness: Witness
    origin: str
    """The stream, page or file that it came from, for people."""
    received_at: datetime
    listed_as_of: EventId | None = None
    """In a listing or a file: the newest id its flow was then known to have; None on a stream."""
    digest: bytes | None = None
    """Of what was received, where the frame is what an erasure in another archive left of it."""

    @property
    def id(self) -> EventId | None:
        """The id that it has in its flow, if any."""
        return None if isinstance(self.decoded, Rejected) else self.decoded.id

    @property
    def shown_at(self) -> datetime | None:
        """When a listing showed it; None on a stream, and in an imported file of unknown date."""
        was_asked_for = self.listed_as_of is not None and self.witness != "import"
        return self.received_at if was_asked_for else None


class Batch(Struct, frozen=True, kw_only=True):
    """Frames to archive, and what is proven once they are kept."""

    now: datetime
    arrivals: Sequence[Arrival] = ()
    gains: Mapping[int, Standing] = {}
    """By flow key: what is proven once `arrivals` are kept."""
    opened: frozenset[int] = frozenset()
    """Keys of flows whose streams were opened, after `gains` were proven and before `arrivals`."""
    pages: Sequence[PageRow] = ()
    is_dated: bool = False
    """The listings keep the times that another archive gave them, however late they are written."""

    def flow_keys(self) -> set[int]:
        """The keys of the flows that it writes to."""
        named = {arrival.flow_key for arrival in self.arrivals if arrival.flow_key is not None}
        return named | self.gains.keys() | self.opened

    def targets(self) -> set[Key]:
        """The keys of the messages that it changes."""
        return {
            (arrival.flow_key, decoded.target)
            for arrival in self.arrivals
            # The first test is the fast one, and spares most arrivals the second.
            if type(decoded := arrival.decoded) is not Posted and isinstance(decoded, Mutation)
            if arrival.flow_key is not None
        }

    def listed(self) -> dict[int, Ranges]:
        """By flow key: what pages prove."""
        return {flow_key: gain.listed for flow_key, gain in self.gains.items() if gain.listed}


def parted(batch: Batch, parts: int) -> list[Batch]:
    """Split *batch* by flow into so many parts; arrivals without a flow go into the first."""
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
    """Forms of events that were new to the journal."""
    unheard: int = 0
    """Of these, how many are of events that the journal held in no form."""
    repeated: int = 0
    signals: int = 0
    rejected: int = 0
    messages: int = 0
    """How many messages' rows were added or changed."""
    kinds: Mapping[tuple[str, str], int] = {}
    """`events`, counted by kind and witness."""
    refused: frozenset[tuple[int, int]] = frozenset()
    """Flow key and id of events that Postgres refused; they are kept among the rejects."""
    refused_from: frozenset[str] = frozenset()
    """The origins of the events that Postgres refused."""

    def __add__(self, other: "Applied") -> "Applied":
        """The sum of both."""
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
    """The fact about a message that *event* states; None if it is about no message.

    *position* and *shown_at* are those of the listing that showed it; for an event of a stream they
    are its own id, and None. *since* holds those of the first listing that showed it, if another.
    """
    if isinstance(event, Posted):
        return Showing(event, position, shown_at, since)
    if isinstance(event, Vanished) and shown_at is not None:
        return Absence(id=event.id, as_of=position, shown_at=shown_at)
    return event if isinstance(event, Mutation) else None


def erased(id_: int) -> Noted:
    """The event in place of one that was erased as a whole."""
    return Noted(id=EventId(id_), flow=None, to=None, kind=WHOLE, user=None, sent_at=None)


def vanished(id_: int, *, sent_at: datetime) -> Vanished:
    """The event for a 404 of Show Message at *sent_at*: the message of this id is gone."""
    return Vanished(id=EventId(id_), flow=None, to=None, kind=NOT_FOUND, user=None, sent_at=sent_at)
