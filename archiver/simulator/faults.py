"""What shall go wrong, as data; and the schedule that lets it happen and counts it.

A fault fires when all of its ``after_…`` are reached, *times* times. Bytes and events are counted
on each connection, from when it was opened or the fault was added, whichever is later; requests and
seconds from when the fault was added. The newline that opens a stream does not count.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

Kind = Literal["cut", "cut_inside_character", "silence", "status", "repeat", "refuse"]
Side = Literal["stream", "rest"]
How = Literal["abort", "reset", "end"]

_NUMBERS = ("after_bytes", "after_events", "after_requests", "after_seconds", "times", "seconds",
            "frames", "status")  # fmt: skip

KEEPALIVES = frozenset({b"", b"\n", b":\n"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that shall go wrong, where and when.

    ========================  ================================================================
    ``cut``                   the connection ends after so many bytes or events, *how* as told
    ``cut_inside_character``  the same, between two bytes of the next wide character
    ``silence``               nothing more comes for *seconds*, or ever; it stays connected
    ``status``                the answer is *status*, with *retry_after*, *body* (HTML)
    ``repeat``                the last *frames* events come once more
    ``refuse``                all connections drop, and new ones are refused for *seconds*
    ========================  ================================================================
    """

    kind: Kind
    name: str = ""
    """By what its firings are counted; its kind unless told."""
    on: Side = "stream"
    path: str = "*"
    """A pattern of the shell that the path of the request must match."""
    after_bytes: int | None = None
    after_events: int | None = None
    after_requests: int | None = None
    after_seconds: float | None = None
    times: int = 1
    """How often it fires; 0 is without end."""
    seconds: float | None = None
    frames: int = 1
    how: How = "abort"
    """``abort`` drops the connection, ``reset`` resets it, ``end`` ends it in good order."""
    status: int = 503
    retry_after: str | None = None
    body: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("kind", Kind), ("on", Side), ("how", How)):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"fault: {name} is one of {', '.join(get_args(allowed))}")
        if self.on == "rest" and self.kind in {"repeat", "cut_inside_character"}:
            raise ValueError(f"fault: {self.kind} happens on a stream only")
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int | float) or value < 0):
                raise ValueError(f"fault: {name} is a number, not below 0")
        if not self.name:
            object.__setattr__(self, "name", self.kind)


def from_json(value: object) -> Fault:
    """Read one fault; raise ValueError that says what is wrong with it."""
    if not isinstance(value, dict) or "kind" not in value:
        raise ValueError("fault: an object with a kind is expected")
    unknown = value.keys() - {each.name for each in fields(Fault)}
    if unknown:
        raise ValueError(f"fault: unknown keys {', '.join(sorted(unknown))}")
    return Fault(**value)


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
    """What becomes of one frame: *chunk* is written, then *fault* happens, if any."""

    chunk: bytes
    fault: Fault | None = None


class Faults:
    """The schedule. *now* says the time in seconds.

    Who closes a side for some seconds (``refuse``), and who waits for new faults, sets ``on_…``.
    """

    def __init__(self, *, now: Callable[[], float]) -> None:
        self.on_change: list[Callable[[], None]] = []
        self.on_refuse: list[Callable[[Side, float], None]] = []
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
        """Tell whether any fault waits for what is written to a stream at *path*."""
        return any(armed.concerns("stream", path) for armed in self._armed)

    def on_request(self, side: Side, path: str) -> Fault | None:
        """Count a request; return the fault that it meets at once, if any.

        On a stream only ``status`` and ``refuse`` happen to the request itself.
        """
        for armed in [armed for armed in self._armed if armed.concerns(side, path)]:
            armed.requests += 1
            fault = armed.fault
            at_once = side == "rest" or fault.kind in {"status", "refuse"}
            if at_once and fault.after_events is None and self._is_time(armed):
                self._fire(armed)
                return fault
        return None

    def on_stream(self, connection: object, path: str, frame: bytes) -> Verdict:
        """Tell what becomes of *frame*, the next to be written to *connection*."""
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
        return verdict

    def forget(self, connection: object) -> None:
        """Drop what was counted for a connection that is gone."""
        for armed in self._armed:
            armed.progress.pop(connection, None)

    def _waiting(self, path: str) -> Iterator[_Armed]:
        for armed in list(self._armed):
            if armed.concerns("stream", path) and armed.fault.kind != "status":
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
    """Tell what *fault*, due from byte *first* of *frame* on, makes of it; None: nothing."""
    match fault.kind:
        case "cut" if fault.after_bytes is not None:
            return Verdict(chunk=frame[:first], fault=fault)
        case "cut_inside_character":
            place = next((at for at in range(first, len(frame)) if frame[at] >= 0xC0), None)
            return None if place is None else Verdict(chunk=frame[: place + 1], fault=fault)
        case "repeat" if frame in KEEPALIVES:
            return None
        case "repeat":
            return Verdict(chunk=frame + b"".join(recent), fault=fault)
        case _:
            return Verdict(chunk=frame, fault=fault)
