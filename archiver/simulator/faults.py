"""Faults to be injected, as data; `archiver.simulator.schedule` makes them happen and counts them.

A fault fires when all of its ``after_…`` are reached, up to *times* times. Bytes and events are
counted on each connection, since it was opened or the fault was added, whichever is later; requests
and seconds are counted since the fault was added. The newline that opens a stream does not count.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

Kind = Literal["cut", "cut_inside_character", "silence", "status", "repeat", "refuse",
               "drop", "reorder", "replay_late", "replay_early", "short", "hollow"]  # fmt: skip
Side = Literal["stream", "rest"]
How = Literal["abort", "reset", "end"]

_WHOLE = frozenset({"after_bytes", "after_events", "after_requests", "times", "frames", "status"})
_SECONDS = frozenset({"after_seconds", "seconds"})
_OPTIONAL = frozenset(
    {"after_bytes", "after_events", "after_requests", "after_seconds", "seconds", "retry_after",
     "body"}
)  # fmt: skip

_MOST = 10**9
"""Limit for any number; in seconds, it is about thirty years."""

ON_STREAMS = frozenset(
    {"cut_inside_character", "repeat", "drop", "reorder", "replay_late", "replay_early"}
)
ON_PAGES = frozenset({"short", "hollow"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault to be injected: what goes wrong, where and when.

    ========================  ================================================================
    ``cut``                   the connection ends after so many bytes or events, as *how* says
    ``cut_inside_character``  the same, between two bytes of the next wide character
    ``silence``               nothing more comes for *seconds*, or ever; it stays connected
    ``status``                the answer is *status*, with *retry_after*, *body* (HTML)
    ``repeat``                the last *frames* events come once more
    ``drop``                  one event is not sent, and nothing shows it
    ``reorder``               one event comes only after *frames* that follow it
    ``replay_late``           a replay (``Last-Event-ID``) leaves out its first *frames* events
    ``replay_early``          a replay begins *frames* events too early
    ``short``                 a page of messages ends after *frames*, though there are more
    ``hollow``                a page leaves out *frames* messages amid the others, or all it has
    ``refuse``                all connections drop, and new ones are refused for *seconds*
    ========================  ================================================================
    """

    kind: Kind
    name: str = ""
    """The name under which its firings are counted; by default, its kind."""
    on: Side = "stream"
    path: str = "*"
    """A pattern, as in a shell, that the path of the request must match."""
    after_bytes: int | None = None
    after_events: int | None = None
    after_requests: int | None = None
    after_seconds: float | None = None
    times: int = 1
    """How often it fires; 0 is without end."""
    seconds: float | None = None
    frames: int = 1
    how: How = "abort"
    """``abort`` drops the connection, ``reset`` resets it, ``end`` ends the response properly."""
    status: int = 503
    retry_after: str | None = None
    body: str | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("kind", Kind), ("on", Side), ("how", How)):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(f"fault: {name} is one of {', '.join(get_args(allowed))}")
        if self.on == "rest" and self.kind in ON_STREAMS:
            raise ValueError(f"fault: {self.kind} happens on a stream only")
        if self.on == "stream" and self.kind in ON_PAGES:
            raise ValueError(f"fault: {self.kind} happens to pages only; say on: rest")
        for name in ("name", "path", "retry_after", "body", *_WHOLE, *_SECONDS):
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL:
                _check(name, value)
        if not 200 <= self.status <= 599:
            raise ValueError("fault: status is a number from 200 to 599")
        if not self.name:
            object.__setattr__(self, "name", self.kind)


def _check(name: str, value: Any) -> None:
    if name in _WHOLE:
        if type(value) is not int or not 0 <= value <= _MOST:
            raise ValueError(f"fault: {name} is a whole number from 0 to {_MOST}")
    elif name in _SECONDS:
        if type(value) not in {int, float} or not 0 <= value <= _MOST:
            raise ValueError(f"fault: {name} is a number from 0 to {_MOST}")
    elif not isinstance(value, str):
        raise ValueError(f"fault: {name} is text")
    elif any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"fault: {name} has something that is not a letter")
    elif name == "retry_after" and not (value.isascii() and value.isprintable()):
        raise ValueError(f"fault: {name} is text that a header can hold")


def from_json(value: object) -> Fault:
    """Read one fault; raise ValueError with what is wrong with it."""
    if not isinstance(value, dict) or "kind" not in value:
        raise ValueError("fault: an object with a kind is expected")
    unknown = value.keys() - {each.name for each in fields(Fault)}
    if unknown:
        raise ValueError(f"fault: unknown keys {', '.join(sorted(unknown))}")
    return Fault(**value)
