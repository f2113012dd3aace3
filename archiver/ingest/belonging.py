"""Whether an event that the API showed may be one of the flow that was asked for.

The API is asked by a flow's path, and that may lead to another flow since the flows were looked up:
when one was renamed, and its name given to a new one.
"""

from archiver.domain.events import Event
from archiver.domain.proportion import OUT_OF_PROPORTION, is_far_beyond
from archiver.flowdock.client import Client
from archiver.flowdock.decode import decode_listed
from archiver.flowdock.pages import Page
from archiver.flowdock.refusals import FlowRefused
from archiver.ingest.heads import Heads
from archiver.ingest.names import Names
from archiver.ingest.pages import Listing, Objection

ANOTHER_FLOW = "it names another flow than the one that was asked for"


class Belonging:
    """What is known of flows by their names, and by how far they have come."""

    def __init__(self, names: Names, heads: Heads) -> None:
        self._names = names
        self._heads = heads

    def to(self, flow_key: int, path: str) -> Objection:
        """What speaks against an event of this flow."""

        def objection(event: Event) -> str | None:
            if event.flow is not None and self._names.is_another(event.flow, flow_key):
                return ANOTHER_FLOW
            if is_far_beyond(event.id, self._heads.newest(flow_key), path):
                return OUT_OF_PROPORTION
            return None

        return objection

    def listing(self, page: Page, flow_key: int, *, as_of: int) -> Listing:
        """*page* of this flow, which was known to have come to *as_of*."""
        objection = self.to(flow_key, page.path)
        return Listing(page=page, flow_key=flow_key, as_of=as_of, objection=objection)

    async def require(self, client: Client, flow_key: int, path: str) -> None:
        """Make sure that *path* leads to the flow still, as far as its newest message tells.

        Raises:
            FlowRefused: it leads to another, or nowhere. And all that `Client.page` raises.
        """
        objection = self.to(flow_key, path)
        for frame in (await client.page(path, newest=True, limit=1)).frames:
            newest = decode_listed(frame)
            if isinstance(newest, Event) and objection(newest) == ANOTHER_FLOW:
                raise FlowRefused(f"{path}, which is another flow now", 404)
