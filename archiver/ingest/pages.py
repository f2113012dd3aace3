"""A page of List Messages as a batch: what it brings, and what it proves.

A page asked for between two ids proves the part of that range that it reaches over: from the end it
was asked from to its last message, or all of it when it is empty. A short page is no proof of more.
An element that cannot be read leaves a hole, since nobody knows its id; so does a message that is
shown twice, and not alike: nobody knows which is so. A page that holds what was not asked for
proves nothing at all, and neither does one that lacks what is there: the service's index may lag
behind, and then nobody knows what else it leaves out.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from archiver.domain.coverage import Ranges
from archiver.domain.events import Event, Happening, Rejected, Vanished
from archiver.domain.model import LARGEST_ID, EventId
from archiver.flowdock.decode import decode_listed
from archiver.flowdock.pages import Page
from archiver.ingest.batch import Arrival, Batch
from archiver.store.coverage import PageRow, Purpose, Standing


class Reading(Struct, frozen=True, kw_only=True):
    """What a page says."""

    arrivals: tuple[Arrival, ...]
    ids: tuple[int, ...]
    """Of the elements that could be read, ascending."""
    reach: Ranges
    """What it tells of, true or not; nothing, if it holds what was not asked for."""
    proven: Ranges
    trouble: str | None
    """Why not all that it reaches over is proven; None when it is."""

    def unproven(self, trouble: str) -> "Reading":
        """The same of a page that proves nothing, for the *trouble* with it."""
        return replace(self, proven=Ranges(), trouble=trouble)

    def beside(self, shown: Iterable[Arrival]) -> "Reading":
        """The same, held against what is *shown* by itself of what the page lacks."""
        there = sum(not isinstance(one.decoded, Vanished) for one in shown)
        if not there:
            return self
        return self.unproven(f"the page lacks {there} messages that are there")


Objection = Callable[[Event], str | None]
"""Why an event is none of the flow that was asked for; None when it may be one."""


class Listing(Struct, frozen=True, kw_only=True):
    """A page of a flow, and what was known of the flow when it was asked for."""

    page: Page
    flow_key: int
    as_of: int
    """The newest id to which it was known to have come."""
    objection: Objection


def read_page(listing: Listing) -> Reading:
    """Decode a page.

    An element that there is an objection to is not this flow's, whoever mixed them up: it is
    rejected, and the page proves nothing around it.
    """
    page, listed_as_of = listing.page, EventId(listing.as_of)
    origin, received_at = f"list {page.path}", page.answered_at
    arrivals = tuple(
        Arrival(
            frame,
            at_home(decode_listed(frame), listing.objection),
            listing.flow_key,
            "list",
            origin,
            received_at,
            listed_as_of,
        )
        for frame in page.frames
    )
    ids = tuple(sorted({one.decoded.id for one in arrivals if isinstance(one.decoded, Event)}))
    reach = _reach(page, ids)
    proven, trouble = _proof(page, arrivals, reach)
    return Reading(arrivals=arrivals, ids=ids, reach=reach, proven=proven, trouble=trouble)


def at_home(decoded: Happening | Rejected, objection: Objection) -> Happening | Rejected:
    """*decoded*, if it may be an event of the flow that was asked for."""
    reason = objection(decoded) if isinstance(decoded, Event) else None
    return decoded if reason is None else Rejected(reason=reason)


def batch_of(
    listing: Listing,
    reading: Reading,
    absent: Sequence[Arrival] = (),
    *,
    epoch: int,
    run: str,
    purpose: Purpose,
    now: datetime,
) -> Batch:
    """The batch that archives a page, what it showed to be *absent*, and its row in the ledger.

    *epoch* is that of the flow when the page was asked for.
    """
    first, last = bounds(listing.page)
    flow_key, proven = listing.flow_key, reading.proven
    row = PageRow(
        flow_key=flow_key,
        run=run,
        purpose=purpose,
        asked=(first, last),
        proven=(proven.first, proven.last) if proven else None,
        messages=len(reading.arrivals),
        as_of=listing.as_of,
        requested_at=listing.page.requested_at,
        error=reading.trouble,
    )
    gains = {flow_key: Standing(listed=proven, epoch=epoch)} if proven else {}
    return Batch(now=now, arrivals=[*reading.arrivals, *absent], gains=gains, pages=[row])


def bounds(page: Page) -> tuple[int, int]:
    """The ids that *page* was asked for, both included."""
    return (page.since or 0) + 1, (page.until or LARGEST_ID) - 1


def _reach(page: Page, ids: Sequence[int]) -> Ranges:
    first, last = bounds(page)
    if not all(first <= id_ <= last for id_ in ids):
        return Ranges()
    if not ids:
        return Ranges(((first, last),))
    return Ranges(((ids[0], last),) if page.newest else ((first, ids[-1]),))


def _proof(page: Page, arrivals: Sequence[Arrival], reach: Ranges) -> tuple[Ranges, str | None]:
    unread = sum(isinstance(one.decoded, Rejected) for one in arrivals)
    if not reach:
        return Ranges(), "the page holds messages that were not asked for"
    trouble = f"{unread} messages of the page could not be read" if unread else None
    if page.until is None:
        # Nobody knows yet what may still come to be listed at the open end.
        return Ranges(), trouble
    proven = _around_holes(arrivals) if unread else reach
    if in_two_ways := _in_two_ways(arrivals):
        proven -= Ranges.of((id_, id_) for id_ in in_two_ways)
        trouble = trouble or f"{len(in_two_ways)} messages of the page are shown in two ways"
    return proven, trouble


def _in_two_ways(arrivals: Iterable[Arrival]) -> set[int]:
    """The ids of the messages that a page shows more than once, and not alike."""
    frames: dict[int, bytes] = {}
    return {
        one.id
        for one in arrivals
        if one.id is not None and frames.setdefault(one.id, one.frame) != one.frame
    }


def _around_holes(arrivals: Iterable[Arrival]) -> Ranges:
    """What is proven between neighbours that both could be read."""
    spans = []
    before: int | None = None
    for arrival in arrivals:
        id_ = arrival.id
        if id_ is not None and before is not None and before <= id_:
            spans.append((before, id_))
        elif id_ is not None:
            spans.append((id_, id_))
        before = id_
    return Ranges.of(spans)
