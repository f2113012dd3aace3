"""Facts about a message, from events and from listings, and the order in which they are folded.

Each fact has a *position*: for an event, its own id; for a listing, the newest id that the flow was
known to have when the listing was requested.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from archiver.domain.events import Mutation, Posted
from archiver.domain.model import EventId

BEFORE_ALL = datetime.min.replace(tzinfo=UTC)
"""Stands for an unknown time: any known time is later."""


class Showing(Struct, frozen=True, gc=False):
    """The service showed the message: on the stream when it was new, or in a listing."""

    message: Posted
    as_of: EventId
    """The position: a listing reflects everything up to it; on the stream, the message's own id."""
    shown_at: datetime | None = None
    """When the listing was requested; None on the stream. Tells listings of one position apart."""
    since: tuple[EventId, datetime] | None = None
    """Position and time of the first listing that showed the same; None when that was this one."""


class Absence(Struct, frozen=True, kw_only=True, gc=False):
    """The service no longer has the message, and no event reported its deletion."""

    id: EventId
    as_of: EventId
    """The position of a listing that did not show the message."""
    shown_at: datetime


Fact = Showing | Absence | Mutation
LISTED = (Showing, Absence)
"""The facts that carry a position. A tuple, since each ``isinstance`` would build the union of
``Showing | Absence`` again."""


def position(fact: Fact) -> EventId:
    """The id up to which *fact* reflects the state of the message."""
    return fact.as_of if isinstance(fact, LISTED) else fact.id


def target(fact: Fact) -> EventId:
    """The id of the message that *fact* is about."""
    match fact:
        case Showing():
            return fact.message.id
        case Absence():
            return fact.id
        case _:
            return fact.target


def order(fact: Fact) -> tuple[int, bool, datetime, bytes]:
    """The sort key of *fact*: by position, then listings after events; the rest breaks ties."""
    shown_at = fact.shown_at if isinstance(fact, LISTED) else None
    return (
        position(fact),
        isinstance(fact, LISTED),
        shown_at or BEFORE_ALL,
        msgspec.json.encode(fact),  # not MessagePack, whose integers end at 64 bits
    )


def arrange(facts: Iterable[Fact]) -> list[Fact]:
    """Return *facts* sorted by `order`."""
    some = list(facts)
    if len(some) > 1:
        positions = {position(fact) for fact in some}
        # Ties are rare, and the full sort key is expensive.
        some.sort(key=position if len(positions) == len(some) else order)
    return some
