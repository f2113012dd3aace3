"""One account at work: look up its flows, follow their streams, fill gaps, fetch files."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NoReturn

from msgspec import Struct

from archiver.domain.model import UserId
from archiver.errors import Corruption
from archiver.flowdock.breaks import reason_of
from archiver.flowdock.client import UNANSWERED
from archiver.flowdock.refusals import TokenRefused
from archiver.ingest.backfill import HANDS, audit, backfill
from archiver.ingest.connections import Connections, Follow, Lines, pause
from archiver.ingest.directory import Choice
from archiver.ingest.files import Opened, keep_files
from archiver.ingest.intake import Intake
from archiver.ingest.leases import Share
from archiver.ingest.names import Names
from archiver.ingest.roster import Roster
from archiver.ingest.source import Source
from archiver.ingest.tally import AccountTally
from archiver.ingest.watch import Watch

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.1


class Plan(Struct, frozen=True, kw_only=True):
    """What an account archives, and how eagerly."""

    name: str
    choice: Choice
    request_line_bytes: int
    refresh_seconds: float
    """How often flows and people are listed."""
    head_seconds: float
    """How often each flow's newest message is requested."""
    workers: int
    """The number of concurrent requests that fill gaps."""
    audit_cycle: timedelta
    """How often everything is listed again when nothing is doubted."""


class Account:
    """The tasks of one account and what they share."""

    def __init__(
        self,
        plan: Plan,
        source: Source,
        *,
        follow: Follow,
        downloads: Opened | None,
        names: Names,
        intake: Intake,
        tally: AccountTally,
        share: Share,
        now: Callable[[], datetime],
    ) -> None:
        self._plan = plan
        self._tally = tally
        self._downloads = downloads
        self.source = source
        self._roster = Roster(
            source,
            names,
            tally=tally,
            choice=plan.choice,
            share=share,
            aside_seconds=plan.refresh_seconds,
            now=now,
        )
        self._watch = Watch(
            every_seconds=plan.head_seconds, settling_seconds=source.heads.settling_seconds
        )
        lines = Lines(
            request_line_bytes=plan.request_line_bytes,
            follow=follow,
            names=names,
            intake=intake,
            tally=tally,
        )
        self._connections = Connections(lines, self._roster, self._watch)

    async def run(self, me: UserId) -> NoReturn:
        """Archive the account's flows for ever; *me* is its user.

        Raises:
            TokenRefused: the account is locked out; among others in a group.
        """
        self._tally.begin(now=asyncio.get_running_loop().time())
        self._roster.begin(me)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_following(me, group))
                group.create_task(self._watch_heads())
                group.create_task(backfill(self.source, workers=self._plan.workers))
                group.create_task(audit(self.source, cycle=self._plan.audit_cycle))
                if self._downloads is not None:
                    group.create_task(keep_files(self.source, self._downloads))
        finally:
            self.source.stop()
            self._roster.end()
        raise Corruption("the tasks of an account have ended")

    def replan(self, choice: Choice) -> None:
        """Archive the flows of another *choice* from now on.

        A stream whose flows change is opened again; what is sent meanwhile is a gap like any other,
        and is filled. All that its flows hold is doubted, as the old one may have withheld edits.
        """
        self._roster.replan(choice)

    async def look_up(self) -> None:
        """Look up the account's flows.

        Raises:
            TokenRefused: the account is locked out. And all that `Client` raises.
        """
        await self._roster.look_up()
        self._watch.expect(self.source.paths, now=asyncio.get_running_loop().time())

    async def look_at_heads(self) -> None:
        """Request the newest message of each flow once."""
        turns = asyncio.Semaphore(HANDS * self._plan.workers)

        async def look_in_turn(flow_key: int) -> None:
            async with turns:
                await self._look_at_head(flow_key)

        async with asyncio.TaskGroup() as group:
            for flow_key in list(self.source.paths):
                group.create_task(look_in_turn(flow_key))

    async def _keep_following(self, me: UserId, group: asyncio.TaskGroup) -> NoReturn:
        """Look up the flows again and again, and keep their streams open."""
        failures, knows_flows = 0, False
        while True:
            self._roster.stale.clear()
            wait_seconds = self._plan.refresh_seconds
            try:
                await self.look_up()
            except TokenRefused:
                raise
            except UNANSWERED as error:
                log.warning(
                    "cannot list flows, trying again",
                    extra={"account": self._plan.name, "reason": reason_of(error)},
                )
                failures += 1
                wait_seconds = min(wait_seconds, pause(failures))
                self._roster.take_share()
            else:
                failures, knows_flows = 0, True
            if knows_flows:
                await self._connections.deal_out(self.source.paths, me, group)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds):
                    await self._roster.stale.wait()

    async def _watch_heads(self) -> NoReturn:
        """Request the newest message of each flow regularly, and soon after a stream is opened."""
        clock = asyncio.get_running_loop().time
        while True:
            for flow_key in self._watch.due(now=clock()):
                await self._look_at_head(flow_key)
            await asyncio.sleep(WATCH_SECONDS)

    async def _look_at_head(self, flow_key: int) -> None:
        clock = asyncio.get_running_loop().time
        path, asked_at = self.source.paths.get(flow_key), clock()
        newest = await self._roster.look_at_head(flow_key)
        if path is None or newest is None:
            return
        if self._watch.looked(flow_key, newest, now=asked_at):
            self._connections.reconnect(path, why="a stream withholds messages")
        elif flow_key in self.source.astray:
            self._connections.reconnect(
                path, why="a stream may be of another flow that had the path"
            )
        elif not self._watch.is_suspect(flow_key):
            self._tally.match(flow_key, now=clock())
