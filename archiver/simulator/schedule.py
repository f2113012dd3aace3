"""The schedule of faults: makes each happen when it is due, and counts its firings."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from archiver.simulator.faults import ON_PAGES, Fault, Side

KEEPALIVES = frozenset({b"", b"\n", b":\n"})
REPLAYS = frozenset({"replay_late", "replay_early"})


@dataclass(slots=True)
class _Progress:
    """How far one connection has come, as one fault counts."""

    recent: deque[bytes]
    bytes: int = 0
    events: int = 0


@dataclass(slots=True, eq=False)
class _Armed:
    fault: Fault
    added_at: float
    requests: int = 0
    fired: int = 0
    progress: dict[object, _Progress] = field(default_factory=dict)

    def is_spent(self) -> bool:
        return bool(self.fault.times) and self.fired >= self.fault.times

    def concerns(self, side: Side, path: str) -> bool:
        fault = self.fault
        return not self.is_spent() and fault.on == side and fnmatchcase(path, fault.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What happens to one frame: *chunk* is written, then *fault* happens, if any."""

    chunk: bytes
    fault: Fault | None = None


class Faults:
    """The schedule. *now* returns the time in seconds.

    Functions in ``on_refuse`` are called to close a side for some seconds; those in ``on_change``,
    when the schedule has changed or a fault may be due.
    """

    def __init__(self, *, now: Callable[[], float]) -> None:
        self.on_change: list[Callable[[], None]] = []
        self.on_refuse: list[Callable[[Side, float], None]] = []
        self.withheld: list[bytes] = []
        """What was silently withheld from clients: frames, elements of pages."""
        self._armed: list[_Armed] = []
        self._history: Counter[str] = Counter()
        self._now = now

    @property
    def fired(self) -> Mapping[str, int]:
        """How often each fault has fired, by name; 0 for one that has not yet."""
        return dict(self._history)

    def add(self, fault: Fault) -> Fault:
        """Put *fault* on the schedule, from now on."""
        armed = _Armed(fault, self._now())
        self._armed.append(armed)
        self._history[fault.name] += 0
        counted = (fault.after_bytes, fault.after_events, fault.after_requests)
        loop = asyncio.get_running_loop()
        if fault.kind == "refuse" and counted == (None, None, None):
            loop.call_later(fault.after_seconds or 0, self._fire_unprompted, armed)
        elif fault.after_seconds:
            loop.call_later(fault.after_seconds, self._changed)
        self._changed()
        return fault

    def clear(self) -> None:
        """Take every fault off the schedule; what has fired stays counted."""
        self._armed.clear()
        self._changed()

    def describe(self) -> list[dict[str, Any]]:
        """Return each fault on the schedule, as JSON, with how often it fired."""
        return [asdict(armed.fault) | {"fired": armed.fired} for armed in self._armed]

    def concern_stream(self, path: str) -> bool:
        """Tell whether any fault can affect what is written to a stream at *path*."""
        return any(armed.concerns("stream", path) for armed in self._armed)

    def concern_pages(self, path: str) -> bool:
        """Tell whether any fault can affect a page of messages at *path*."""
        return any(
            armed.concerns("rest", path) and armed.fault.kind in ON_PAGES for armed in self._armed
        )

    def on_request(self, side: Side, path: str) -> Fault | None:
        """Count a request; return the fault that affects it at once, if any.

        On a stream, only ``status`` and ``refuse`` affect the request itself.
        """
        for armed in [armed for armed in self._armed if armed.concerns(side, path)]:
            armed.requests += 1
            fault = armed.fault
            if fault.kind in ON_PAGES:
                continue
            at_once = side == "rest" or fault.kind in {"status", "refuse"}
            if at_once and fault.after_events is None and self._is_time(armed):
                self._fire(armed)
                return fault
        return None

    def on_replay(self, path: str, missed: int) -> int:
        """Return by how many events a replay of *missed* events starts late; negative for early."""
        for armed in self._armed:
            fault = armed.fault
            if not armed.concerns("stream", path) or fault.kind not in REPLAYS:
                continue
            if self._is_time(armed) and (missed or fault.kind == "replay_early"):
                self._fire(armed)
                return fault.frames if fault.kind == "replay_late" else -fault.frames
        return 0

    def on_page(self, path: str, page: Sequence[bytes], *, ascending: bool) -> list[bytes] | None:
        """Return what a fault leaves of *page*; None if no fault takes anything away."""
        for armed in self._armed:
            fault = armed.fault
            if not armed.concerns("rest", path) or fault.kind not in ON_PAGES:
                continue
            if not self._is_time(armed) or len(page) <= (fault.kind == "short") * fault.frames:
                continue
            self._fire(armed)
            if fault.kind == "short":
                kept = max(1, fault.frames)
                return list(page[:kept] if ascending else page[-kept:])
            first = max(0, (len(page) - fault.frames) // 2)
            self.withheld.extend(page[first : first + fault.frames])
            return [*page[:first], *page[first + fault.frames :]]
        return None

    def on_stream(self, connection: object, path: str, frame: bytes) -> Verdict:
        """Decide what happens to *frame*, the next one to be written to *connection*."""
        verdict = Verdict(chunk=frame)
        for armed in self._waiting(path):
            progress = armed.progress.get(connection)
            if progress is None:
                progress = _Progress(deque(maxlen=max(1, armed.fault.frames)))
                armed.progress[connection] = progress
            sentence = self._judge(armed, progress, frame) if verdict.fault is None else None
            progress.bytes += len(frame)
            if sentence is not None:
                self._fire(armed)
                verdict = sentence
                if armed.fault.kind == "drop":
                    self.withheld.append(frame)
        return verdict

    def forget(self, connection: object) -> None:
        """Drop the counts of a connection that is closed."""
        for armed in self._armed:
            armed.progress.pop(connection, None)

    def _waiting(self, path: str) -> Iterator[_Armed]:
        for armed in list(self._armed):
            elsewhere = REPLAYS | {"status"}
            if armed.concerns("stream", path) and armed.fault.kind not in elsewhere:
                yield armed

    def _judge(self, armed: _Armed, progress: _Progress, frame: bytes) -> Verdict | None:
        fault = armed.fault
        if frame not in KEEPALIVES:
            progress.events += 1
            progress.recent.append(frame)
        first = max(0, (fault.after_bytes or 0) - progress.bytes)
        if progress.events < (fault.after_events or 0) or first > len(frame):
            return None
        if not self._is_time(armed):
            return None
        return _happening(fault, frame, first, progress.recent)

    def _is_time(self, armed: _Armed) -> bool:
        fault = armed.fault
        if fault.after_requests is not None and armed.requests <= fault.after_requests:
            return False
        return self._now() - armed.added_at >= (fault.after_seconds or 0)

    def _fire(self, armed: _Armed) -> None:
        armed.fired += 1
        self._history[armed.fault.name] += 1
        if armed.fault.kind == "refuse":
            for refuse in self.on_refuse:
                refuse(armed.fault.on, armed.fault.seconds or 1.0)

    def _fire_unprompted(self, armed: _Armed) -> None:
        if armed in self._armed and not armed.is_spent():
            self._fire(armed)

    def _changed(self) -> None:
        for callback in self.on_change:
            callback()


def _happening(fault: Fault, frame: bytes, first: int, recent: Iterable[bytes]) -> Verdict | None:
    """Decide what *fault*, due from byte *first* of *frame* on, does to it; None for nothing."""
    match fault.kind:
        case "cut" if fault.after_bytes is not None:
            return Verdict(chunk=frame[:first], fault=fault)
        case "cut_inside_character":
            place = next((at for at in range(first, len(frame)) if frame[at] >= 0xC0), None)
            return None if place is None else Verdict(chunk=frame[: place + 1], fault=fault)
        case "repeat" | "drop" | "reorder" if frame in KEEPALIVES:
            return None
        case "drop":
            return Verdict(chunk=b"", fault=fault)
        case "repeat":
            return Verdict(chunk=frame + b"".join(recent), fault=fault)
        case _:
            return Verdict(chunk=frame, fault=fault)
