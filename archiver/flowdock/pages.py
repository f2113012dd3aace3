"""A page of List Messages: the request that was made, and the answer as verbatim elements."""

import re
from datetime import datetime

import msgspec
from msgspec import Raw, Struct

# A quote that begins no whole string is a token too: it ends the search at once.
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["\[\]{},]', re.DOTALL)
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
    elements = []
    depth, start = 0, 1
    for token in _TOKENS.finditer(body):
        mark = token[0]
        if mark == b'"':
            raise ValueError("a string without end")
        if mark in {b"[", b"{"}:
            depth += 1
        elif depth == 1 and mark in {b",", b"]"}:
            elements.append(body[start : token.start()].strip())
            start = token.end()
        if mark in {b"]", b"}"}:
            depth -= 1
            if depth == 0:
                break
    if depth or start != len(body):
        raise ValueError("an array without end, or with more after it")
    if elements == [b""]:
        return ()
    if b"" in elements:
        raise ValueError("an empty element")
    return tuple(elements)
