"""Filling gaps: ranges that no witness proves are requested, page by page, until they are proven.

The ledger is the plan: the gaps are read from it again and again, cut into slices, and requested by
workers, newest first. There are more workers than concurrent requests, so that the next pages
arrive while earlier ones are archived, many in one transaction. A page is archived and proven in
the same transaction, so a kill costs only the pages in hand. Ids younger than the settling time are
not requested: they may not be listable yet.

The audit does the same work on other ids: not the missing but the doubted ones, whose messages may
have been edited, tagged or deleted while nobody listened. The service does not list past edits, so
only the messages themselves show them.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Literal, NoReturn

from archiver.domain.coverage import Ranges
from archiver.flowdock.breaks import reason_of
from archiver.flowdock.client import MAX_PAGE, UNANSWERED
from archiver.flowdock.refusals import FlowRefused, TokenRefused
from archiver.flowdock.retry import is_transient
from archiver.ingest.agenda import SLICE_MESSAGES, Agenda, Slice
from archiver.ingest.pages import Reading
from archiver.ingest.source import Source
from archiver.store.wanted import Wanting

log = logging.getLogger(__name__)

PLAN_SECONDS = 1.0
"""How often the gaps are read from the ledger."""

SHORTEST_PLAN_SECONDS = 0.02
"""How long to keep a plan at least, even if all of it is done sooner."""

LONGEST_WAIT_SECONDS = 60.0
"""The longest backoff that a backfill *until_done* waits out; then it leaves the gap as it is.

Since the pauses double, it outlasts an outage of a minute or two."""

HANDS = 4
"""Workers per concurrent request: while one requests, others decode or await the database."""

MOST_MESSAGES = 2 * SLICE_MESSAGES
"""After so many messages of one slice, the rest of it is given back and cut into new slices."""


class Desk:
    """The state that the planner and the workers share."""

    def __init__(self, purpose: Literal["backfill", "audit"]) -> None:
        self.purpose: Literal["backfill", "audit"] = purpose
        # The audit has one worker, so small slices would gain nothing.
        self.agenda = Agenda(side_by_side=purpose == "backfill")
        self._are_early = True
        self.planned = asyncio.Event()
        self.due = asyncio.Event()
        """Set when the ledger should be read and the agenda planned again at once."""
        self.again_at = 0.0
        """When the last backoff worth waiting for ends, in the event loop's seconds."""

    @property
    def is_doubtful(self) -> bool:
        """Tell whether something is to be listed, now or soon.

        Ranges in backoff do not count: they may stay so for ever.
        """
        return self._are_early or not self.agenda.is_empty

    def choose(self, wanting: Mapping[int, Wanting]) -> dict[int, Ranges]:
        """By flow key: the ids to request for this desk's purpose."""
        self._are_early = any(one.is_early for one in wanting.values())
        if self.purpose == "backfill":
            return {key: one.missing for key, one in wanting.items()}
        # The backfill lists what is missing, and that lifts the doubts about it, too.
        return {key: one.doubted - one.missing for key, one in wanting.items()}


async def backfill(source: Source, *, workers: int, until_done: bool = False) -> None:
    """Fill the gaps of the account's flows, for ever or until none is left that can be filled.

    *workers* is the number of concurrent requests; the client enforces it.

    Raises:
        TokenRefused: the account is locked out.
    """
    desk = Desk("backfill")
    await _ask_all(source, desk, workers=HANDS * workers, until_done=until_done)


async def audit(source: Source, *, cycle: timedelta) -> NoReturn:
    """List doubted ranges again; when there are none, what was listed more than a *cycle* ago.

    Raises:
        TokenRefused: the account is locked out; among others in a group.
    """
    desk = Desk("audit")
    async with asyncio.TaskGroup() as group:
        group.create_task(_ask_all(source, desk, workers=1, until_done=False))
        while True:
            await asyncio.sleep(PLAN_SECONDS)
            if not desk.is_doubtful:
                await source.doubt_oldest(cycle)


async def _ask_all(source: Source, desk: Desk, *, workers: int, until_done: bool) -> None:
    async with asyncio.TaskGroup() as group:
        hands = [group.create_task(_work(source, desk)) for _ in range(workers)]
        await _plan(source, desk, until_done=until_done)
        for hand in hands:
            hand.cancel()


async def _plan(source: Source, desk: Desk, *, until_done: bool) -> None:
    """Keep planning from the ledger; with *until_done*, return when nothing is left to request."""
    clock = asyncio.get_running_loop().time
    while True:
        desk.due.clear()
        desk.agenda.look()
        wanting = desk.choose(await source.wanting())
        now = clock()
        desk.agenda.plan(wanting, now=now)
        if until_done and desk.agenda.is_empty and now >= desk.again_at:
            return
        desk.planned.set()
        desk.planned.clear()
        await asyncio.sleep(SHORTEST_PLAN_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(PLAN_SECONDS):
                await desk.due.wait()


async def _work(source: Source, desk: Desk) -> NoReturn:
    """Take slices off the agenda and fill them."""
    clock = asyncio.get_running_loop().time
    while True:
        taken = desk.agenda.take()
        if taken is None:
            await desk.planned.wait()
            continue
        asked_at = clock()
        try:
            await _fill(source, desk, taken)
        except TokenRefused:
            raise
        except FlowRefused as refusal:
            await source.lose(taken.flow_key, reason=str(refusal))
        except UNANSWERED as error:
            now = clock()
            below = Ranges(((1, taken.last),))
            pause = desk.agenda.rest(taken.flow_key, below, asked_at=asked_at, now=now)
            if is_transient(error) and pause <= LONGEST_WAIT_SECONDS:
                desk.again_at = max(desk.again_at, now + pause)
            reason = reason_of(error)
            await source.fail(
                taken.flow_key, taken.first, taken.last, purpose=desk.purpose, error=reason
            )
            log.warning(
                "cannot fetch a page, trying again",
                extra={"flow": source.paths.get(taken.flow_key), "in_seconds": pause},
            )
        finally:
            desk.agenda.done(taken)
            if not desk.agenda.has_open:
                desk.due.set()


async def _fill(source: Source, desk: Desk, taken: Slice) -> None:
    """Request all pages of *taken*.

    The first page of a flow is its newest, which shows how dense the flow is. If that page is full,
    the rest remains a gap, to be cut into slices that are paged in parallel; so does the rest of a
    slice that holds far too many messages. The audit pages from the newest message down.
    """
    agenda = desk.agenda
    flow_key, first, last = taken.flow_key, taken.first, taken.last
    if not agenda.is_known(flow_key):
        reading = await _ask(source, desk, flow_key, first, last, newest=True)
        if not reading.ids or not reading.reach:
            return
        agenda.learn(flow_key, ids=last - reading.ids[0] + 1, messages=len(reading.ids))
        if len(reading.ids) == MAX_PAGE:
            return
        last = reading.ids[0] - 1
    newest = desk.purpose == "audit"
    begun, ended, found = first, last, 0
    while first <= last:
        reading = await _ask(source, desk, flow_key, first, last, newest=newest)
        if not reading.ids or not reading.reach:
            if reading.trouble is not None:
                return
            break
        found += len(reading.ids)
        if newest:
            last = reading.ids[0] - 1
        else:
            first = reading.ids[-1] + 1
        if found >= MOST_MESSAGES and first <= last:
            agenda.learn(flow_key, ids=first - begun + ended - last, messages=found)
            return
    if not newest and agenda.widen(flow_key, ids=last - begun + 1, messages=found):
        desk.due.set()


async def _ask(
    source: Source, desk: Desk, flow_key: int, first: int, last: int, *, newest: bool
) -> Reading:
    """Request one page; what it should have proven and did not is left alone for a while."""
    clock = asyncio.get_running_loop().time
    asked_at = clock()
    reading = await source.ask(flow_key, first, last, newest=newest, purpose=desk.purpose)
    if reading.trouble is None:
        return reading
    missing = (reading.reach or Ranges(((first, last),))) - reading.proven
    pause = desk.agenda.rest(flow_key, missing, asked_at=asked_at, now=clock())
    log.warning(
        "a page proves less than it should, trying again",
        extra={
            "flow": source.paths.get(flow_key),
            "reason": reading.trouble,
            "in_seconds": pause,
        },
    )
    return reading
