"""Messages that the archive holds and a listing does not show.

Such a message was deleted unheard, or the listing is wrong: the service's listings were seen to be
wrong for minutes after a deletion. So each missing message is requested individually (Show
Message), and only a 404 counts as a deletion. If one is shown, the listing is wrong: the message is
returned as shown, and the page proves nothing.

A message may also be gone because the service deletes old messages, as it does when an organization
has set a retention time. The archive must not follow that. The neighbours tell the two cases apart:
people delete single messages, and those next to them stay. So from each message that is gone, its
neighbours in the archive are checked on both sides, as far as they are gone, too. More than `MASS`
gone in a row are a *bulk*, and none of them is changed, whichever pages lack a part of it. The
check depends on the archive and the service alone, so it ends the same after a restart or in
another daemon. An index may have lost so many, too, so the first and the last message of what would
be kept as a bulk are requested after all.

Inbox items outlive the retention time, so other messages are also judged in a row that leaves the
inbox items out.

Known limits: if a person deletes more than `MASS` files or items in a row, the archive keeps them.
When the service deletes a few messages at a time, the first ones are taken for deleted by people
until the row is long enough; so are all messages of a flow that never held more.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from itertools import groupby

from msgspec.structs import replace

from archiver.domain.coverage import Ranges
from archiver.domain.events import Event, Happening, Rejected
from archiver.domain.model import EventId
from archiver.flowdock.decode import decode_listed
from archiver.ingest.apply import when_possible
from archiver.ingest.batch import Arrival, vanished
from archiver.ingest.belonging import Inquiry
from archiver.ingest.pages import Listing, Reading, at_home
from archiver.store import places
from archiver.store.connection import Engine
from archiver.store.places import Place

log = logging.getLogger(__name__)

MASS = 20
"""The most messages in a row that count as deleted by people; more are a bulk."""
MOST_HELD = 100_000
"""The most messages to compare with one page, since each takes memory for a while.

The service may have removed millions, and then one empty page is about all of them."""
MOST_SHOWN = 5
"""How many messages to request when one is enough: so many are rarely all deleted unheard."""

NOT_FOUND = b'{"message":"not found"}'

Show = Callable[[int], Awaitable[bytes | None]]
"""A message as the service shows it; None when it answers 404."""

Beside = Callable[[Place, bool, bool], Awaitable[Sequence[Place]]]
"""The `MASS` places next to one, nearest first; the flags: older ones? inbox items, too?"""


class Absence:
    """Requests messages that the archive holds and that pages of an account's flows lack."""

    def __init__(
        self,
        engine: Engine,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._now = now

    async def look_for(
        self, listing: Listing, reading: Reading, asked: Inquiry
    ) -> tuple[Reading, list[Arrival]]:
        """Request each message that the archive holds in a page's proven range and the page lacks.

        Returns *reading*, and what the service answered; an event that is not of this flow is
        rejected. If the archive holds `MOST_HELD` messages in that range, only the part up to the
        last of these stays proven, from the end that paging starts at; the rest is requested again.

        Raises:
            All that `Client.show` and `Inquiry.settle` raise.
        """
        if not reading.proven:
            return reading, []
        path, flow_key, now = listing.page.path, listing.flow_key, self._now()
        first, last, newest = reading.proven.first, reading.proven.last, listing.page.newest
        between = partial(places.between, flow_key=flow_key, first=first, last=last)
        held = await when_possible(self._engine, partial(between, newest=newest, most=MOST_HELD))
        if len(held) == MOST_HELD:
            part = (held[0].id, last) if newest else (first, held[-1].id)
            reading = replace(reading, proven=reading.proven & Ranges((part,)))
        unmissed = {*reading.ids, *(one.id for one in held if one.id not in reading.proven)}
        beside = partial(self._beside, flow_key)
        absent, kept = await sort_out(held, unmissed, show=asked.show, beside=beside)
        there = {id_: frame for id_ in {*kept[:1], *kept[-1:]} if (frame := await asked.show(id_))}
        absent |= there
        if kept and not there:
            await asked.settle()
            log.warning(
                "messages vanished in bulk: not marked as deleted",
                extra={"flow": path, "messages": len(kept), "first": kept[0], "last": kept[-1]},
            )
        return reading, [_arrival(listing, id_, frame, now=now) for id_, frame in absent.items()]

    async def _beside(
        self, flow_key: int, place: Place, older: bool, with_inbox: bool
    ) -> Sequence[Place]:
        near = partial(places.beside, flow_key=flow_key, id_=place.id, older=older)
        return await when_possible(self._engine, partial(near, with_inbox=with_inbox, most=MASS))


def _arrival(listing: Listing, id_: int, frame: bytes | None, *, now: datetime) -> Arrival:
    """The answer of Show Message for *id_* as an arrival; *frame* is None for a 404."""
    return Arrival(
        frame=NOT_FOUND if frame is None else frame,
        decoded=vanished(id_, sent_at=now) if frame is None else _read(frame, id_, listing),
        flow_key=listing.flow_key,
        witness="show" if frame is None else "list",
        origin=f"show {listing.page.path}",
        received_at=now,
        listed_as_of=EventId(listing.as_of),
    )


def _read(frame: bytes, id_: int, listing: Listing) -> Happening | Rejected:
    """Decode what Show Message returned for *id_*; anything but that message is rejected."""
    decoded = at_home(decode_listed(frame), listing.objection)
    if isinstance(decoded, Event) and decoded.id != id_:
        return Rejected(reason="it is another message than the one requested")
    return decoded


async def sort_out(
    held: Sequence[Place], unmissed: Collection[int], *, show: Show, beside: Beside
) -> tuple[dict[int, bytes | None], list[int]]:
    """Request what a listing lacks of *held*.

    Returns, by id, what Show Message answered for single messages (None is a 404), and the ids of
    those that are gone in bulk, which must not be changed. *unmissed* are the ids that the listing
    showed, or did not have to show.
    """
    missed = [one for one in held if one.id not in unmissed and not one.is_deleted]
    # What the listing lacks in bulk is not requested individually.
    bulk = in_bulk(held, lambda one: one.id not in unmissed)
    shown: dict[int, bytes | None] = {}

    async def is_gone(place: Place) -> bool:
        if place.is_removed or place.id in bulk:
            return True
        if place.id not in shown:
            shown[place.id] = await show(place.id)
        return shown[place.id] is None

    absent: dict[int, bytes | None] = {}
    kept: list[int] = []
    for one in missed:
        if await is_gone(one) and (one.id in bulk or await _is_of_bulk(one, is_gone, beside)):
            kept.append(one.id)
        else:
            absent[one.id] = shown[one.id]
    # Ask again: a message counts as gone if it is so both before and after its neighbours were
    # checked, since all of them may have come back meanwhile.
    return {id_: frame or await show(id_) for id_, frame in absent.items()}, kept


def in_bulk(row: Sequence[Place], is_gone: Callable[[Place], bool]) -> set[int]:
    """The ids of the places in *row*, which are neighbours, that are gone in bulk."""
    bulk: set[int] = set()
    for lane in (row, [one for one in row if not one.is_inbox]):
        for gone, neighbours in groupby(lane, is_gone):
            ids = [one.id for one in neighbours]
            if gone and len(ids) > MASS:
                bulk.update(ids)
    return bulk


async def _is_of_bulk(
    place: Place, is_gone: Callable[[Place], Awaitable[bool]], beside: Beside
) -> bool:
    """Tell whether *place*, which is gone, is part of a bulk, by its neighbours on both sides."""
    for with_inbox in (True,) if place.is_inbox else (True, False):
        row = 1
        for older in (True, False):
            for near in await beside(place, older, with_inbox):
                if not await is_gone(near):
                    break
                row += 1
                if row > MASS:
                    return True
    return False
