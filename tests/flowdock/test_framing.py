"""Which bytes become frames, whatever the network does to them."""

import json
import time
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.flowdock.framing import EventStreamFramer, JsonFramer, escape_newlines

Framer = JsonFramer | EventStreamFramer
FRAMERS: list[type[Framer]] = [JsonFramer, EventStreamFramer]

objects = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
).map(lambda value: json.dumps({"content": value}, ensure_ascii=False).encode())

keep_alives = st.sampled_from([b"", b"\n", b"\n\n", b"\r\n", b" \n"])


@st.composite
def chunked(draw: st.DrawFn, contents: st.SearchStrategy[bytes]) -> tuple[bytes, list[bytes]]:
    """Bytes, and the same bytes cut into chunks."""
    content = draw(contents)
    cuts = sorted(draw(st.lists(st.integers(0, len(content)), max_size=12)))
    edges = [0, *cuts, len(content)]
    return content, [content[a:b] for a, b in pairwise(edges)]


def soup() -> st.SearchStrategy[bytes]:
    parts = [b"data", b"id", b"retry", b":", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"x", b"{}"]
    parts += [b"data: 1\n\n", b"id: 7\n", b"\xef\xbb\xbf", b"\xef", b"\0", "é".encode()]
    return st.lists(st.sampled_from(parts) | st.binary(max_size=8)).map(b"".join)


def feed(framer: Framer, chunks: Iterable[bytes]) -> list[bytes]:
    return [frame for chunk in chunks for frame in framer.feed(chunk)]


@pytest.mark.parametrize("framer", FRAMERS)
@given(cut=chunked(soup()), limit=st.integers(1, 40))
def test_any_cut_of_the_bytes_gives_the_same_frames(framer: Any, cut: Any, limit: Any) -> None:
    content, chunks = cut
    whole, pieces = framer(limit), framer(limit)

    assert feed(pieces, chunks) == feed(whole, [content])
    assert pieces.truncated == whole.truncated
    if framer is EventStreamFramer:
        assert pieces.last_event_id == whole.last_event_id
        assert pieces.retry_seconds == whole.retry_seconds


@given(frames=st.lists(st.tuples(objects, keep_alives)), data=st.data())
def test_json_objects_come_out_as_they_went_in(frames: Any, data: Any) -> None:
    stream = b"\n" + b"".join(frame + b"\r\n" + keep_alive for frame, keep_alive in frames)
    _, chunks = data.draw(chunked(st.just(stream)))

    assert feed(JsonFramer(), chunks) == [frame for frame, _ in frames]


@given(frames=st.lists(objects), end=st.sampled_from([b"\n", b"\r\n", b"\r"]), data=st.data())
def test_event_data_comes_out_as_it_went_in(frames: Any, end: Any, data: Any) -> None:
    lines = [
        [b"id: %d" % number, b"data: " + frame, b"", b": keep-alive"]
        for number, frame in enumerate(frames, 1)
    ]
    stream = b"\xef\xbb\xbf" + b"".join(line + end for event in lines for line in event)
    framer = EventStreamFramer()
    _, chunks = data.draw(chunked(st.just(stream)))

    assert feed(framer, chunks) == frames
    assert framer.last_event_id == (str(len(frames)) if frames else "")


@pytest.mark.parametrize(
    ("stream", "frames"),
    [
        (b'{"a":1}\r\n{"b":2}\r\n', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\r{"b":2}\r', [b'{"a":1}', b'{"b":2}']),
        (b"\n\n\n", []),
        (b"\r\n\r\n", []),
        (b'\n{"a":\n1}\r\n\n', [b'{"a":\n1}']),
        (b'{"a":1}', []),
        (b"not json\r\n", [b"not json"]),
    ],
)
def test_json_frames_end_with_a_carriage_return(stream: Any, frames: Any) -> None:
    assert JsonFramer().feed(stream) == frames


@pytest.mark.parametrize(
    ("stream", "frames", "last_event_id"),
    [
        (b"data: 1\n\n", [b"1"], ""),
        (b"data:1\n\n", [b"1"], ""),
        (b"data:  1\n\n", [b" 1"], ""),
        (b"data: 1\ndata: 2\n\n", [b"1\n2"], ""),
        (b"data: 1\ndata\ndata: 2\n\n", [b"1\n\n2"], ""),
        (b"data\n\n", [], ""),
        (b"data:\n\n", [], ""),
        (b":\n\n: data: 1\n\n\n", [], ""),
        (b"event: add\ndata: 1\n\n", [b"1"], ""),
        (b"dat: 1\ndatas: 2\n data: 3\n\n", [], ""),
        (b"id: a-b/c=\ndata: 1\n\n", [b"1"], "a-b/c="),
        (b"id:7\n\ndata: 1\n\n", [b"1"], "7"),
        (b"id: 7\ndata: 1\n\nid\ndata: 2\n\n", [b"1", b"2"], ""),
        (b"id: 7\ndata: 1\n\nid: 8\0\ndata: 2\n\n", [b"1", b"2"], "7"),
        (b"id: 7\ndata: 1\n\nid: 8\ndata: 2\n", [b"1"], "7"),
        (b"id: 7\ndata: 1\n\nid: " + b"8" * 2000 + b"\ndata: 2\n\n", [b"1", b"2"], "7"),
        (b"data: 1\r\rdata: 2\r\n\r\ndata: 3\n\n", [b"1", b"2", b"3"], ""),
        ("data: a\u2028b\u0085c\n\n".encode(), ["a\u2028b\u0085c".encode()], ""),
    ],
)
def test_events_are_read_as_the_html_specification_says(
    stream: Any, frames: Any, last_event_id: Any
) -> None:
    framer = EventStreamFramer()

    assert framer.feed(stream) == frames
    assert framer.last_event_id == last_event_id


def test_the_byte_order_mark_is_no_part_of_the_first_line_even_in_pieces() -> None:
    framer = EventStreamFramer()

    assert feed(framer, [b"\xef", b"\xbb", b"\xbf", b"data: 1\n\n"]) == [b"1"]


def test_such_a_mark_anywhere_else_belongs_to_the_text_whatever_piece_it_begins() -> None:
    framer = EventStreamFramer()
    mark = "\ufeff".encode()

    assert feed(framer, [b"data: a", mark + b"b", mark, b"\n\n"]) == [b"a" + mark + b"b" + mark]


def test_the_end_of_a_line_may_be_torn() -> None:
    framer = EventStreamFramer()

    assert feed(framer, [b"data: 1\r", b"\ndata: 2\r", b"\n\r", b"\n"]) == [b"1\n2"]


def test_an_unfinished_event_does_not_move_the_position() -> None:
    framer = EventStreamFramer(last_event_id="6")
    framer.feed(b'id: 7\ndata: {"half":')

    assert framer.last_event_id == "6"


@pytest.mark.parametrize(("line", "seconds"), [(b"1500", 1.5), (b"1.5", None), (b"-1", None)])
def test_the_server_may_tell_how_long_to_wait(line: Any, seconds: Any) -> None:
    framer = EventStreamFramer()
    framer.feed(b"retry: " + line + b"\n")

    assert framer.retry_seconds == seconds


@pytest.mark.parametrize(
    ("framer", "start", "end"),
    [(JsonFramer, b"", b"\r\n"), (EventStreamFramer, b"data: ", b"\n\n")],
)
@pytest.mark.parametrize("chunk_bytes", [1, 7, 10_000])
@pytest.mark.parametrize("limit", [100, 2000])
def test_a_frame_over_the_limit_comes_out_cut_and_the_next_is_whole(
    framer: Any, start: Any, end: Any, chunk_bytes: Any, limit: Any
) -> None:
    limited = framer(limit=limit)
    said = [b"x" * 5000, b"y" * limit, b"z" * (limit + 1), b"y" * limit]
    stream = b"".join(start + one + end for one in said)
    chunks = [stream[at : at + chunk_bytes] for at in range(0, len(stream), chunk_bytes)]

    assert feed(limited, chunks) == [one[:limit] for one in said]
    assert limited.truncated == 2


@pytest.mark.parametrize("framer", FRAMERS)
@pytest.mark.parametrize("piece", [b"x", b"data:\n", b"data: x\n", b"\n", b"id: 1\n", b": x"])
def test_what_is_held_is_bounded(framer: Any, piece: Any) -> None:
    limited = framer(limit=1000)
    for _ in range(200):
        limited.feed(piece * 100)
    held = [vars(limited).get("_data") or b"", vars(limited).get("_rest") or b""]
    held.append(vars(limited).get("_line") or b"")

    assert sum(map(len, held)) <= 2100


@pytest.mark.parametrize(
    ("framer", "start", "end"),
    [(JsonFramer, b"", b"\r\n"), (EventStreamFramer, b"data: ", b"\n\n")],
)
def test_a_large_frame_in_tiny_chunks_takes_linear_time(framer: Any, start: Any, end: Any) -> None:
    def seconds(size: int) -> float:
        content = start + b"x" * size + end
        cut = framer()
        began = time.process_time()
        frames = feed(cut, (content[at : at + 64] for at in range(0, len(content), 64)))
        assert [len(frame) for frame in frames] == [size]
        return time.process_time() - began

    seconds(100_000)
    assert seconds(4_000_000) < 40 * max(seconds(400_000), 0.005)


newlines = st.text(st.sampled_from(["\n", "\\", '"', "{", "é", "n"]))


@given(st.dictionaries(newlines, newlines | st.lists(newlines)), st.sampled_from([None, 1]))
def test_newlines_within_strings_are_escaped_and_mean_the_same(value: Any, indent: Any) -> None:
    meant = json.dumps(value, ensure_ascii=False, indent=indent).encode()
    sent = meant.replace(b"\\\\", b"\0").replace(b"\\n", b"\n").replace(b"\0", b"\\\\")

    assert escape_newlines(sent) == meant


@pytest.mark.parametrize(
    "frame",
    [
        b'<a title="a\nb">',
        b'{"content":"a\nb',
        b'{"content":"a\\\nb"}',
        b'{\n"content":"a"\n}',
        b"\n",
    ],
)
def test_what_is_no_object_with_newlines_in_strings_stays_as_it_came(frame: bytes) -> None:
    assert escape_newlines(frame) == frame
