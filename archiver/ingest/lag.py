"""Whether a service's index already covers the end of a page's range.

If the index lags, messages missing at its end look as if nothing had been sent. So a page proves
nothing if the service lists nothing newer than the page's range, and yet shows individually what a
stream told of: a newer message, or a message of the range that an event has changed.
"""

from functools import partial

from msgspec.structs import replace

from archiver.ingest.absence import MASS, MOST_SHOWN
from archiver.ingest.apply import when_possible
from archiver.ingest.belonging import Inquiry
from archiver.ingest.pages import Listing, Reading, bounds, read_page
from archiver.store import places
from archiver.store.connection import Engine, Transaction

BEHIND = "Flowdock does not list newer messages that exist: its index is behind"


class Lag:
    """Checks pages against the lag of the index; remembers how far that of each flow reaches."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._come: dict[int, int] = {}

    async def hold(self, listing: Listing, reading: Reading, asked: Inquiry) -> Reading:
        """Return *reading*, unproven if the index is behind the end of its page's range.

        Raises:
            All that `Client.page` and `Client.show` raise.
        """
        if not reading.proven:
            return reading
        flow_key = listing.flow_key
        self._note(flow_key, reading)
        end = reading.proven.last
        if end <= self._come.get(flow_key, 0):
            return reading
        heard_of = partial(_heard_of, listing=listing, reading=reading)
        ids = await when_possible(self._engine, heard_of)
        if not ids:
            return reading
        beyond = await asked.page(since=end, newest=True)
        if beyond.frames:
            await asked.settle()  # before what it shows is remembered
            self._note(flow_key, read_page(replace(listing, page=beyond)))
        elif await asked.shows_any(ids):
            return reading.unproven(BEHIND)
        return reading

    def _note(self, flow_key: int, reading: Reading) -> None:
        self._come[flow_key] = max(0, self._come.get(flow_key, 0), *reading.ids[-1:])


async def _heard_of(tx: Transaction, listing: Listing, reading: Reading) -> list[int]:
    """Messages that streams told of, above all that a page lists, and should be listed by now."""
    flow_key, end = listing.flow_key, reading.proven.last
    begin = reading.ids[-1] + 1 if reading.ids else bounds(listing.page)[0]
    held = await places.beside(tx, flow_key, end, older=False, with_inbox=True, most=MASS)
    newer = [one.id for one in held if one.id <= listing.as_of and not one.is_deleted]
    changed = await places.changed_not_held(tx, flow_key, begin, end, most=MOST_SHOWN)
    return newer[:MOST_SHOWN] + changed
