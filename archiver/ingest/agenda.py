"""Which part of which gap is asked for next; no I/O.

The ledger says what is missing; the agenda cuts it into *slices* that can be paged side by side,
hands out the newest first, and forgets them when the ledger is read again. So nothing needs to be
kept: a slice that failed or was interrupted is still a gap.

How wide a slice is follows from how dense the flow is, which is known once a page of it has been
seen: a private conversation may have ten messages among a billion ids. Until then a gap is one
slice. What lies further back may be sparser or denser: slices get wider when one held little, and
what one holds too much of is given back, to be cut anew. Where nothing is paged side by side, only
the newest of a flow is cut off, so that it comes before what is older in any; how sparse the rest
is costs nothing then.
"""

from collections.abc import Iterator, Mapping
from heapq import heapify, heappop

from msgspec import Struct
from msgspec.structs import replace

from archiver.domain.coverage import Ranges

SLICE_MESSAGES = 1000
"""About as many messages as one slice should hold: ten pages."""

MOST_SLICES = 64
"""Of one gap: where a flow gets sparser, slices are wider than its newest page tells."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 600.0


class Slice(Struct, frozen=True, order=True):
    """A range of ids of one flow; the lesser is asked for first."""

    age: int
    """How many ids it lies below the newest that were ever planned of the flow: the newest come
    first, in all flows."""
    flow_key: int
    first: int
    last: int


class _Rest(Struct, frozen=True):
    missing: Ranges
    failures: int
    failed_at: float
    until: float


class Agenda:
    """The slices to ask for; times are the event loop's seconds."""

    def __init__(self, *, side_by_side: bool = True) -> None:
        self._side_by_side = side_by_side
        self._open: list[Slice] = []
        self._under_way: set[Slice] = set()
        self._done: list[Slice] = []
        self._widths: dict[int, int] = {}
        self._newest: dict[int, int] = {}
        self._resting: dict[int, list[_Rest]] = {}

    @property
    def has_open(self) -> bool:
        """Tell whether something is to be asked for now."""
        return bool(self._open)

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing is left to ask for, and nothing is being asked for."""
        return not (self._open or self._under_way or self._done)

    def look(self) -> None:
        """Note that the ledger is read from now on."""
        self._done.clear()

    def plan(self, gaps: Mapping[int, Ranges], *, now: float) -> None:
        """Replace what is open by *gaps*, by flow key, as they were at the last `look`.

        What is under way or resting is left out, and so is what was done since that look: the gaps
        do not tell yet what became of it.
        """
        self._open = [
            one
            for flow_key, missing in gaps.items()
            if missing
            for one in self._slices(flow_key, missing - self._left_out(flow_key, now))
        ]
        heapify(self._open)

    def take(self) -> Slice | None:
        """The next slice to ask for, now under way; None when there is none."""
        if not self._open:
            return None
        taken = heappop(self._open)
        self._under_way.add(taken)
        return taken

    def done(self, taken: Slice) -> None:
        """Note that nobody asks for *taken* any more."""
        self._under_way.discard(taken)
        self._done.append(taken)

    def rest(self, flow_key: int, missing: Ranges, *, asked_at: float, now: float) -> float:
        """Let what could not be proven rest, longer each time; returns how long, in seconds.

        What had been asked for when the same ids failed last counts as the same failure: when the
        service is away, all that is under way fails. What has not failed again for long after its
        rest counts no more.
        """
        lately = now - LONGEST_PAUSE_SECONDS
        before = [one for one in self._resting.get(flow_key, ()) if one.until >= lately]
        failures = max(
            (one.failures + (one.failed_at <= asked_at) for one in before if one.missing & missing),
            default=1,
        )
        pause = min(FIRST_PAUSE_SECONDS * float(1 << min(failures - 1, 30)), LONGEST_PAUSE_SECONDS)
        others = [replace(one, missing=left) for one in before if (left := one.missing - missing)]
        self._resting[flow_key] = [*others, _Rest(missing, failures, now, now + pause)]
        return pause

    def is_known(self, flow_key: int) -> bool:
        """Tell whether the density of the flow is known."""
        return flow_key in self._widths

    def learn(self, flow_key: int, *, ids: int, messages: int) -> None:
        """Note that *messages* were found among so many *ids*."""
        if messages:
            self._widths[flow_key] = ids * SLICE_MESSAGES // messages

    def widen(self, flow_key: int, *, ids: int, messages: int) -> bool:
        """Note that a whole slice, so many *ids*, held no more than so many *messages*.

        Returns whether what is open is cut far too small by what is known now.
        """
        known = self._widths[flow_key]
        self._widths[flow_key] = max(known, ids * SLICE_MESSAGES // max(1, messages))
        return self._widths[flow_key] > 2 * known

    def _left_out(self, flow_key: int, now: float) -> Ranges:
        busy = (*self._under_way, *self._done)
        asked = [(one.first, one.last) for one in busy if one.flow_key == flow_key]
        for one in self._resting.get(flow_key, ()):
            if one.until > now:
                asked.extend(one.missing)
        return Ranges.of(asked)

    def _slices(self, flow_key: int, missing: Ranges) -> list[Slice]:
        if not missing:
            return []
        # Not the newest of this plan: else a flow would always have some that is as new as any.
        newest = max(missing.last, self._newest.get(flow_key, 0))
        self._newest[flow_key] = newest
        slices = []
        for first, last in missing:
            width = max(self._widths.get(flow_key, last), (last - first) // MOST_SLICES + 1)
            if not self._side_by_side and last < newest:
                width = last
            for start, end in self._cut(first, last, width):
                slices.append(Slice(newest - end, flow_key, start, end))
        return slices

    def _cut(self, first: int, last: int, width: int) -> Iterator[tuple[int, int]]:
        """Cut a range into pieces so wide, the newest first; or into the newest and the rest."""
        for end in range(last, first - 1, -width):
            start = max(first, end - width + 1)
            yield start, end
            if not self._side_by_side and start > first:
                yield first, start - 1
                return
