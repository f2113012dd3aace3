"""What is sent to the streams, in order: each event is encoded once, the newest kept for replay."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

_PREFIX = "flo-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One event on its way to the listeners.

    It is for the streams that follow *flow*, for those with ``user=1`` of one of *users*, and, when
    *presence*, for those that asked for ``presence=1``.
    """

    cursor: int
    flow: str | None
    users: frozenset[int]
    presence: bool
    json_frame: bytes
    event_frame: bytes


class StreamLog:
    """All that was streamed since the start, numbered; the last *window* events can be replayed."""

    def __init__(self, window: int) -> None:
        self.published = 0
        """How many events were published so far: the cursor of the newest."""
        self.muted = False
        """Whether nothing is published at present."""
        self.listeners: list[Callable[[Published], None]] = []
        self._kept: deque[Published] = deque(maxlen=window)

    def publish(
        self,
        body: bytes,
        *,
        flow: str | None,
        users: frozenset[int] = frozenset(),
        presence: bool = False,
    ) -> None:
        """Give *body* (one JSON object; or any bytes, to poison a stream) to all listeners."""
        if self.muted:
            return
        self.published += 1
        event = Published(
            cursor=self.published,
            flow=flow,
            users=users,
            presence=presence,
            json_frame=body + b"\r\n",
            event_frame=b"id: %s\ndata: %s\n\n" % (event_id(self.published).encode(), body),
        )
        self._kept.append(event)
        for listener in self.listeners:
            listener(event)

    def since(self, cursor: int) -> Iterator[Published]:
        """Yield what was published after *cursor* and is still kept, oldest first."""
        unwanted = cursor - (self.published - len(self._kept))
        return islice(self._kept, max(0, min(unwanted, len(self._kept))), None)


def event_id(cursor: int) -> str:
    """Return the event-stream id of an event: opaque text that cannot be taken for a number."""
    return f"{_PREFIX}{cursor * 0x9E3779B1 % 2**32:08x}.{cursor:x}"


def cursor_of(text: str) -> int | None:
    """Return the cursor that an event-stream id stands for; None for an id never given out."""
    try:
        cursor = int(text.rpartition(".")[2], 16)
    except ValueError:
        return None
    return cursor if event_id(cursor) == text else None
