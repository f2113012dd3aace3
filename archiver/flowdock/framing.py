"""Cuts bytes into frames, for both content types of the stream, without I/O.

A framer is fed the chunks of one connection and returns the frames that each chunk completes. How
the bytes are divided into chunks makes no difference. Frames are bytes, decoded only after cutting,
since a chunk may end in the middle of a character. The buffer for an unfinished frame is bounded: a
frame longer than the limit is truncated.
"""

import re

from archiver.flowdock.envelope import without_escapes

MAX_FRAME_BYTES = 64 * 1024 * 1024
MAX_EVENT_ID_BYTES = 1024
_BOM = b"\xef\xbb\xbf"
_FIELD_BYTES = len(b"data: ")
_STRING = re.compile(rb'"[^"]*+"')


class _Unfinished:
    """A buffer for a piece that has no end yet, up to a limit."""

    __slots__ = ("_bytes", "_limit", "cut")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = bytearray()
        self.cut = False
        """Whether more came than the limit allows."""

    def __len__(self) -> int:
        return len(self._bytes)

    def hold(self, piece: bytes) -> None:
        room = self._limit - len(self._bytes)
        if len(piece) > room:
            self.cut = True
            piece = piece[:room]
        self._bytes += piece

    def take(self) -> bytes:
        whole = bytes(self._bytes)
        self._bytes = bytearray()
        self.cut = False
        return whole


class JsonFramer:
    """Frames of the JSON stream: objects ended by a carriage return (streaming documentation).

    White space around an object, such as keep-alive newlines, does not belong to a frame.
    """

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self._limit = limit
        self._rest = _Unfinished(limit)
        self.truncated = 0
        """How many frames were longer than the limit."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the frames that *chunk* completes."""
        pieces = chunk.split(b"\r")
        last = pieces.pop()
        frames: list[bytes] = []
        if pieces:
            if self._rest:
                self._hold(pieces[0])
                pieces[0] = self._take()
            if len(chunk) > self._limit:
                pieces = [self._bounded(piece) for piece in pieces]
            frames = [frame for frame in map(bytes.strip, pieces) if frame]
        if last:
            self._hold(last)
        return frames

    def _hold(self, piece: bytes) -> None:
        """Buffer *piece*, without keep-alives before a frame: any number of them may come."""
        self._rest.hold(piece if self._rest else piece.lstrip())

    def _take(self) -> bytes:
        self.truncated += self._rest.cut
        return self._rest.take()

    def _bounded(self, piece: bytes) -> bytes:
        piece = piece.lstrip()
        self.truncated += len(piece) > self._limit
        return piece[: self._limit]


class EventStreamFramer:
    """Frames of the event stream: the data of Server-Sent Events (HTML specification, 9.2.6).

    The data lines of an event are joined by newlines. Names of events are ignored, since Flowdock
    sends none. An event without data, or with blank data, is not a frame.
    """

    def __init__(self, limit: int = MAX_FRAME_BYTES, *, last_event_id: str = "") -> None:
        self._limit = limit
        # One byte more than a line of data or an id may have, so that a longer one is noticed.
        self._line = _Unfinished(max(limit, MAX_EVENT_ID_BYTES) + _FIELD_BYTES + 1)
        self._data: bytes | bytearray | None = None
        self._cut = False
        self._id = last_event_id.encode()
        self._last_event_id = self._id
        self._after_cr = False
        self._start: bytes | None = b""
        self.retry_seconds: float | None = None
        """How long the server asks clients to wait before they connect again."""
        self.truncated = 0
        """How many frames were longer than the limit."""

    @property
    def last_event_id(self) -> str:
        """The id of the last finished event: opaque text, to be sent back as ``Last-Event-ID``."""
        return self._last_event_id.decode(errors="replace")

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the frames that *chunk* completes."""
        if self._start is not None:
            chunk = self._without_bom(chunk)
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if not chunk:
            return []
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = chunk.split(b"\n")
        if lines and self._line:
            self._line.hold(lines[0])
            lines[0] = self._line.take()
        if rest:
            self._line.hold(rest)
        return self._read(lines)

    def _read(self, lines: list[bytes]) -> list[bytes]:
        frames: list[bytes] = []
        for line in lines:
            if not line:
                self._finish(frames)
            elif line.startswith(b"data: ") and self._data is None and len(line) <= self._limit:
                self._data = line[6:]
            elif line.startswith(b"id: "):
                self._read_id(line[4:])
            else:
                self._read_field(line)
        return frames

    def _finish(self, frames: list[bytes]) -> None:
        """End an event. Its id may be sent back only from now on, since its data is complete."""
        self._last_event_id = self._id
        data = self._data
        if data is not None:
            self._data = None
            if data and not data.isspace():
                frames.append(bytes(data))
                self.truncated += self._cut
            self._cut = False

    def _add(self, line: bytes) -> None:
        """Add a line of data, as far as the limit allows."""
        if self._data is None:
            if len(line) > self._limit:
                self._cut = True
                line = line[: self._limit]
            self._data = line
        elif not self._cut:
            if isinstance(self._data, bytes):
                self._data = bytearray(self._data)
            self._data += b"\n"
            self._data += line
            if len(self._data) > self._limit:
                self._cut = True
                del self._data[self._limit :]

    def _read_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if name == b"id":
            self._read_id(value)
        elif name == b"data":
            self._add(value)
        elif name == b"retry" and value.isdigit() and len(value) <= 9:
            self.retry_seconds = int(value) / 1000

    def _read_id(self, value: bytes) -> None:
        # A longer id could not be sent back: it would not fit into the headers of a request.
        if b"\0" not in value and len(value) <= MAX_EVENT_ID_BYTES:
            self._id = value

    def _without_bom(self, chunk: bytes) -> bytes:
        """Return what follows a byte order mark; nothing while the mark may be incomplete."""
        start = (self._start or b"") + chunk
        if len(start) < len(_BOM) and _BOM.startswith(start):
            self._start = start
            return b""
        self._start = None
        return start.removeprefix(_BOM)


def escape_newlines(frame: bytes) -> bytes:
    """Return the object *frame* with each newline in a string escaped, as JSON demands.

    Newlines "may occur in messages" (streaming documentation). Those between the parts of an object
    are JSON, and stay. What does not look like an object stays as it came.
    """
    if b"\n" not in frame or not (frame.startswith(b"{") and frame.endswith(b"}")):
        return frame
    masked = without_escapes(frame)
    if b"\\\n" in masked:  # a backslash before a newline: nobody knows what was meant
        return frame
    escaped, at = bytearray(), 0
    for string in _STRING.finditer(masked):
        start, end = string.span()
        if masked.find(b"\n", start, end) >= 0:
            escaped += frame[at:start] + frame[start:end].replace(b"\n", b"\\n")
            at = end
    return bytes(escaped + frame[at:])
