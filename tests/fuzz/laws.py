"""The laws of framing and decoding, which must hold for any bytes.

`check` tries all laws on one input: as the content of a connection, of which every frame is then
decoded, and as a frame by itself. Where the content is cut, and which limit a framer has, depends
only on the content, so that an input that broke a law breaks it again.

The framers are compared with simple readers that see the whole content at once; the fast reader of
JSON is compared with the careful one, and so are the results of decoding.
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from random import Random
from typing import Any, get_args
from zlib import crc32

import msgspec

from archiver.domain.events import Decoded, Event, Mutation, Posted, Rejected, Signal
from archiver.domain.model import LARGEST_ID
from archiver.flowdock.decode import decode, decode_any, decode_listed, decode_listed_any
from archiver.flowdock.envelope import Envelope, read, read_json
from archiver.flowdock.framing import (
    MAX_EVENT_ID_BYTES,
    MAX_FRAME_BYTES,
    EventStreamFramer,
    JsonFramer,
)
from archiver.flowdock.readable import MAX_TEXT_LENGTH

UNION = frozenset(get_args(Decoded))
MOST_FRAMES = 4
"""How many frames of one content are tried: the rest is tried as other inputs."""
FEW_BYTES = 40
"""Content up to this length is always also cut at every byte, longer content only now and then."""

Framed = tuple[list[bytes], int, str, float | None]
"""Frames, how many were cut at the limit, the last event id, and the requested retry time."""


def check(content: bytes) -> None:
    """Check all laws on *content*; raises AssertionError, or anything else, if one is broken."""
    chance = Random(crc32(content))
    frames = {content}
    for framer in (JsonFramer, EventStreamFramer):
        limit = chance.choice((MAX_FRAME_BYTES, chance.randint(1, 100)))
        frames.update(check_framing(framer, content, limit, chance)[:MOST_FRAMES])
    for frame in frames:
        check_frame(frame)


def check_framing(
    framer: type[JsonFramer] | type[EventStreamFramer], content: bytes, limit: int, chance: Random
) -> list[bytes]:
    """Any cut gives the frames that the simple reader finds, and buffers are bounded."""
    expected = read_lines(content, limit) if framer is JsonFramer else read_events(content, limit)
    for chunks in cut(content, chance):
        framed = fed(framer(limit), chunks, limit)
        assert framed == expected, f"{framer.__name__} of {limit}: {framed}, not {expected}"
    frames = expected[0]
    assert all(0 < len(frame) <= limit and not frame.isspace() for frame in frames)
    return frames


def cut(content: bytes, chance: Random) -> Iterator[list[bytes]]:
    """The content whole, in random chunks, and now and then byte by byte."""
    yield [content]
    yield re.split(rb"(?<=\r)", content)  # splits CRLF
    if len(content) <= FEW_BYTES or chance.random() < 0.02:
        yield [content[at : at + 1] for at in range(len(content))]
    for _ in range(2):
        cuts = sorted(chance.randint(0, len(content)) for _ in range(chance.randint(1, 8)))
        yield [content[a:b] for a, b in pairwise([0, *cuts, len(content)])]


def fed(framer: JsonFramer | EventStreamFramer, chunks: Iterable[bytes], limit: int) -> Framed:
    """The frames of *chunks*; after each, no more than an unfinished frame and a line is held."""
    frames: list[bytes] = []
    bound = 2 * (limit + MAX_EVENT_ID_BYTES) + 16
    for chunk in chunks:
        frames += framer.feed(chunk)
        held = sum(len(part) for part in vars(framer).values() if hasattr(part, "__len__"))
        assert held <= (limit if isinstance(framer, JsonFramer) else bound + MAX_EVENT_ID_BYTES)
    if isinstance(framer, JsonFramer):
        return frames, framer.truncated, "", None
    return frames, framer.truncated, framer.last_event_id, framer.retry_seconds


def read_lines(content: bytes, limit: int) -> Framed:
    """The frames of a JSON stream, read from the whole content."""
    pieces = [piece.lstrip() for piece in content.split(b"\r")[:-1]]
    frames = [frame for piece in pieces if (frame := piece[:limit].strip())]
    return frames, sum(len(piece) > limit for piece in pieces), "", None


def read_events(content: bytes, limit: int) -> Framed:
    """The frames of an event stream, read from the whole content (HTML specification, 9.2.6)."""
    frames: list[bytes] = []
    truncated, retry_seconds = 0, None
    position = finished = b""
    data: list[bytes] = []
    for line in re.split(rb"\r\n|\r|\n", content.removeprefix(b"\xef\xbb\xbf"))[:-1]:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            finished = position
            whole = b"\n".join(data)
            if frame := whole[:limit].strip() and whole[:limit]:
                frames.append(frame)
                truncated += len(whole) > limit
            data = []
        elif name == b"data":
            data.append(value)
        elif name == b"id" and b"\0" not in value and len(value) <= MAX_EVENT_ID_BYTES:
            position = value
        elif name == b"retry" and re.fullmatch(rb"[0-9]{1,9}", value):
            retry_seconds = int(value) / 1000
    return frames, truncated, finished.decode(errors="replace"), retry_seconds


def check_frame(frame: bytes) -> None:
    """A frame decodes to a member of the closed union, the same each time, that can be stored."""
    told, listed = decode(frame), decode_listed(frame)
    for decoded in (told, listed):
        assert type(decoded) in UNION, f"{type(decoded)} is none of the union"
        check_storable(decoded)
        if isinstance(decoded, Rejected):
            assert 0 < len(decoded.reason) < 300, decoded.reason
        else:
            check_verbatim(frame, decoded)
    assert (told, listed) == (decode(frame), decode_listed(frame)), "decoded otherwise again"
    slow = (decode_any(frame), decode_listed_any(frame))
    assert (told, listed) == slow, "decoded otherwise fast than with care"
    if isinstance(told, Posted | Mutation):
        assert told == listed, "a listing says otherwise than the stream"
    check_reading(frame)


def check_storable(decoded: Decoded) -> None:
    """Postgres can store all of it, including its ids."""
    kept = msgspec.to_builtins(decoded)
    text = json.dumps(kept, ensure_ascii=False, allow_nan=False)
    assert "\\u0000" not in text.replace("\\\\", ""), "NUL cannot be stored"
    text.encode()  # raises if there is a lone surrogate
    assert json.loads(msgspec.json.encode(decoded)) == json.loads(text), "written otherwise"
    for name in ("id", "target", "parent"):
        id_ = getattr(decoded, name, None)
        assert id_ is None or 0 < id_ <= LARGEST_ID, f"{name} {id_} is out of range"


def check_verbatim(frame: bytes, decoded: Event | Signal) -> None:
    """The journal keeps the text of the frame, which decodes to the same result again."""
    payload = frame.decode()
    assert payload.encode() == frame
    again = decode if decoded == decode(frame) else decode_listed
    assert again(payload.encode()) == decoded
    if isinstance(decoded, Posted):
        most = max(MAX_TEXT_LENGTH, len(payload))
        assert len(decoded.content) <= most, "more text than was received"


def check_reading(frame: bytes) -> None:
    """The fast reader and the careful one give the same values."""
    fast = read(frame)
    if isinstance(fast, Rejected):
        return
    careful = read_json(frame)
    assert isinstance(careful, dict)
    for name in Envelope.__struct_fields__:
        values: tuple[Any, Any] = getattr(fast, name), careful.get(name)
        assert repr(values[0]) == repr(values[1]), f"{name} is read as {values}"
