"""Decompresses gzip and zlib piece by piece, in bounded memory."""

import zlib
from collections.abc import Iterator

from archiver.flowdock.refusals import Garbled

PACKINGS = frozenset({"gzip", "x-gzip", "deflate"})
"""The supported values of Content-Encoding."""
_HEADER_TELLS = zlib.MAX_WBITS | 32
"""Has zlib detect the format by the header of the data."""
PIECE_BYTES = 1024 * 1024
"""The greatest length of a piece of decompressed data."""
FED_BYTES = 16 * 1024
"""How much is decompressed at once: zlib copies what is left of it after each member, and each may
have only 20 bytes."""


class Unpacker:
    """Decompresses a body as it arrives; errors call it *what*."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._zlib = zlib.decompressobj(_HEADER_TELLS)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Decompress *chunk*, in pieces of at most `PIECE_BYTES`.

        Raises:
            Garbled: it is not in a supported format, or is damaged.
        """
        for start in range(0, len(chunk), FED_BYTES):
            yield from self._feed(chunk[start : start + FED_BYTES])

    def _feed(self, chunk: bytes) -> Iterator[bytes]:
        while chunk:
            if self._zlib.eof:  # gzip may have several members in a row
                self._zlib = zlib.decompressobj(_HEADER_TELLS)
            try:
                piece = self._zlib.decompress(chunk, PIECE_BYTES)
                yield piece
                chunk = self._zlib.unconsumed_tail or self._zlib.unused_data
            except zlib.error:
                raise Garbled(self._what) from None

    def end(self) -> None:
        """Make sure that the body was complete.

        Raises:
            Garbled: it was not.
        """
        if not self._zlib.eof:
            raise Garbled(self._what)
