"""Compressed bodies are decompressed piece by piece, at a cost that their length bounds."""

import gzip
import time

import pytest

from archiver.flowdock.refusals import Garbled
from archiver.flowdock.unpacking import PIECE_BYTES, Unpacker


def unpack(packed: bytes, *, at_once: int) -> bytes:
    unpacker = Unpacker("it")
    chunks = (packed[at : at + at_once] for at in range(0, len(packed), at_once))
    pieces = [piece for chunk in chunks for piece in unpacker.feed(chunk)]
    unpacker.end()
    assert max(map(len, pieces)) <= PIECE_BYTES
    return b"".join(pieces)


@pytest.mark.parametrize("at_once", [1, 1000, 10_000_000])
def test_members_in_a_row_are_one_body_however_they_are_cut(at_once: int) -> None:
    texts = [b"", b"one", b"x" * 3_000_000, bytes(range(256)) * 100]
    assert unpack(b"".join(map(gzip.compress, texts)), at_once=at_once) == b"".join(texts)


def test_many_small_members_take_no_longer_at_once_than_in_small_chunks() -> None:
    packed = gzip.compress(b"") * 100_000

    def seconds(at_once: int) -> float:
        began = time.process_time()
        assert unpack(packed, at_once=at_once) == b""
        return time.process_time() - began

    assert seconds(len(packed)) < 5 * seconds(10_000)


def test_a_body_that_is_cut_short_is_not_complete() -> None:
    unpacker = Unpacker("it")
    list(unpacker.feed(gzip.compress(b"x" * 100)[:-1]))
    with pytest.raises(Garbled):
        unpacker.end()
