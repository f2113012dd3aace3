"""What is told of a message, by events and by listings, and in which order it counts.

A fact has a *position*: an event's own id, or for a listing the newest id the flow was known to
have when the listing was asked for.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from archiver.domain.events import Mutation, Posted
from archiver.domain.model import EventId

BEFORE_ALL = datetime.min.replace(tzinfo=UTC)
"""Stands for a time that nobody knows: any that is known is later."""


class Showing(Struct, frozen=True, gc=False):
    """The service showed the message: on the stream when it was new, or in a listing."""

    message: Posted
    as_of: EventId
    """A listing tells of everything up to this id; on the stream it is the message's own."""
    shown_at: datetime | None = None
    """When the listing was asked for; None on the stream. Tells apart listings of one position."""
    since: tuple[EventId, datetime] | None = None
    """Position and time of the first listing that showed the same; None when that was this one."""


class Absence(Struct, frozen=True, kw_only=True, gc=False):
    """The service has the message no more, and nobody heard of its deletion."""

    id: EventId
    as_of: EventId
    """As of a listing, which did not show it."""
    shown_at: datetime


Fact = Showing | Absence | Mutation
LISTED = (Showing, Absence)
"""The facts with a position of their own; a union written where it is asked for is made anew."""


def position(fact: Fact) -> EventId:
    """The id up to which *fact* tells what the message is."""
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
    """Sort facts by position, listings after the event of theirs; the rest breaks ties."""
    shown_at = fact.shown_at if isinstance(fact, LISTED) else None
    return (
        position(fact),
        isinstance(fact, LISTED),
        shown_at or BEFORE_ALL,
        msgspec.json.encode(fact),  # of any number: MessagePack has none beyond 64 bits
    )


def arrange(facts: Iterable[Fact]) -> list[Fact]:
    """Return *facts* by `order`."""
    some = list(facts)
    if len(some) > 1:
        positions = {position(fact) for fact in some}
        # Ties are rare, and what breaks them is dear.
        some.sort(key=position if len(positions) == len(some) else order)
    return some
