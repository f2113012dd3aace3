"""Which flows an account reads, and who the people in them are.

The service is asked again and again, since flows are joined, left and renamed; the operator's
patterns decide which of them are wanted. The list of people only provides names, so nothing depends
on it.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from msgspec import Struct

from archiver.domain.model import User
from archiver.flowdock.breaks import reason_of
from archiver.flowdock.client import UNANSWERED, Client
from archiver.flowdock.refusals import TokenRefused
from archiver.ingest.apply import when_possible
from archiver.ingest.names import Names
from archiver.store import directory
from archiver.store.connection import Engine

log = logging.getLogger(__name__)

UNLISTED = timedelta(days=1)
"""A flow that no account has been shown for so long counts as lost.

Each account lists its flows far more often. An account that left a flow while the daemon was
stopped does not know that it ever had it, so it cannot report the flow as lost."""


class Choice(Struct, frozen=True, kw_only=True):
    """What an operator wants of an account."""

    is_wanted: Callable[[str], bool]
    """Tells whether the flow of this path is to be archived."""
    private: bool
    """Whether private conversations are wanted."""
    idle_patterns: Callable[[Collection[str]], Sequence[str]]
    """Returns the patterns that match none of these paths."""


class Readable(Struct, frozen=True, kw_only=True):
    """What an account can read."""

    wanted: Mapping[int, str]
    """By flow key: the paths of the wanted flows, including private conversations."""
    joined: Sequence[str]
    """The paths of all flows that its user has joined, wanted or not."""
    excluded: Collection[int]
    """The keys of flows that were listed before and can be read, but are not wanted."""


async def look_up(
    client: Client,
    engine: Engine,
    names: Names,
    *,
    choice: Choice,
    now: Callable[[], datetime],
) -> Readable:
    """Request the flows and the people in them, and store the answers.

    Of a flow that is not wanted, only what the listing says is stored, if it was listed before.

    Raises:
        TokenRefused: the token is unknown. And all that `Client` raises.
    """
    joined = [flow for flow in await client.flows() if flow.joined]
    conversations = await client.conversations() if choice.private else []
    people = await _people(client)
    await when_possible(engine, lambda tx: directory.see_users(tx, people, now=now()))
    wanted = [*(flow for flow in joined if choice.is_wanted(flow.path)), *conversations]
    others = [flow for flow in joined if not choice.is_wanted(flow.path)]
    excluded = [flow for flow in others if names.has_listed(flow.id)]
    keys = await names.see([*wanted, *excluded], now=now())
    return Readable(
        wanted={keys[flow.id]: flow.path for flow in wanted if not flow.disabled},
        joined=[flow.path for flow in joined if not flow.disabled],
        excluded=frozenset(keys[flow.id] for flow in excluded),
    )


async def lose_unlisted(engine: Engine, *, choice: Choice, now: datetime) -> None:
    """Mark as lost the flows that no account was shown in the day before *now*.

    Private conversations are not, unless they are wanted: otherwise nobody asks for them.
    """
    unlisted = partial(directory.lose_unlisted, before=now - UNLISTED, private=choice.private)
    for path in filter(choice.is_wanted, await when_possible(engine, unlisted)):
        log.warning(
            "flow can no longer be read",
            extra={"flow": path, "reason": "Flowdock has not listed it for a day"},
        )


async def _people(client: Client) -> Sequence[User]:
    try:
        return await client.users()
    except TokenRefused:
        raise
    except UNANSWERED as error:
        log.warning("cannot list people, trying again later", extra={"reason": reason_of(error)})
        return ()
