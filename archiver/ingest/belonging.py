"""Whether an event that the API showed may be one of the requested flow.

Requests name a flow by its path. Since the flows were looked up, that path may have become another
flow's: when one was renamed, and its old name was given to a new one.
"""

from collections.abc import Iterable

from archiver.domain.events import Event
from archiver.domain.model import FlowId, is_private
from archiver.domain.proportion import OUT_OF_PROPORTION, is_far_beyond
from archiver.flowdock.client import Client
from archiver.flowdock.decode import decode_listed
from archiver.flowdock.pages import Page
from archiver.flowdock.refusals import FlowRefused
from archiver.ingest.heads import Heads
from archiver.ingest.names import Names
from archiver.ingest.pages import Listing, Objection, Reading

ANOTHER_FLOW = "it names another flow than the one requested"


class Belonging:
    """Judges whether events belong to a flow, by the flows' names and newest ids."""

    def __init__(self, names: Names, heads: Heads) -> None:
        self._names = names
        self._heads = heads

    def to(self, flow_key: int, path: str) -> Objection:
        """A function that returns why an event cannot be one of this flow, or None if it can."""

        def objection(event: Event) -> str | None:
            if self._names_another(event, flow_key):
                return ANOTHER_FLOW
            if is_far_beyond(event.id, self._heads.newest(flow_key), path):
                return OUT_OF_PROPORTION
            return None

        return objection

    def listing(self, page: Page, flow_key: int, *, as_of: int) -> Listing:
        """*page* as a listing of this flow, whose newest settled id was *as_of*."""
        objection = self.to(flow_key, page.path)
        return Listing(page=page, flow_key=flow_key, as_of=as_of, objection=objection)

    def is_untold(self, reading: Reading) -> bool:
        """Tell whether a page has messages of the flow, but none that names it by its id."""
        shown = [one.decoded for one in reading.arrivals if isinstance(one.decoded, Event)]
        return bool(shown) and not any(map(self.tells, shown))

    def tells(self, event: Event) -> bool:
        """Tell whether *event* names its flow by an id; one that names no flow is believed."""
        return event.flow is None or self._names.tells(event.flow)

    async def require(self, client: Client, flow_key: int, path: str) -> None:
        """Make sure that *path* still leads to the flow, judging by the newest message there.

        Raises:
            FlowRefused: it leads to another, or nowhere. And all that `Client.page` raises.
        """
        objection = self.to(flow_key, path)
        newest = None
        for frame in (await client.page(path, newest=True, limit=1)).frames:
            newest = decode_listed(frame)
        if isinstance(newest, Event) and objection(newest) == ANOTHER_FLOW:
            raise _refused(path)
        if not isinstance(newest, Event) or not self.tells(newest):
            await self.require_by_id(client, flow_key, path)

    async def require_by_id(self, client: Client, flow_key: int, path: str) -> None:
        """The same where no message tells, as in a flow just created: the flow tells its id.

        Raises:
            FlowRefused: it leads to another, or nowhere. And all that `Client.flow_at` raises.
        """
        if not is_private(path):
            there = await client.flow_at(path)
            if there is not None and not self._is_id_of(there, flow_key):
                raise _refused(path)

    def _names_another(self, event: Event, flow_key: int) -> bool:
        return (
            event.flow is not None
            and self._names.tells(event.flow)
            and self._names.is_another(event.flow, flow_key)
        )

    def _is_id_of(self, name: FlowId, flow_key: int) -> bool:
        return self._names.tells(name) and self._names.is_same(name, flow_key)


class Inquiry:
    """Further requests about a listing, by the path that it was requested by.

    The path may become another flow's between any two of them. What they show may be concluded once
    `settle` has returned.
    """

    def __init__(
        self, client: Client, belonging: Belonging, listing: Listing, reading: Reading
    ) -> None:
        self._client = client
        self._belonging = belonging
        self._listing = listing
        self._is_open = belonging.is_untold(reading)
        """The last answer does not tell whether it is this flow's."""

    async def page(
        self, *, since: int | None = None, until: int | None = None, newest: bool
    ) -> Page:
        """The same as `Client.page`, for one message."""
        path = self._listing.page.path
        page = await self._client.page(path, since=since, until=until, newest=newest, limit=1)
        self._note(page.frames)
        return page

    async def show(self, message_id: int) -> bytes | None:
        """The same as `Client.show`."""
        frame = await self._client.show(self._listing.page.path, message_id)
        self._note(() if frame is None else (frame,))
        return frame

    async def shows_any(self, ids: Iterable[int]) -> bool:
        """Tell whether the service shows any of these messages when it is requested individually.

        Raises:
            All that `Client.show` raises.
        """
        for id_ in ids:
            if await self.show(id_) is not None:
                return True
        return False

    async def settle(self) -> None:
        """Make sure that all answers were this flow's, unless the last one shows it.

        Raises:
            FlowRefused: the path leads to another, or nowhere. And all that `Client.page` raises.
        """
        if self._is_open:
            page = self._listing.page
            await self._belonging.require(self._client, self._listing.flow_key, page.path)
            self._is_open = False

    def _note(self, frames: Iterable[bytes]) -> None:
        shown = [one for one in map(decode_listed, frames) if isinstance(one, Event)]
        self._is_open = (
            not shown
            or any(map(self._listing.objection, shown))
            or not any(map(self._belonging.tells, shown))
        )


def _refused(path: str) -> FlowRefused:
    return FlowRefused(f"{path}, which is another flow now", 404)
