"""Checks of a page before it proves anything, against further requests and the archive."""

from collections.abc import Callable, Collection
from datetime import datetime
from functools import partial

from msgspec.structs import replace

from archiver.domain.coverage import Ranges
from archiver.domain.events import Vanished
from archiver.domain.model import EventId
from archiver.flowdock.client import Client
from archiver.ingest.absence import Absence
from archiver.ingest.apply import when_possible
from archiver.ingest.batch import Arrival
from archiver.ingest.belonging import Belonging, Inquiry
from archiver.ingest.emptiness import NOT_EMPTY, Emptiness
from archiver.ingest.lag import Lag
from archiver.ingest.order import Order
from archiver.ingest.pages import Listing, Reading
from archiver.ingest.vacancy import Vacancy
from archiver.store import journal
from archiver.store.connection import Engine
from archiver.store.coverage import Purpose


class Scrutiny:
    """Checks pages of an account's flows."""

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
        self._order = Order()
        self._vacancy = Vacancy(engine)
        self._absence = Absence(engine, now=now)
        self._emptiness = Emptiness(engine)
        self._lag = Lag(engine)

    async def hold(
        self, listing: Listing, reading: Reading, *, purpose: Purpose
    ) -> tuple[Reading, list[Arrival]]:
        """Return *reading* with what is proven after all checks, and the answers of Show Message.

        Raises:
            FlowRefused: the flow is lost. And all that `Client.page` and `Client.show` raise.
        """
        flow_key = listing.flow_key
        asked = Inquiry(self._client, self._belonging, listing, reading)
        await asked.settle()  # before what the page shows is remembered
        reading = await self._order.hold(listing, reading, asked)
        absent: list[Arrival] = []
        if not await self._is_vacant(flow_key, reading.proven, purpose):
            reading, absent = await self._absence.look_for(listing, reading, asked)
            told = await self._placed(flow_key, [*reading.arrivals, *absent])
            listed = len(reading.arrivals)
            reading, absent = replace(reading, arrivals=tuple(told[:listed])), told[listed:]
        reading = reading.beside(absent)
        reading = await self._emptiness.hold(listing, reading, asked)
        if reading.trouble == NOT_EMPTY:
            # Another flow may have answered about these, too, and given the path back since.
            absent = [one for one in absent if not isinstance(one.decoded, Vanished)]
        reading = await self._lag.hold(listing, reading, asked)
        # A flow that is lost, or whose path is another flow's now, lists and shows none of its own.
        await asked.settle()
        return reading, absent

    async def _placed(self, flow_key: int, arrivals: Collection[Arrival]) -> list[Arrival]:
        """*arrivals*, each at a position no older than any earlier listing or import of its event.

        An imported file may hold ids that are no longer listed; its position would then be beyond
        that of every listing, and none would ever outweigh it.
        """
        keys = [(flow_key, one.id) for one in arrivals if one.id is not None]
        forms = await when_possible(self._engine, partial(journal.known, keys=keys))
        newest = {
            id_: max((one.as_of for one in its if one.was_listed), default=0)
            for (_, id_), its in forms.items()
        }
        return [
            replace(
                one, listed_as_of=EventId(max(one.listed_as_of or 0, newest.get(one.id or 0, 0)))
            )
            for one in arrivals
        ]

    async def _is_vacant(self, flow_key: int, proven: Ranges, purpose: Purpose) -> bool:
        """Tell whether the archive is known to hold no message in the range that a page proves."""
        if not proven:
            return True
        # Only a gap is worth the question: the archive holds nearly all of what is listed again.
        return purpose == "backfill" and await self._vacancy.is_vacant(
            flow_key, proven.first, proven.last
        )
