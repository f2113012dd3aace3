"""What comes packed by gzip or zlib, unpacked piece by piece, however much that becomes."""

import zlib
from collections.abc import Iterator

from archiver.flowdock.refusals import Garbled

PACKINGS = frozenset({"gzip", "x-gzip", "deflate"})
"""As Content-Encoding calls them."""
_HEADER_TELLS = zlib.MAX_WBITS | 32
"""Which of them it is, is found in the bytes."""
PIECE_BYTES = 1024 * 1024
"""Of what is unpacked, in memory."""


class Unpacker:
    """Unpacks *what*, as errors call it, as it comes."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._zlib = zlib.decompressobj(_HEADER_TELLS)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what *chunk* goes on with, in pieces of at most `PIECE_BYTES`.

        Raises:
            Garbled: it is not packed so.
        """
        while chunk:
            if self._zlib.eof:  # gzip may be several, one after the other
                self._zlib = zlib.decompressobj(_HEADER_TELLS)
            try:
                piece = self._zlib.decompress(chunk, PIECE_BYTES)
                yield piece
                chunk = self._zlib.unconsumed_tail or self._zlib.unused_data
            except zlib.error:
                raise Garbled(self._what) from None

    def end(self) -> None:
        """Look whether all has come.

        Raises:
            Garbled: it has not.
        """
        if not self._zlib.eof:
            raise Garbled(self._what)
