"""A page of List Messages: the request that was made, and the answer as verbatim elements."""

from datetime import datetime

import msgspec
from msgspec import Raw, Struct

from archiver.flowdock.elements import elements

_ELEMENTS = msgspec.json.Decoder(list[Raw])


class Page(Struct, frozen=True, kw_only=True):
    """The answer to one request for messages: the *frames* above *since* and below *until*.

    The server sends at most *limit* of them, ascending by id: the newest, or else the oldest. They
    reflect its state at some moment between *requested_at* and *answered_at*.
    """

    path: str
    """The path of the flow: ``organization/flow`` or ``private/<me>/<other>``."""
    since: int | None
    until: int | None
    newest: bool
    limit: int
    frames: tuple[bytes, ...]
    requested_at: datetime
    answered_at: datetime


def split(body: bytes) -> tuple[bytes, ...]:
    """Return the elements of the JSON array in *body*, each verbatim.

    Whether an element is valid JSON is for the decoder to say: one bad message must not hide the
    others of its page.

    Raises:
        ValueError: *body* is not an array, or not a complete one.
    """
    try:
        return tuple(bytes(element) for element in _ELEMENTS.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return tuple(element.raw for element in elements([body]))
