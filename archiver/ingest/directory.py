"""Which flows an account reads, and who the people in them are.

The service is asked again and again, since flows are joined, left and renamed; what is wanted of
its answer is decided by the operator's patterns.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from archiver.domain.model import Flow
from archiver.flowdock.client import Client
from archiver.ingest.apply import when_possible
from archiver.ingest.names import Names
from archiver.store import directory
from archiver.store.engine import Engine

log = logging.getLogger(__name__)

Wanted = Callable[[str], bool]
"""Tells of a flow's path whether it is to be archived."""


async def look_up(
    client: Client,
    engine: Engine,
    names: Names,
    *,
    wanted: Wanted,
    private: bool,
    now: Callable[[], datetime],
) -> dict[int, str]:
    """Ask which flows there are and who is in them, and store the answers.

    Returns the paths of the flows to read, private conversations among them, by flow key.

    Raises:
        TokenRefused: the token is unknown. And all that `Client` raises.
    """
    joined = [flow for flow in await client.flows() if flow.joined and wanted(flow.path)]
    conversations = await client.conversations() if private else []
    people = await client.users()
    await when_possible(engine, lambda tx: directory.see_users(tx, people, now=now()))
    keys = await names.see([*joined, *conversations], now=now())
    return {keys[flow.id]: flow.path for flow in _readable([*joined, *conversations])}


def _readable(flows: Sequence[Flow]) -> list[Flow]:
    return [flow for flow in flows if not flow.disabled]
