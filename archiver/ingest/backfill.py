"""Filling gaps: what no witness proves is asked for, page by page, until it is proven.

The ledger is the plan: what is wanted is read out of it again and again, and workers ask for slices
of it, newest first. There are more workers than requests under way: while pages are archived, many
together, the next ones come. Each is archived and proves its part in one transaction, so a kill
costs what was in hand. Nothing asks for ids younger than the settling time: they may not be
listable yet.

The audit is the same work on other ids: not on what is missing, but on what is doubted, since it
may have been edited, tagged or deleted while nobody listened. The service does not list past edits,
so only the messages themselves can tell.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Literal, NoReturn

import aiohttp

from archiver.domain.coverage import Ranges
from archiver.errors import ArchiverError
from archiver.flowdock.breaks import what_said
from archiver.flowdock.client import MAX_PAGE
from archiver.flowdock.refusals import FlowRefused, TokenRefused
from archiver.flowdock.retry import is_transient
from archiver.ingest.agenda import SLICE_MESSAGES, Agenda, Slice
from archiver.ingest.pages import Reading
from archiver.ingest.source import Source
from archiver.store.wanted import Wanting

log = logging.getLogger(__name__)

PLAN_SECONDS = 1.0
"""How often the gaps are read out of the ledger."""

SHORTEST_PLAN_SECONDS = 0.02
"""How long a plan holds at least, however soon nothing is left of it."""

LONGEST_WAIT_SECONDS = 60.0
"""Who wants to be done waits no longer to ask again for what was not given: all in all, an outage
of a minute or two."""

HANDS = 4
"""Workers for each request that may be under way: the others decode, and wait for the archive."""

MOST_MESSAGES = 2 * SLICE_MESSAGES
"""Of one slice; the rest of it is cut anew."""

UNANSWERED = (ArchiverError, aiohttp.ClientError, TimeoutError)
"""What asking for a page raises when the service does not give one."""


class Desk:
    """Where the planner and the workers meet."""

    def __init__(self, purpose: Literal["backfill", "audit"]) -> None:
        self.purpose: Literal["backfill", "audit"] = purpose
        # The audit has one worker, and is in no hurry.
        self.agenda = Agenda(side_by_side=purpose == "backfill")
        self._are_early = True
        self.planned = asyncio.Event()
        self.due = asyncio.Event()
        """Set when what is open should be planned anew."""
        self.again_at = 0.0
        """Until when something rests that may be given then, by the event loop's seconds."""

    @property
    def is_doubtful(self) -> bool:
        """Tell whether something is to be listed, now or soon; what rests may do so for ever."""
        return self._are_early or not self.agenda.is_empty

    def choose(self, wanting: Mapping[int, Wanting]) -> dict[int, Ranges]:
        """By flow key: the ids that are this desk's business."""
        self._are_early = any(one.is_early for one in wanting.values())
        if self.purpose == "backfill":
            return {key: one.missing for key, one in wanting.items()}
        # What is missing is somebody else's, and doubted no more once it is listed.
        return {key: one.doubted - one.missing for key, one in wanting.items()}


async def backfill(source: Source, *, workers: int, until_done: bool = False) -> None:
    """Fill the gaps of the account's flows, for ever or until none is left that can be filled.

    *workers* is how many requests may be under way at once, which the client sees to.

    Raises:
        TokenRefused: the account is locked out.
    """
    desk = Desk("backfill")
    await _ask_all(source, desk, workers=HANDS * workers, until_done=until_done)


async def audit(source: Source, *, cycle: timedelta) -> NoReturn:
    """List again what is doubted; in quiet times, what was listed more than a *cycle* ago.

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
    """Keep the agenda true; returns when nothing is left to ask for, if that is wanted."""
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
            reason = what_said(error)
            await source.fail(
                taken.flow_key, taken.first, taken.last, purpose=desk.purpose, error=reason
            )
            log.warning(
                "page not given, trying again",
                extra={"flow": source.paths.get(taken.flow_key), "in_seconds": pause},
            )
        finally:
            desk.agenda.done(taken)
            if not desk.agenda.has_open:
                desk.due.set()


async def _fill(source: Source, desk: Desk, taken: Slice) -> None:
    """Ask for all that *taken* covers.

    The first page of a flow is the newest: it tells how dense the flow is. If there is more, the
    rest goes back to the ledger, to be cut into slices that are asked for side by side; so does the
    rest of a slice that holds far more than one should. The audit has no hurry, and lists what is
    newest first.
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
    """Ask for one page; what it should have proven and did not rests for a while."""
    clock = asyncio.get_running_loop().time
    asked_at = clock()
    reading = await source.ask(flow_key, first, last, newest=newest, purpose=desk.purpose)
    if reading.trouble is None:
        return reading
    missing = (reading.reach or Ranges(((first, last),))) - reading.proven
    pause = desk.agenda.rest(flow_key, missing, asked_at=asked_at, now=clock())
    log.warning(
        "page proves less than it should",
        extra={
            "flow": source.paths.get(flow_key),
            "reason": reading.trouble,
            "in_seconds": pause,
        },
    )
    return reading
