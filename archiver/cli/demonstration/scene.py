"""What the demonstration has seen of the growing archive, updated by each look at it."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from archiver.domain.model import is_private
from archiver.store.showing import FlowShown, Happening

RATE_SECONDS = 2.5
"""The rate is the average over this time."""
KEPT_HAPPENINGS = 60
CLOSED_SECONDS = 4.0
"""How long a gap that was closed is still shown."""
CHAT = frozenset({"message", "comment", "status", "line", "file"})
EDIT = "message-edit"
REMOVAL = "message-delete"

Span = tuple[str, int, int]
"""A gap: flow, first and last id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of the table: a flow, or all private conversations together."""

    name: str
    messages: int
    events: int
    proven: float
    """The share of its ids that is proven."""
    gaps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GapShown:
    """A gap, and when it was found and closed."""

    flow: str
    first: int
    last: int
    found_at: float
    closed_at: float | None = None


@dataclass(slots=True, kw_only=True)
class Scene:
    """All that the screen shows; times are seconds since the demonstration began."""

    seconds: float
    """How long it is to last."""
    phase: str = "starting"
    now: float = 0.0
    streams: int = 0
    lines: tuple[Line, ...] = ()
    gaps: dict[Span, GapShown] = field(default_factory=dict)
    happenings: dict[tuple[int, int], Happening] = field(default_factory=dict)
    """By flow key and message; the newest last."""
    gaps_closed: int = 0
    cut_at: float | None = None
    _totals: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def events(self) -> int:
        """All events archived."""
        return sum(line.events for line in self.lines)

    @property
    def messages(self) -> int:
        """All messages archived."""
        return sum(line.messages for line in self.lines)

    @property
    def open_gaps(self) -> list[GapShown]:
        """The gaps that are open, the newest found first."""
        found = [gap for gap in self.gaps.values() if gap.closed_at is None]
        return sorted(found, key=lambda gap: (-gap.found_at, gap.flow, -gap.last))

    @property
    def proven(self) -> float:
        """The proven share of ids, as an average over the flows."""
        return sum(line.proven for line in self.lines) / max(1, len(self.lines))

    @property
    def events_per_second(self) -> float:
        """How fast the archive has grown lately."""
        if len(self._totals) < 2:
            return 0.0
        (began, before), (ended, after) = self._totals[0], self._totals[-1]
        return (after - before) / max(0.1, ended - began)

    def look(
        self, shown: Sequence[FlowShown], happened: Iterable[Happening], *, now: float
    ) -> None:
        """Update the scene with the archive as it is at the time *now*."""
        self.now = now
        self.lines = tuple(_lines(shown))
        self._follow_gaps(shown)
        for one in happened:
            self._follow(one)
        self._totals.append((now, self.events))
        while self._totals[0][0] < now - RATE_SECONDS:
            self._totals.popleft()

    def _follow_gaps(self, shown: Sequence[FlowShown]) -> None:
        """Find out which gaps are new or closed; a gap that overlaps an earlier one is the same."""
        before = self.open_gaps
        after: dict[Span, GapShown] = {}
        met: set[Span] = set()
        for flow in shown:
            for first, last in flow.gaps:
                same = [
                    gap
                    for gap in before
                    if gap.flow == flow.path and gap.first <= last and first <= gap.last
                ]
                met.update((gap.flow, gap.first, gap.last) for gap in same)
                found_at = min((gap.found_at for gap in same), default=self.now)
                after[flow.path, first, last] = GapShown(
                    flow=flow.path, first=first, last=last, found_at=found_at
                )
        for span, gap in self.gaps.items():
            if gap.closed_at is None and span not in met:
                self.gaps_closed += 1
                after[span] = replace(gap, closed_at=self.now)
            elif gap.closed_at is not None and self.now - gap.closed_at < CLOSED_SECONDS:
                after.setdefault(span, gap)
        self.gaps = after

    def _follow(self, one: Happening) -> None:
        if one.kind not in CHAT or one.event not in CHAT | {EDIT, REMOVAL}:
            return
        key = one.flow_key, one.message_id
        self.happenings.pop(key, None)
        self.happenings[key] = one
        while len(self.happenings) > KEPT_HAPPENINGS:
            del self.happenings[next(iter(self.happenings))]


TALKS = "private"
"""The name of the line that all private conversations share."""


def _lines(shown: Sequence[FlowShown]) -> Iterator[Line]:
    private = [flow for flow in shown if is_private(flow.path)]
    for flow in shown:
        if not is_private(flow.path):
            yield _line(flow.path, [flow])
    if private:
        yield _line(TALKS, private)


def _line(name: str, flows: Sequence[FlowShown]) -> Line:
    shares = [flow.proven / flow.standing.due for flow in flows if flow.standing.due]
    return Line(
        name=name,
        messages=sum(flow.messages for flow in flows),
        events=sum(flow.events for flow in flows),
        proven=sum(shares) / len(flows),
        gaps=sum(len(flow.gaps.spans) for flow in flows),
    )
