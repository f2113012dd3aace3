"""Whether a service lists the oldest messages of a range first when it is asked to.

Gaps are filled from their oldest message on. A service or proxy that ignores ``sort=asc`` answers
with the newest messages, and all older ones would seem not to exist. The first page of each flow
that may not hold its whole range is checked: the service is asked for the oldest of exactly these
messages. A page may be full though it is shorter than was asked for, since ``limit`` may be ignored
as well; and if it is, the check would be meaningless, so what lies below the page is asked for.
"""

from msgspec.structs import replace

from archiver.ingest.belonging import Inquiry
from archiver.ingest.pages import Listing, Reading, bounds, read_page

NOT_OLDEST = (
    "the page has the newest messages, not the oldest as requested, as if a proxy dropped "
    "sort=asc: check ARCHIVER_API_URL"
)


USUAL_PAGE = 30
"""How many messages a service lists that ignores ``limit`` (messages documentation)."""


class Order:
    """Checks the order of pages; remembers the flows that are listed in the requested order."""

    def __init__(self) -> None:
        self._kept: set[int] = set()

    async def hold(self, listing: Listing, reading: Reading, asked: Inquiry) -> Reading:
        """Return *reading*, unproven if its page does not hold the oldest messages.

        Raises:
            All that `Client.page` raises.
        """
        page, flow_key = listing.page, listing.flow_key
        is_whole = page.newest or len(page.frames) < min(page.limit, USUAL_PAGE)
        if is_whole or flow_key in self._kept or not reading.ids or not reading.proven:
            return reading
        first, last = reading.ids[0], reading.ids[-1]
        if first == bounds(page)[0]:
            return reading
        if first == last:
            return await self._above_all(listing, reading, asked)
        oldest = await asked.page(since=first - 1, until=last + 1, newest=False)
        if len(oldest.frames) > 1:
            return await self._above_all(listing, reading, asked)
        if not any(id_ < last for id_ in read_page(replace(listing, page=oldest)).ids):
            return reading.unproven(NOT_OLDEST)
        self._kept.add(flow_key)
        return reading

    async def _above_all(self, listing: Listing, reading: Reading, asked: Inquiry) -> Reading:
        """Return *reading*, unproven if the requested range has messages below its page."""
        since = listing.page.since
        below = await asked.page(since=since, until=reading.ids[0], newest=True)
        return reading.unproven(NOT_OLDEST) if below.frames else reading
