"""The streams of an account: each shard of its flows is followed by a task of its own.

When the flows change, or the service refuses a shard, the flows are distributed again, and only the
shards that differ are replaced: the new stream is opened before the old one is closed.
"""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import NoReturn

from msgspec import Struct

from archiver.domain.model import UserId, is_private
from archiver.domain.sharing import private_slot
from archiver.errors import ArchiverError
from archiver.flowdock.refusals import HeadTooLong, ShardRefused, TokenRefused
from archiver.flowdock.shards import Shard, assign, halve
from archiver.flowdock.stream import Occurrence
from archiver.ingest.intake import Came, Intake
from archiver.ingest.live import Listener, listen
from archiver.ingest.names import Names
from archiver.ingest.roster import Roster
from archiver.ingest.tally import AccountTally, Link
from archiver.ingest.watch import Watch

log = logging.getLogger(__name__)

FIRST_TRUST_SECONDS = 60.0
LONGEST_TRUST_SECONDS = 3600.0
EXCHANGE_SECONDS = 10.0
"""How long to keep a replaced stream at most until the new one is open."""
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 120.0

Follow = Callable[[Shard], AsyncGenerator[Occurrence, None]]


class Lines(Struct, frozen=True, kw_only=True):
    """How an account's streams are followed, and where the events that they bring go."""

    request_line_bytes: int
    follow: Follow
    names: Names
    intake: Intake
    tally: AccountTally


class Connections:
    """The tasks that follow an account's shards."""

    def __init__(self, lines: Lines, roster: Roster, watch: Watch) -> None:
        self._lines = lines
        self._roster = roster
        self._watch = watch
        self._tasks: dict[Shard, asyncio.Task[NoReturn]] = {}
        self._links: dict[Shard, Link] = {}
        self._keys: dict[str, int] = {}
        """By path: the keys of the flows that were last distributed."""
        self._one_stands = asyncio.Event()
        """Set whenever a stream has been opened."""
        self._too_much: set[Shard] = set()
        """Shards that the service refused as they are: they are halved at the next distribution."""
        self._reconnected_at: dict[Shard, float] = {}
        """When a shard was last reconnected because it kept messages back."""
        self._trust_seconds: dict[Shard, float] = {}
        """How long it is not reconnected for that again."""

    async def deal_out(
        self, paths: Mapping[int, str], me: UserId, group: asyncio.TaskGroup
    ) -> None:
        """Follow the flows of *paths*, by key, as the user *me*, by tasks in *group*.

        Streams that still fit are kept.
        """
        keys = {path: key for key, path in paths.items() if not is_private(path)}
        shards = assign(
            keys,
            [part for shard in self._tasks for part in self._parts(shard)],
            private=self._roster.follows_private,
            limit_bytes=self._lines.request_line_bytes,
        )
        ending = {shard: self._tasks.pop(shard) for shard in self._tasks.keys() - set(shards)}
        self._end_misled(keys)
        begun = []
        for number, shard in enumerate(shards, 1):
            if shard not in self._tasks:
                origin = f"{self._lines.tally.name} {number}"
                carried = frozenset(keys[path] for path in shard.flows)
                following = self._follow_shard(shard, carried, me, origin)
                self._tasks[shard] = group.create_task(following)
                begun.append(shard)
        await self._exchange(ending, begun)

    def _end_misled(self, keys: dict[str, int]) -> None:
        """End the streams of paths that have become another flow's: they bring the old flow."""
        misled = {path for path, key in keys.items() if self._keys.get(path, key) != key}
        self._keys = keys
        for shard in [shard for shard in self._tasks if not misled.isdisjoint(shard.flows)]:
            renamed = sorted(misled.intersection(shard.flows))
            log.info("flows were renamed: reconnecting", extra={"flows": renamed})
            self._tasks.pop(shard).cancel()

    def reconnect(self, path: str, *, why: str) -> None:
        """Follow the shard of *path* on a new connection, since this one keeps messages back.

        *why* says what it is known by. If a new connection does not help, it is done ever more
        rarely, because each has all messages of its flows listed again.
        """
        now = asyncio.get_running_loop().time()
        shard = next((shard for shard in self._tasks if path in shard.flows), None)
        if shard is None:
            return
        trust = self._trust_seconds.get(shard, 0.0)
        if now - self._reconnected_at.get(shard, -math.inf) < trust:
            return
        log.warning("%s: reconnecting", why, extra={"flow": path})
        self._lines.tally.ended["kept_back"] += 1
        self._reconnected_at[shard] = now
        self._trust_seconds[shard] = min(max(2 * trust, FIRST_TRUST_SECONDS), LONGEST_TRUST_SECONDS)
        self._tasks.pop(shard).cancel()
        self._roster.stale.set()

    async def _exchange(
        self, ending: Mapping[Shard, asyncio.Task[NoReturn]], begun: Collection[Shard]
    ) -> None:
        """End streams as soon as their replacements are open, so that nothing is missed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(EXCHANGE_SECONDS):
                while any(map(self._stands, ending)) and not all(map(self._stands, begun)):
                    self._one_stands.clear()
                    await self._one_stands.wait()
        for task in ending.values():
            task.cancel()
        if ending:
            await asyncio.wait(ending.values())

    def _stands(self, shard: Shard) -> bool:
        return shard in self._links and self._links[shard].is_open

    def _parts(self, shard: Shard) -> tuple[Shard, ...]:
        """*shard*, or its halves if the service refused it as it is."""
        if shard not in self._too_much:
            return (shard,)
        self._too_much.discard(shard)
        return halve(shard)

    async def _follow_shard(
        self, shard: Shard, carried: frozenset[int], me: UserId, origin: str
    ) -> NoReturn:
        """Follow *shard* for ever; *carried* are the keys of its flows, as this account sees them.

        To another account, the same paths may lead to other flows.
        """
        slots = [*shard.flows, *[private_slot(me)] * shard.private]
        with self._lines.tally.link(slots) as link:
            self._links[shard] = link
            listener = Listener(
                intake=self._lines.intake,
                names=self._lines.names,
                me=me,
                origin=origin,
                newest=self._roster.source.heads.newest,
                on_opened=lambda: self._opened(shard, carried, me),
                on_heard=self._heard,
                tally=self._lines.tally,
                link=link,
            )
            try:
                await self._follow_for_ever(shard, listener)
            finally:
                if self._links.get(shard) is link:
                    del self._links[shard]

    async def _follow_for_ever(self, shard: Shard, listener: Listener) -> NoReturn:
        origin, end = listener.origin, partial(listener.tally.end, listener.link)
        clock = asyncio.get_running_loop().time
        refusals = 0
        while True:
            began = clock()
            try:
                async with aclosing(self._lines.follow(shard)) as occurrences:
                    await listen(occurrences, listener)
            except TokenRefused:
                raise
            except HeadTooLong as refusal:
                end("refused head")
                log.warning(str(refusal), extra={"stream": origin})
                self._split(shard)
            except ShardRefused as refusal:
                end("refused flow")
                log.warning(str(refusal), extra={"stream": origin})
                await self._find_lost(shard)
            except ArchiverError as refusal:
                end("refused otherwise")
                log.error(str(refusal), extra={"stream": origin})  # noqa: TRY400
            refusals = 0 if clock() - began > LONGEST_PAUSE_SECONDS else refusals + 1
            await asyncio.sleep(pause(refusals))

    async def _find_lost(self, shard: Shard) -> None:
        """Request each flow of *shard* individually: the service does not say which it refused."""
        paths = self._roster.source.paths
        keys = {path: key for key, path in paths.items()}
        for path in shard.flows:
            if path in keys:
                await self._roster.look_at_head(keys[path])
        if all(path in self._roster.source.paths.values() for path in shard.flows):
            self._split(shard)
        self._roster.stale.set()

    def _split(self, shard: Shard) -> None:
        """Follow the halves of *shard* from now on, so that one flow does not take down the others.

        A shard of one flow and the private messages is split into these two.
        """
        if len(shard.flows) + shard.private > 1:
            self._too_much.add(shard)
            self._roster.stale.set()

    def _opened(self, shard: Shard, carried: frozenset[int], me: UserId) -> frozenset[int]:
        """Note that the stream of *shard* is open; returns the keys of the flows on it."""
        # Include flows that were lost a moment ago, and conversations that are set aside: they may
        # come back while this stream is open.
        conversations = self._lines.names.under(f"{private_slot(me)}/")
        keys = carried | conversations if shard.private else carried
        self._roster.source.astray -= keys
        self._one_stands.set()
        self._watch.opened(keys, now=asyncio.get_running_loop().time())
        self._roster.connected()
        return keys

    def _heard(self, came: Came) -> None:
        self._watch.heard(came.newest())
        self._roster.heard(came.arrivals)


def pause(failures: int) -> float:
    """How many seconds to wait after so many failures in a row."""
    return min(FIRST_PAUSE_SECONDS * float(1 << min(failures, 30)), LONGEST_PAUSE_SECONDS)
