"""Cuts one long JSON array into its elements as its bytes arrive; no I/O.

An array of gigabytes cannot be parsed at once. The buffer is cut at what looks like the border
between two objects, and msgspec confirms that it is one. What msgspec refuses, such as broken
characters or elements, is cut by brackets and quotes alone: whether an element is valid JSON is for
the decoder to say, and one bad message must not hide the others.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec
from msgspec import Raw, Struct

from archiver.flowdock.envelope import without_escapes

MAX_ELEMENT_BYTES = 64_000_000

_LIST = msgspec.json.Decoder(list[Raw])
_BORDER = re.compile(rb"\}(?=[ \t\r\n]*+,[ \t\r\n]*+\{)")
_BORDERS_TRIED = 4
_TAIL_BYTES = 65_536

_BETWEEN = re.compile(rb"[ \t\r\n]*+")
_PLAIN = re.compile(rb'"[^"]*+"|[^"\[\]{},]++')
_MARK = re.compile(rb'"[^"]*+"|["\[\]{}]')  # a quote alone begins a string that has no end yet


class Element(Struct, frozen=True):
    """One element of the array, exactly as it is in the file."""

    at: int
    """The offset of its first byte."""
    raw: bytes


class Misshapen(ValueError):
    """The bytes are not a JSON array, or not a complete one."""

    def __init__(self, reason: str, at: int) -> None:
        super().__init__(f"{reason} at byte {at:,}")
        self.at = at


class Elements:
    """Cuts one array into elements; it is fed the bytes in chunks of any size."""

    def __init__(self) -> None:
        self._rest = b""
        self._at = 0
        self._begun = False
        self._ended = False
        self._comma_needed = False
        self._worth_a_look = 0

    def feed(self, chunk: bytes) -> Iterator[Element]:
        """Yield the elements that *chunk* completes; the iterator must be exhausted.

        An incomplete element is examined again only when the buffer has doubled: if that were done
        for each chunk, one long element would take time quadratic in its length.

        Raises:
            Misshapen: the bytes are not an array, or more than one, or an element is too long.
        """
        self._rest += chunk
        if len(self._rest) >= self._worth_a_look:
            yield from self._cut()
            self._worth_a_look = min(2 * len(self._rest), MAX_ELEMENT_BYTES)

    def close(self) -> Iterator[Element]:
        """Yield the elements that are left, and make sure that the array has ended.

        Raises:
            Misshapen: it has not ended. Also as in `feed`.
        """
        yield from self._cut()
        if not self._ended:
            reason = "the list is not closed" if self._begun else "not a list of messages"
            raise Misshapen(reason, self._at)

    def _cut(self) -> Iterator[Element]:
        if not self._begun:
            self._begin()
        if self._begun and not self._ended:
            yield from self._cut_fast()
            yield from self._cut_by_brackets()
            if len(self._rest) > MAX_ELEMENT_BYTES:
                raise Misshapen(f"an element of more than {MAX_ELEMENT_BYTES:,} bytes", self._at)
        if self._ended:
            self._skip_space()
            if self._rest:
                raise Misshapen("more after the end of the list", self._at)

    def _begin(self) -> None:
        if self._at == 0 and self._rest.startswith(b"\xef\xbb\xbf"):
            self._drop(3)
        self._skip_space()
        if not self._rest:
            return
        if not self._rest.startswith(b"["):
            raise Misshapen("not a list of messages", self._at)
        self._drop(1)
        self._begun = True

    def _cut_fast(self) -> Iterator[Element]:
        """Cut off everything before one of the last borders, if msgspec confirms that border."""
        start = max(0, len(self._rest) - _TAIL_BYTES)
        ends = [found.end() for found in _BORDER.finditer(self._rest, start)]
        for end in islice(reversed(ends), _BORDERS_TRIED):
            if raws := self._whole(end):
                at = 0
                for raw in map(bytes, raws):
                    at = self._rest.index(raw, at)
                    yield Element(self._at + at, raw)
                    at += len(raw)
                self._comma_needed = True
                self._drop(end)
                return

    def _whole(self, end: int) -> list[Raw]:
        """The elements in the first *end* bytes of the buffer; empty if those end within one."""
        body = self._rest[:end]
        if self._comma_needed:
            body = body.lstrip(b" \t\r\n")
            if not body.startswith(b","):
                return []
            body = body[1:]
        try:
            return _LIST.decode(b"[" + body + b"]")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return []

    def _cut_by_brackets(self) -> Iterator[Element]:
        at, marked = 0, without_escapes(self._rest)
        while (found := self._next_element(marked, at)) is not None:
            start, end = found
            yield Element(self._at + start, self._rest[start:end])
            self._comma_needed = True
            at = end
        if self._ended:
            return
        self._drop(at)

    def _next_element(self, rest: bytes, at: int) -> tuple[int, int] | None:
        """Where the element after *at* begins and ends; None while it is incomplete.

        *rest* is the buffer as `without_escapes` returns it.

        Raises:
            Misshapen: a comma or an element is missing.
        """
        at = _end_of(_BETWEEN, rest, at)
        mark = rest[at : at + 1]
        if mark == b"]":
            self._ended = True
            self._drop(at + 1)
            return None
        if self._comma_needed:
            if mark not in b",":
                raise Misshapen("a comma is missing", self._at + at)
            at = _end_of(_BETWEEN, rest, at + 1)
            mark = rest[at : at + 1]
        if not mark:
            return None
        if mark in b",]})":
            raise Misshapen("an element is missing", self._at + at)
        end = _end_of_nested(rest, at) if mark in b"{[" else _end_of_plain(rest, at)
        return None if end is None else (at, end)

    def _skip_space(self) -> None:
        self._drop(_end_of(_BETWEEN, self._rest, 0))

    def _drop(self, count: int) -> None:
        self._rest = self._rest[count:]
        self._at += count


def _end_of(pattern: re.Pattern[bytes], data: bytes, at: int) -> int:
    found = pattern.match(data, at)
    return found.end() if found else at


def _end_of_nested(data: bytes, at: int) -> int | None:
    """Where the array or object that begins at *at* ends; None while it is incomplete."""
    depth = 0
    for found in _MARK.finditer(data, at):
        mark = found[0]
        if mark == b'"':
            return None
        if mark in b"{[":
            depth += 1
        elif mark in b"]}":
            depth -= 1
            if depth == 0:
                return found.end()
    return None


def _end_of_plain(data: bytes, at: int) -> int | None:
    """Where a string or number ends; None when more of it may come."""
    found = _PLAIN.match(data, at)
    if found is None or (found.end() == len(data) and data[at : at + 1] != b'"'):
        return None
    return at + len(found[0].rstrip())


def elements(chunks: Iterable[bytes]) -> Iterator[Element]:
    """The elements of the array that *chunks* form together.

    Raises:
        Misshapen: they do not form an array.
    """
    cut = Elements()
    for chunk in chunks:
        yield from cut.feed(chunk)
    yield from cut.close()
