"""Whether an event that the API showed may be one of the requested flow.

Requests name a flow by its path. Since the flows were looked up, that path may have become another
flow's: when one was renamed, and its old name was given to a new one.
"""

from archiver.domain.events import Event
from archiver.domain.model import is_private
from archiver.domain.proportion import OUT_OF_PROPORTION, is_far_beyond
from archiver.flowdock.client import Client
from archiver.flowdock.decode import decode_listed
from archiver.flowdock.pages import Page
from archiver.flowdock.refusals import FlowRefused
from archiver.ingest.heads import Heads
from archiver.ingest.names import Names
from archiver.ingest.pages import Listing, Objection

ANOTHER_FLOW = "it names another flow than the one requested"


class Belonging:
    """Judges whether events belong to a flow, by the flows' names and newest ids."""

    def __init__(self, names: Names, heads: Heads) -> None:
        self._names = names
        self._heads = heads

    def to(self, flow_key: int, path: str) -> Objection:
        """A function that returns why an event cannot be one of this flow, or None if it can."""

        def objection(event: Event) -> str | None:
            if event.flow is not None and self._names.is_another(event.flow, flow_key):
                return ANOTHER_FLOW
            if is_far_beyond(event.id, self._heads.newest(flow_key), path):
                return OUT_OF_PROPORTION
            return None

        return objection

    def listing(self, page: Page, flow_key: int, *, as_of: int) -> Listing:
        """*page* as a listing of this flow, whose newest settled id was *as_of*."""
        objection = self.to(flow_key, page.path)
        return Listing(page=page, flow_key=flow_key, as_of=as_of, objection=objection)

    async def require(self, client: Client, flow_key: int, path: str) -> None:
        """Make sure that *path* still leads to the flow, judging by the newest message there.

        Raises:
            FlowRefused: it leads to another, or nowhere. And all that `Client.page` raises.
        """
        objection = self.to(flow_key, path)
        frames = (await client.page(path, newest=True, limit=1)).frames
        if not frames:
            await self.require_of_empty(client, flow_key, path)
        for frame in frames:
            newest = decode_listed(frame)
            if isinstance(newest, Event) and objection(newest) == ANOTHER_FLOW:
                raise _refused(path)

    async def require_of_empty(self, client: Client, flow_key: int, path: str) -> None:
        """The same where nothing is listed, as in a flow just created: the flow tells its id.

        Raises:
            FlowRefused: it leads to another, or nowhere. And all that `Client.flow_at` raises.
        """
        if not is_private(path):
            there = await client.flow_at(path)
            if there is not None and not self._names.is_same(there, flow_key):
                raise _refused(path)


def _refused(path: str) -> FlowRefused:
    return FlowRefused(f"{path}, which is another flow now", 404)
