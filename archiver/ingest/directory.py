"""Which flows an account reads, and who the people in them are.

The service is asked again and again, since flows are joined, left and renamed; what is wanted of
its answer is decided by the operator's patterns. Who the people are only says what to call them, so
nothing waits for that.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from msgspec import Struct

from archiver.domain.model import User
from archiver.flowdock.client import Client
from archiver.flowdock.refusals import TokenRefused
from archiver.ingest.apply import when_possible
from archiver.ingest.backfill import UNANSWERED
from archiver.ingest.names import Names
from archiver.store import directory
from archiver.store.connection import Engine

log = logging.getLogger(__name__)

UNLISTED = timedelta(days=1)
"""A flow that no account was shown for so long can be read by none. Each lists its flows far more
often; one that left a flow while it was stopped does not know of it any more."""


class Choice(Struct, frozen=True, kw_only=True):
    """What an operator wants of an account."""

    is_wanted: Callable[[str], bool]
    """Tells of a flow's path whether it is to be archived."""
    private: bool
    """Whether private conversations are wanted."""
    idle_patterns: Callable[[Collection[str]], Sequence[str]]
    """Tells which of the patterns none of these flows' paths is like."""


class Readable(Struct, frozen=True, kw_only=True):
    """What an account can read."""

    wanted: Mapping[int, str]
    """The paths of flows that are wanted, private conversations among them, by flow key."""
    joined: Sequence[str]
    """The paths of all flows that its user has joined, wanted or not."""


async def look_up(
    client: Client,
    engine: Engine,
    names: Names,
    *,
    choice: Choice,
    now: Callable[[], datetime],
) -> Readable:
    """Ask which flows there are and who is in them, and store the answers.

    Raises:
        TokenRefused: the token is unknown. And all that `Client` raises.
    """
    joined = [flow for flow in await client.flows() if flow.joined]
    conversations = await client.conversations() if choice.private else []
    people = await _people(client)
    await when_possible(engine, lambda tx: directory.see_users(tx, people, now=now()))
    wanted = [*(flow for flow in joined if choice.is_wanted(flow.path)), *conversations]
    keys = await names.see(wanted, now=now())
    return Readable(
        wanted={keys[flow.id]: flow.path for flow in wanted if not flow.disabled},
        joined=[flow.path for flow in joined if not flow.disabled],
    )


async def lose_unlisted(engine: Engine, *, now: datetime) -> None:
    """Note which flows nobody was shown in the day before *now*."""
    unlisted = partial(directory.lose_unlisted, before=now - UNLISTED)
    for path in await when_possible(engine, unlisted):
        log.warning("flow lost", extra={"flow": path, "reason": "not listed for a day"})


async def _people(client: Client) -> Sequence[User]:
    try:
        return await client.users()
    except TokenRefused:
        raise
    except UNANSWERED as error:
        log.warning("people not listed", extra={"reason": error})
        return ()
