"""Whether an event that the API showed may be one of the flow that was asked for."""

from archiver.domain.events import Event
from archiver.domain.proportion import OUT_OF_PROPORTION, is_far_beyond
from archiver.ingest.heads import Heads
from archiver.ingest.names import Names
from archiver.ingest.pages import Objection


class Belonging:
    """What is known of flows by their names, and by how far they have come."""

    def __init__(self, names: Names, heads: Heads) -> None:
        self._names = names
        self._heads = heads

    def to(self, flow_key: int, path: str) -> Objection:
        """What speaks against an event of this flow."""

        def objection(event: Event) -> str | None:
            if event.flow is not None and self._names.is_another(event.flow, flow_key):
                return "it names another flow than the one that was asked for"
            if is_far_beyond(event.id, self._heads.newest(flow_key), path):
                return OUT_OF_PROPORTION
            return None

        return objection
