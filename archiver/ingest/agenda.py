"""Which part of which gap is requested next; no I/O.

The ledger says what is missing. The agenda cuts it into *slices* that can be paged in parallel,
hands out the newest first, and replaces them whenever the ledger is read again. So nothing needs to
be stored: a slice that failed or was interrupted is still a gap.

The width of a slice depends on the density of the flow, since a private conversation may have ten
messages among a billion ids. The density is known once one page has been seen; until then a gap is
one slice. Further back the flow may be sparser or denser: slices get wider when one held few
messages, and the rest of a slice that holds too many is given back and cut again.

Without parallel paging, a gap at the newest end of its flow is cut into its newest slice and the
rest, so that the newest of every flow comes before older ids of any. All other gaps are one slice.
"""

from collections.abc import Iterator, Mapping
from heapq import heapify, heappop

from msgspec import Struct
from msgspec.structs import replace

from archiver.domain.coverage import Ranges

SLICE_MESSAGES = 1000
"""About how many messages one slice should hold: ten pages."""

MOST_SLICES = 64
"""The most slices of one gap: where a flow gets sparser further back, slices may be wider."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 600.0


class Slice(Struct, frozen=True, order=True):
    """A range of ids of one flow; slices sort in the order in which they are requested."""

    age: int
    """How many ids it lies below the newest id ever planned of its flow; so the newest slices of
    all flows come first."""
    flow_key: int
    first: int
    last: int


class _Rest(Struct, frozen=True):
    missing: Ranges
    failures: int
    failed_at: float
    until: float


class Agenda:
    """The slices to request; times are the event loop's seconds."""

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
        """Tell whether a slice can be taken now."""
        return bool(self._open)

    @property
    def is_empty(self) -> bool:
        """Tell whether no slice is open, under way, or done since the last `look`."""
        return not (self._open or self._under_way or self._done)

    def look(self) -> None:
        """Note that the ledger is about to be read."""
        self._done.clear()

    def plan(self, gaps: Mapping[int, Ranges], *, now: float) -> None:
        """Replace the open slices by those of *gaps*, by flow key, as of the last `look`.

        Slices under way and ranges in backoff are left out. So are slices done since that look,
        because *gaps* may not show yet what they proved.
        """
        self._open = [
            one
            for flow_key, missing in gaps.items()
            if missing
            for one in self._slices(flow_key, missing - self._left_out(flow_key, now))
        ]
        heapify(self._open)

    def take(self) -> Slice | None:
        """The next slice to request, now under way; None when there is none."""
        if not self._open:
            return None
        taken = heappop(self._open)
        self._under_way.add(taken)
        return taken

    def done(self, taken: Slice) -> None:
        """Note that work on *taken* has ended, whatever became of it."""
        self._under_way.discard(taken)
        self._done.append(taken)

    def rest(self, flow_key: int, missing: Ranges, *, asked_at: float, now: float) -> float:
        """Leave alone what could not be proven; returns for how many seconds.

        The backoff doubles with each failure of the same ids. A request made before their last
        failure does not count again, since an outage fails all requests under way. A failure is
        forgotten `LONGEST_PAUSE_SECONDS` after its backoff has ended.
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
        """Note the density of a flow: *messages* were found among so many *ids*."""
        if messages:
            self._widths[flow_key] = ids * SLICE_MESSAGES // messages

    def widen(self, flow_key: int, *, ids: int, messages: int) -> bool:
        """Note that a whole slice of so many *ids* held only so many *messages*.

        Returns whether the open slices turn out to be far too narrow.
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
        # Not the newest of this plan: otherwise every flow would always have a slice of age 0.
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
        """Cut a range into pieces so wide, newest first.

        Without parallel paging, cut it into its newest piece and the rest.
        """
        for end in range(last, first - 1, -width):
            start = max(first, end - width + 1)
            yield start, end
            if not self._side_by_side and start > first:
                yield first, start - 1
                return
