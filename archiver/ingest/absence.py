"""What the archive holds and a listing does not show.

Such a message was deleted unheard, or the listing is wrong: after a deletion the service's listings
were seen to be so for minutes. So each is asked for by itself, and only a 404 counts.

What is shown by itself although the listing lacks it proves the listing wrong: it is handed back as
it is shown, and the page proves nothing.

Or the service has put its own history away, as it does when an organization keeps messages for some
days only. An archive must not follow. What tells the two apart is the neighbourhood: people take
out single messages, and those around them live. So from each message that is gone one walks to both
sides over what the archive holds of the flow, as far as messages are gone, too. A row of more than
`MASS` is a *bulk*, and all of it is kept as it is, whatever page it was that missed a part of it.
The walk asks the archive and the service alone, so a restart or a second daemon finds the same. A
listing may also have lost sight of so many, so the first and the last that it lacks are asked for.

Inbox items outlive what is put away. So a message of a flow is also judged in the row of messages
without them.

Known limits: a person who takes out more than `MASS` files or items in a row is not followed. When
the service puts away a few messages at a time, the first ones are taken for deleted until the row
is long enough; so are those of a flow that never held more.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from datetime import datetime
from functools import partial
from itertools import groupby

from archiver.domain.events import Event, Happening, Rejected, Vanished
from archiver.domain.model import EventId
from archiver.flowdock.client import Client
from archiver.flowdock.decode import decode_listed
from archiver.ingest.apply import when_possible
from archiver.ingest.batch import Arrival, vanished
from archiver.ingest.belonging import Belonging
from archiver.ingest.pages import Listing, Reading, at_home
from archiver.store import places
from archiver.store.connection import Engine
from archiver.store.places import Place

log = logging.getLogger(__name__)

MASS = 20
"""So many messages in a row may be gone and still be deletions by people."""
MOST_SHOWN = 5
"""To be asked for one by one: one may have been deleted unheard, so many rarely are."""

NOT_FOUND = b'{"message":"not found"}'

Show = Callable[[int], Awaitable[bytes | None]]
"""A message as the service shows it; None when it answers 404."""

Beside = Callable[[Place, bool, bool], Awaitable[Sequence[Place]]]
"""The `MASS` places next to one, the nearest first; of older ones? of inbox items, too?"""


class Absence:
    """Asks for what an archive holds of an account's flows, and pages lack."""

    def __init__(
        self,
        client: Client,
        engine: Engine,
        belonging: Belonging,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._engine = engine
        self._belonging = belonging
        self._now = now

    async def look_for(self, listing: Listing, reading: Reading) -> list[Arrival]:
        """Ask for each message in what a page proves that the archive holds and the page lacks.

        What is then shown that there is an objection to is rejected.

        Raises:
            FlowRefused: the flow is lost. And all that `Client.page` and `Client.show` raise.
        """
        if not reading.proven:
            return []
        path, flow_key, now = listing.page.path, listing.flow_key, self._now()
        first, last = reading.proven.first, reading.proven.last
        between = partial(places.between, flow_key=flow_key, first=first, last=last)
        held = await when_possible(self._engine, between)
        unmissed = {*reading.ids, *(one.id for one in held if one.id not in reading.proven)}
        show, beside = partial(self._client.show, path), partial(self._beside, flow_key)
        absent, kept = await sort_out(held, unmissed, show=show, beside=beside)
        there = {id_: frame for id_ in {*kept[:1], *kept[-1:]} if (frame := await show(id_))}
        absent |= there
        if kept and not there:
            log.warning(
                "messages vanished in bulk, and are kept as they are",
                extra={"flow": path, "messages": len(kept), "first": kept[0], "last": kept[-1]},
            )
        found = [_arrival(listing, id_, frame, now=now) for id_, frame in absent.items()]
        if any(isinstance(one.decoded, Vanished) for one in found):
            # A lost flow answers 404 as well, and another one: then nothing is concluded.
            await self._belonging.require(self._client, flow_key, path)
        return found

    async def _beside(
        self, flow_key: int, place: Place, older: bool, with_inbox: bool
    ) -> Sequence[Place]:
        near = partial(places.beside, flow_key=flow_key, id_=place.id, older=older)
        return await when_possible(self._engine, partial(near, with_inbox=with_inbox, most=MASS))


def _arrival(listing: Listing, id_: int, frame: bytes | None, *, now: datetime) -> Arrival:
    """The message *id_* as it is shown by itself; None is that it is not."""
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
    """What the service shows of the message *id_*."""
    decoded = at_home(decode_listed(frame), listing.objection)
    if isinstance(decoded, Event) and decoded.id != id_:
        return Rejected(reason="it is not the message that was asked for")
    return decoded


async def sort_out(
    held: Sequence[Place], unmissed: Collection[int], *, show: Show, beside: Beside
) -> tuple[dict[int, bytes | None], list[int]]:
    """What is absent by itself of *held*, as it is shown by id, and the ids of what is so in bulk.

    *unmissed* are the ids of what a listing showed, or need not show. What is absent in bulk is
    not to be touched.
    """
    missed = [one for one in held if one.id not in unmissed and not one.is_deleted]
    # What the listing misses in such numbers need not be asked for one by one.
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
    # All may have come back, so it counts to be gone before its neighbours were seen, and after.
    return {id_: frame or await show(id_) for id_, frame in absent.items()}, kept


def in_bulk(row: Sequence[Place], is_gone: Callable[[Place], bool]) -> set[int]:
    """The ids of those in *row*, which lie side by side, that are gone in bulk."""
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
    """Walk from *place*, which is gone, to both sides, until a message is there or it is a bulk."""
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


async def shows_any(client: Client, path: str, ids: Iterable[int]) -> bool:
    """Tell whether the service shows one of these messages by itself.

    Raises:
        All that `Client.show` raises.
    """
    for id_ in ids:
        if await client.show(path, id_) is not None:
            return True
    return False
