"""One account at work: its flows looked up, their streams followed, their gaps filled.

Each shard of flows is followed by a task of its own. When the directory changes, or the service
refuses a shard, the shards are dealt out anew and only those that differ are exchanged. A flow that
cannot be read is left aside for a while and does not take the others down.
"""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from datetime import datetime, timedelta
from typing import NoReturn

from msgspec import Struct
from msgspec.structs import replace

from archiver.domain.events import Signal
from archiver.domain.model import UserId
from archiver.errors import ArchiverError, Corruption
from archiver.flowdock.refusals import FlowRefused, HeadTooLong, ShardRefused, TokenRefused
from archiver.flowdock.shards import Shard, assign, halve
from archiver.flowdock.stream import Occurrence
from archiver.ingest.backfill import UNANSWERED, audit, backfill
from archiver.ingest.batch import Arrival
from archiver.ingest.directory import Wanted, look_up
from archiver.ingest.intake import Intake
from archiver.ingest.live import Listener, listen
from archiver.ingest.names import Names
from archiver.ingest.source import Source
from archiver.ingest.tally import AccountTally, Link
from archiver.ingest.watch import Watch

log = logging.getLogger(__name__)

MEMBERSHIP = frozenset({"flow-add", "flow-remove"})
"""Signals that say that the account's flows have changed."""

FRESH_SECONDS = 1.0
WATCH_SECONDS = 0.1
FIRST_TRUST_SECONDS = 60.0
LONGEST_TRUST_SECONDS = 3600.0
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 120.0


class Plan(Struct, frozen=True, kw_only=True):
    """What an account archives, and how eagerly."""

    name: str
    wanted: Wanted
    private: bool
    request_line_bytes: int = 4096
    refresh_seconds: float = 300.0
    head_seconds: float = 60.0
    workers: int = 4
    audit_cycle: timedelta = timedelta(days=30)


Follow = Callable[[Shard], AsyncGenerator[Occurrence, None]]


class Account:
    """The tasks of one account and what they share."""

    def __init__(
        self,
        plan: Plan,
        source: Source,
        *,
        follow: Follow,
        names: Names,
        intake: Intake,
        tally: AccountTally,
        now: Callable[[], datetime],
    ) -> None:
        self._plan = plan
        self.source = source
        self._follow = follow
        self._names = names
        self._intake = intake
        self._tally = tally
        self._now = now
        self._me = UserId("")
        self._tasks: dict[Shard, asyncio.Task[NoReturn]] = {}
        self._too_much: set[Shard] = set()
        self._stale = asyncio.Event()
        self._aside: dict[str, float] = {}
        self._unknown: set[int] = set()
        self._looked_up_at = -math.inf
        self._followed: tuple[int, int] | None = None
        self._watch = Watch(
            every_seconds=plan.head_seconds, settling_seconds=source.heads.settling_seconds
        )
        self._reconnected_at: dict[Shard, float] = {}
        self._trust_seconds: dict[Shard, float] = {}

    async def run(self, me: UserId) -> NoReturn:
        """Archive the account's flows, for ever; *me* is its user.

        Raises:
            TokenRefused: the account is locked out; among others in a group.
        """
        self._me = me
        self._tally.begin(now=asyncio.get_running_loop().time())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_shards(group))
            group.create_task(self._watch_heads())
            group.create_task(backfill(self.source, workers=self._plan.workers))
            group.create_task(audit(self.source, workers=1, cycle=self._plan.audit_cycle))
        raise Corruption("the tasks of an account have ended")

    def replan(self, *, wanted: Wanted, private: bool) -> None:
        """Archive other flows from now on.

        A stream that is to carry other flows is opened anew; what is said meanwhile is a gap like
        any other, and is filled.
        """
        self._plan = replace(self._plan, wanted=wanted, private=private)
        self._stale.set()

    async def look_up(self) -> None:
        """Ask for the account's flows, and leave out those that were refused a short while ago."""
        clock = asyncio.get_running_loop().time
        self._looked_up_at = clock()
        paths = await look_up(
            self.source.client,
            self.source.engine,
            self._names,
            wanted=self._plan.wanted,
            private=self._plan.private,
            now=self._now,
        )
        for key in self.source.paths.keys() - paths.keys():
            await self.source.lose(key, reason="not listed any more")
        self.source.paths = {
            key: path for key, path in paths.items() if self._aside.get(path, 0.0) <= clock()
        }
        self._watch.expect(self.source.paths, now=clock())
        self._tell_followed()

    def _tell_followed(self) -> None:
        """Tell once, and again when it changes, what is followed: a mistyped pattern shows here."""
        self._tally.paths = self.source.paths
        private = sum(path.startswith("private/") for path in self.source.paths.values())
        followed = (len(self.source.paths) - private, private)
        if followed != self._followed:
            self._followed = followed
            about = {"account": self._plan.name, "flows": followed[0], "conversations": private}
            told = log.info if followed[0] else log.warning
            told("following", extra=about)

    async def _keep_shards(self, group: asyncio.TaskGroup) -> NoReturn:
        """Follow all flows, and go on doing so as they come and go."""
        failures = 0
        while True:
            self._stale.clear()
            wait_seconds = self._plan.refresh_seconds
            try:
                await self.look_up()
            except TokenRefused:
                raise
            except UNANSWERED as error:
                log.warning("flows not listed", extra={"account": self._plan.name, "reason": error})
                failures += 1
                wait_seconds = min(wait_seconds, _pause(failures))
            else:
                failures = 0
                await self._deal_out(group)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await self._stale.wait()

    async def _deal_out(self, group: asyncio.TaskGroup) -> None:
        flows = [path for path in self.source.paths.values() if not path.startswith("private/")]
        shards = assign(
            flows,
            [part for shard in self._tasks for part in self._parts(shard)],
            private=self._plan.private,
            limit_bytes=self._plan.request_line_bytes,
        )
        for shard in self._tasks.keys() - set(shards):
            if task := self._tasks.pop(shard, None):
                task.cancel()
                await asyncio.wait([task])
        for number, shard in enumerate(shards, 1):
            if shard not in self._tasks:
                origin = f"{self._plan.name} {number}"
                self._tasks[shard] = group.create_task(self._follow_shard(shard, origin))

    def _parts(self, shard: Shard) -> tuple[Shard, ...]:
        """*shard*, or its halves if the service refused it as it is."""
        if shard not in self._too_much:
            return (shard,)
        self._too_much.discard(shard)
        return halve(shard)

    async def _follow_shard(self, shard: Shard, origin: str) -> NoReturn:
        with self._tally.link() as link:
            await self._follow_for_ever(shard, origin, link)

    async def _follow_for_ever(self, shard: Shard, origin: str, link: Link) -> NoReturn:
        listener = Listener(
            intake=self._intake,
            names=self._names,
            me=self._me,
            origin=origin,
            newest=self.source.heads.newest,
            on_opened=lambda: self._opened(shard),
            on_heard=self._heard,
            tally=self._tally,
            link=link,
        )
        clock = asyncio.get_running_loop().time
        refusals = 0
        while True:
            began = clock()
            try:
                async with aclosing(self._follow(shard)) as occurrences:
                    await listen(occurrences, listener)
            except TokenRefused:
                raise
            except HeadTooLong as refusal:
                self._tally.end(link, "refused head")
                log.warning(str(refusal), extra={"stream": origin})
                self._split(shard)
            except ShardRefused as refusal:
                self._tally.end(link, "refused flow")
                log.warning(str(refusal), extra={"stream": origin})
                await self._find_lost(shard)
            except ArchiverError as refusal:
                self._tally.end(link, "refused otherwise")
                log.error(str(refusal), extra={"stream": origin})  # noqa: TRY400
            refusals = 0 if clock() - began > LONGEST_PAUSE_SECONDS else refusals + 1
            await asyncio.sleep(_pause(refusals))

    async def _find_lost(self, shard: Shard) -> None:
        """Ask for each flow of *shard* alone: the service does not say which it refused."""
        keys = {path: key for key, path in self.source.paths.items()}
        for path in shard.flows:
            if path in keys:
                await self._look_at_head(keys[path])
        if all(path in self.source.paths.values() for path in shard.flows):
            self._split(shard)
        self._stale.set()

    def _split(self, shard: Shard) -> None:
        """Follow the halves of *shard* from now on, so that one flow does not cost the others."""
        if len(shard.flows) > 1:
            self._too_much.add(shard)
            self._stale.set()

    async def _look_at_head(self, flow_key: int) -> None:
        clock = asyncio.get_running_loop().time
        path = self.source.paths.get(flow_key)
        if path is None:
            return
        try:
            newest = await self.source.look_at_head(flow_key)
        except TokenRefused:
            raise
        except FlowRefused as refusal:
            self._aside[path] = clock() + self._plan.refresh_seconds
            await self.source.lose(flow_key, reason=str(refusal))
            self._stale.set()
        except UNANSWERED as error:
            log.warning("head not told", extra={"flow": path, "reason": error})
        else:
            if self._watch.looked(flow_key, newest, now=clock()):
                self._reconnect(path)
            elif not self._watch.is_suspect(flow_key):
                self._tally.match(flow_key, now=clock())

    def _reconnect(self, path: str) -> None:
        """Follow the shard of *path* on another connection: this one keeps things back.

        If that does not help, it is done ever more rarely, since each time all is listed again.
        """
        now = asyncio.get_running_loop().time()
        shard = next((shard for shard in self._tasks if path in shard.flows), None)
        if shard is None:
            return
        trust = self._trust_seconds.get(shard, 0.0)
        if now - self._reconnected_at.get(shard, -math.inf) < trust:
            return
        log.warning("stream keeps messages back: reconnecting", extra={"flow": path})
        self._tally.ended["kept_back"] += 1
        self._reconnected_at[shard] = now
        self._trust_seconds[shard] = min(max(2 * trust, FIRST_TRUST_SECONDS), LONGEST_TRUST_SECONDS)
        self._tasks.pop(shard).cancel()
        self._stale.set()

    async def look_at_heads(self) -> None:
        """Learn how far each flow has come."""
        turns = asyncio.Semaphore(self._plan.workers)

        async def look_in_turn(flow_key: int) -> None:
            async with turns:
                await self._look_at_head(flow_key)

        async with asyncio.TaskGroup() as group:
            for flow_key in list(self.source.paths):
                group.create_task(look_in_turn(flow_key))

    async def _watch_heads(self) -> NoReturn:
        """Look at the newest message of each flow now and then, and soon after a connection."""
        clock = asyncio.get_running_loop().time
        while True:
            for flow_key in self._watch.due(now=clock()):
                if flow_key in self.source.paths:
                    await self._look_at_head(flow_key)
            await asyncio.sleep(WATCH_SECONDS)

    def _opened(self, shard: Shard) -> frozenset[int]:
        """The flows on *shard*; what came before the connection is listable when it has settled."""
        clock = asyncio.get_running_loop().time
        keys = frozenset(key for key, path in self.source.paths.items() if path in shard.flows)
        if shard.private:
            # Also those that are left aside: they may come back without another opening.
            keys |= self._names.under(f"private/{self._me}/")
        self._watch.opened(keys, now=clock())
        if clock() - self._looked_up_at > FRESH_SECONDS:
            self._stale.set()  # a flow may have been joined, or a conversation begun, meanwhile
        return keys

    def _heard(self, arrival: Arrival) -> None:
        """Look the flows up anew when one is spoken of that is not known, or when told to."""
        key = arrival.flow_key
        if key is not None and arrival.id is not None:
            self._watch.heard(key, arrival.id)
        is_new = key is not None and key not in self.source.paths and key not in self._unknown
        if key is not None and is_new:
            self._unknown.add(key)
        told = isinstance(arrival.decoded, Signal) and arrival.decoded.kind in MEMBERSHIP
        if is_new or told:
            self._stale.set()


def _pause(failures: int) -> float:
    """How many seconds to wait after so many failures, one after the other."""
    return min(FIRST_PAUSE_SECONDS * float(1 << min(failures, 30)), LONGEST_PAUSE_SECONDS)
