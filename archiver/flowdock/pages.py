"""A page of List Messages: the request that was made, and the answer as verbatim elements."""

import re
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

import msgspec
from msgspec import Raw, Struct

# A quote that begins no whole string is a token too: it ends the search at once.
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*"|["\[\]{},]', re.DOTALL)
_ELEMENTS = msgspec.json.Decoder(list[Raw])


class Page(Struct, frozen=True, kw_only=True):
    """What one request for messages told: the *frames* above *since* and below *until*.

    The server sends at most *limit* of them, ascending by id: the newest, or else the oldest. It
    had what it shows at some moment between *requested_at* and *answered_at*.
    """

    path: str
    """Of the flow: ``organization/flow`` or ``private/<me>/<other>``."""
    since: int | None
    until: int | None
    newest: bool
    limit: int
    frames: tuple[bytes, ...]
    requested_at: datetime
    answered_at: datetime


def split(body: bytes) -> tuple[bytes, ...]:
    """Return the elements of the JSON array in *body*, each as it stands there.

    Whether an element is good JSON is for the decoder to say: one bad message must not hide the
    others of its page.

    Raises:
        ValueError: *body* is no array, or not all of one.
    """
    try:
        return tuple(bytes(element) for element in _ELEMENTS.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _split_by_brackets(body.strip())


def _split_by_brackets(body: bytes) -> tuple[bytes, ...]:
    """Split what msgspec refuses, as it does lone surrogates, by brackets and commas alone."""
    if not body.startswith(b"["):
        raise ValueError("not an array")
    marks = list(_outer_marks(body))
    if not marks or marks[-1] != len(body) - 1 or not body.endswith(b"]"):
        raise ValueError("an array without end, or with more after it")
    elements = tuple(body[start + 1 : end].strip() for start, end in pairwise([0, *marks]))
    if elements == (b"",):
        return ()
    if b"" in elements:
        raise ValueError("an empty element")
    return elements


def _outer_marks(body: bytes) -> Iterator[int]:
    """Yield where the commas of the outer array are, and where it ends."""
    depth = 0
    for token in _TOKENS.finditer(body):
        mark = token[0]
        if mark == b'"':
            raise ValueError("a string without end")
        if mark in b"[{":
            depth += 1
        elif depth == 1 and mark in b",]":
            yield token.start()
        if mark in b"]}":
            depth -= 1
            if depth == 0:
                return
