"""A page of List Messages as a batch: what it brings, and what it proves.

A page requested for a range of ids proves the part of it that it covers: from the end that paging
starts at to its last message, or the whole range if it is empty. A short page proves no more than
that. An element that cannot be read leaves a hole, since its id is unknown; so does a message that
is shown twice with different contents, since either may be right. A page that holds messages
outside the range proves nothing at all. Neither does a page that lacks an existing message: the
service's index may lag behind, and nobody knows what else it leaves out.
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
    """What a page holds and proves."""

    arrivals: tuple[Arrival, ...]
    ids: tuple[int, ...]
    """The ids of the elements that could be read, ascending."""
    reach: Ranges
    """The range that it covers, proven or not; empty if it holds messages outside the request."""
    proven: Ranges
    trouble: str | None
    """Why not all of `reach` is proven; None when it is, when its range has an open end, or when
    the rest of it could not be checked at once, and only has to be requested again."""

    def unproven(self, trouble: str) -> "Reading":
        """The same reading, but nothing is proven, because of *trouble*."""
        return replace(self, proven=Ranges(), trouble=trouble)

    def beside(self, shown: Iterable[Arrival]) -> "Reading":
        """The same reading, unproven if Show Message has *shown* messages that the page lacks."""
        there = sum(not isinstance(one.decoded, Vanished) for one in shown)
        if not there:
            return self
        return self.unproven(f"the page lacks {there} messages that exist")


Objection = Callable[[Event], str | None]
"""Why an event cannot be one of the requested flow; None if it can."""


class Listing(Struct, frozen=True, kw_only=True):
    """A page of a flow, and what was known of the flow when it was requested."""

    page: Page
    flow_key: int
    as_of: int
    """The newest settled id that the flow was known to have."""
    objection: Objection


def read_page(listing: Listing) -> Reading:
    """Decode a page.

    An element to which there is an objection is not of this flow, for whatever reason: it is
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
    """*decoded*, or a reject if it is an event to which there is an *objection*."""
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
    """The batch that archives a page, the answers about *absent* messages, and its ledger row.

    *epoch* is that of the flow when the page was requested.
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
    """The first and the last id of the range that *page* was requested for."""
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
        return Ranges(), "the page has messages that were not requested"
    trouble = f"{unread} messages of the page could not be read" if unread else None
    if page.until is None:
        # More may come to be listed at the open end.
        return Ranges(), trouble
    proven = _around_holes(arrivals) if unread else reach
    if in_two_ways := _in_two_ways(arrivals):
        proven -= Ranges.of((id_, id_) for id_ in in_two_ways)
        trouble = trouble or f"{len(in_two_ways)} messages of the page appear twice and differ"
    return proven, trouble


def _in_two_ways(arrivals: Iterable[Arrival]) -> set[int]:
    """The ids of the messages that a page shows more than once, with different contents."""
    frames: dict[int, bytes] = {}
    return {
        one.id
        for one in arrivals
        if one.id is not None and frames.setdefault(one.id, one.frame) != one.frame
    }


def _around_holes(arrivals: Iterable[Arrival]) -> Ranges:
    """What is proven: the ranges between neighbouring elements that could both be read."""
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
