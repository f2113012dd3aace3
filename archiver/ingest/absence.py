"""What the archive holds and a listing does not show.

Such a message was deleted unheard, or the listing is wrong: after a deletion the service's listings
were seen to be so for minutes. So each is asked for by itself, and only a 404 counts. When most of
a range is gone at once, the service has put its own history away, and an archive must not follow.
"""

import logging
from collections.abc import Iterable
from datetime import datetime
from functools import partial

from archiver.domain.coverage import Ranges
from archiver.domain.events import Vanished
from archiver.domain.model import EventId
from archiver.flowdock.client import Client
from archiver.flowdock.decode import decode_listed
from archiver.ingest.apply import when_possible
from archiver.ingest.batch import Arrival, vanished
from archiver.store import messages
from archiver.store.engine import Engine

log = logging.getLogger(__name__)

MASS = 20
"""More than so many, and more than half of a range: no deletion by people."""

NOT_FOUND = b'{"message":"not found"}'


async def look_for(
    client: Client,
    engine: Engine,
    *,
    flow_key: int,
    path: str,
    proven: Ranges,
    listed: Iterable[int],
    as_of: int,
    now: datetime,
) -> list[Arrival]:
    """Ask for each message in *proven* that the archive holds and that was not *listed*.

    Raises:
        All that `Client.show` raises.
    """
    held: set[int] = set()
    for first, last in proven:
        there = partial(messages.ids_there, flow_key=flow_key, first=first, last=last)
        held |= await when_possible(engine, there)
    absent = sorted(held - set(listed))
    if len(absent) > MASS and len(absent) * 2 > len(held):
        log.warning(
            "messages vanished in bulk, and are kept as they are",
            extra={"flow": path, "messages": len(absent), "first": absent[0], "last": absent[-1]},
        )
        return []
    found = []
    for id_ in absent:
        frame = await client.show(path, id_)
        found.append(
            Arrival(
                frame=NOT_FOUND if frame is None else frame,
                decoded=vanished(id_, sent_at=now) if frame is None else decode_listed(frame),
                flow_key=flow_key,
                witness="show" if frame is None else "list",
                origin=f"show {path}",
                received_at=now,
                listed_as_of=EventId(as_of),
            )
        )
    if any(isinstance(one.decoded, Vanished) for one in found):
        # A lost flow answers 404 as well: then this raises, and nothing is concluded.
        await client.page(path, newest=True, limit=1)
    return found
