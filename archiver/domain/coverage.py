"""Which ranges of ids are proven complete.

`Ranges` is a set of event ids, kept as disjoint ranges. `Continuity` watches what arrives on one
stream connection and computes which ids an unbroken connection proves: everything between the
first and the newest id seen in a flow. Its claims lag behind by the settling time, since events
may arrive out of order within that time: if the connection is cut meanwhile, nothing that was
still to come must have been claimed.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Self

from msgspec import Struct


class Ranges(Struct, frozen=True):
    """A set of ids, as sorted, disjoint, non-adjacent ranges; both ends belong to a range."""

    spans: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, spans: Iterable[tuple[int, int]]) -> Self:
        """The union of *spans*, which may be unsorted, overlapping or empty."""
        merged: list[tuple[int, int]] = []
        for first, last in sorted(span for span in spans if span[0] <= span[1]):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return cls(tuple(merged))

    def __or__(self, other: "Ranges") -> "Ranges":
        """The union."""
        if not (self.spans and other.spans):
            return self if self.spans else other
        return Ranges.of((*self.spans, *other.spans))

    def __sub__(self, other: "Ranges") -> "Ranges":
        """The ids in this set that are not in *other*."""
        if not (self.spans and other.spans):
            return self
        left: list[tuple[int, int]] = []
        gone, at = other.spans, 0
        for first, last in self.spans:
            # Both are sorted: a range that ends before this one ends before all later ones, too.
            while at < len(gone) and gone[at][1] < first:
                at += 1
            start = first
            while at < len(gone) and gone[at][0] <= last:
                left.append((start, gone[at][0] - 1))
                start = gone[at][1] + 1
                if start > last:
                    break  # do not skip it: it may extend into the next range
                at += 1
            left.append((start, last))
        return Ranges.of(left)

    def __and__(self, other: "Ranges") -> "Ranges":
        """The ids that are in both sets."""
        return self - (self - other)

    def __contains__(self, id_: int) -> bool:
        """Tell whether *id_* belongs to the set."""
        if len(self.spans) == 1:  # nearly always, on the hot path
            ((first, last),) = self.spans
            return first <= id_ <= last
        after = bisect_left(self.spans, (id_ + 1,))
        return after > 0 and id_ <= self.spans[after - 1][1]

    def __bool__(self) -> bool:
        """Tell whether there is anything in the set."""
        return bool(self.spans)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The ranges, lowest first."""
        return iter(self.spans)

    @property
    def first(self) -> int:
        """The lowest id of a set that is not empty."""
        return self.spans[0][0]

    @property
    def last(self) -> int:
        """The highest id of a set that is not empty."""
        return self.spans[-1][1]

    def size(self) -> int:
        """How many ids the set holds."""
        return sum(last - first + 1 for first, last in self.spans)


class Continuity:
    """What one unbroken connection proves about one flow.

    It is fed in the order of arrival, with times in seconds of a monotonic clock. What arrives
    before *since* does not start a claim: it may belong to a replay that is incomplete.
    """

    def __init__(self, *, since: float) -> None:
        self._since = since
        self._first: int | None = None
        self._newest = 0
        self._waiting: deque[tuple[float, int]] = deque()
        self._left_out: list[tuple[float, int]] = []

    @property
    def has_begun(self) -> bool:
        """Tell whether it claims anything."""
        return self._first is not None

    def arrived(self, id_: int, *, at: float) -> None:
        """Record that the event or signal *id_* arrived and is kept."""
        if at < self._since:
            return
        if self._first is None:
            self._first = id_
        if id_ > self._newest:
            self._newest = id_
            _append(self._waiting, at, id_)

    def leave_out(self, id_: int, *, at: float) -> None:
        """Exclude *id_*, which arrived, from what is claimed."""
        if self._first is None or id_ >= self._first:  # what is below is never claimed again
            self._left_out.append((at, id_))

    def settled(self, *, before: float) -> Ranges:
        """The ids proven by arrivals up to *before*, without those that earlier calls returned."""
        if self._first is None:
            self._left_out = [(at, id_) for at, id_ in self._left_out if at > before]
            return Ranges()
        last = None
        while self._waiting and self._waiting[0][0] <= before:
            last = self._waiting.popleft()[1]
        if last is None:
            return Ranges()
        # Whenever they arrived: a lower id may arrive later, and the claim then begins with it.
        left_out = Ranges.of((id_, id_) for _, id_ in self._left_out)
        self._left_out = [(at, id_) for at, id_ in self._left_out if id_ > last]
        first, self._first = self._first, last + 1
        return Ranges(((first, last),)) - left_out


class Head:
    """The newest known id of a flow, and the newest that has been known for some time.

    A message becomes listable about a second after it is sent, so ids that have been known for
    less than the settling time are neither due for a listing nor proven by one.
    """

    def __init__(self) -> None:
        self.newest = 0
        self._settled = 0
        self._seen: deque[tuple[float, int]] = deque()

    def seen(self, id_: int, *, at: float) -> None:
        """Record that the flow had reached *id_* at the time *at*."""
        if id_ > self.newest:
            self.newest = id_
            _append(self._seen, at, id_)

    def settled(self, *, before: float) -> int:
        """The newest id that was known by *before*; 0 when none was."""
        while self._seen and self._seen[0][0] <= before:
            self._settled = self._seen.popleft()[1]
        return self._settled


def _append(seen: deque[tuple[float, int]], at: float, id_: int) -> None:
    """Append *id_*, the newest so far; it replaces an entry of the same time."""
    if seen and seen[-1][0] == at:
        seen[-1] = (at, id_)
    else:
        seen.append((at, id_))
