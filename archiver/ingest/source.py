"""Requesting messages from an account's API, and archiving the answers."""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from msgspec.structs import replace

from archiver.domain.coverage import Ranges
from archiver.flowdock.client import MAX_PAGE, Client
from archiver.flowdock.refusals import AnswerTooLong, FlowRefused
from archiver.flowdock.retry import Gate
from archiver.ingest.apply import apply_patiently, when_possible
from archiver.ingest.batch import Applied, Arrival, Batch
from archiver.ingest.belonging import Belonging
from archiver.ingest.ends import Ends
from archiver.ingest.epochs import UNSETTLED, Epochs
from archiver.ingest.heads import Heads
from archiver.ingest.names import Names
from archiver.ingest.pages import Listing, Reading, batch_of, bounds, read_page
from archiver.ingest.scrutiny import Scrutiny
from archiver.ingest.tally import Tally
from archiver.ingest.together import Together
from archiver.ingest.turns import Turns
from archiver.store import coverage, directory, doubts, wanted
from archiver.store.bulk import Key
from archiver.store.connection import Engine
from archiver.store.coverage import PageRow, Purpose, Standing
from archiver.store.wanted import Wanting

log = logging.getLogger(__name__)

FEW = MAX_PAGE // 10
"""Messages to request when a full page is too long an answer; if that still is, one at a time."""

STREAM_FIRST_SECONDS = 2.0
"""How much longer a new id waits before it is noted as due.

Streams write their claims every half second, and what they prove needs no page."""


class Source:
    """The flows of one account that can be read, by flow key, and how to request their messages."""

    def __init__(
        self,
        client: Client,
        engine: Engine,
        heads: Heads,
        names: Names,
        *,
        account: str,
        turns: Turns,
        filing: asyncio.Lock,
        run: str,
        tally: Tally,
        now: Callable[[], datetime],
        audits_per_second: float,
    ) -> None:
        self.client = client
        self.engine = engine
        self.heads = heads
        self.paths: dict[int, str] = {}
        """The flows that this daemon requests: its share of `visible`."""
        self.visible: dict[int, str] = {}
        """All wanted flows that can be read, whether this daemon or another one requests them."""
        self.untold: dict[int, str] = {}
        """Flows whose newest message the service did not give at the last request, and why.

        Flows that are listed but refused are among them.
        """
        self.astray: set[int] = set()
        """Flows whose paths led elsewhere, or nowhere, since their streams were opened.

        The streams may be those of what the paths led to, even if they lead to the flows again.
        """
        self.filing = filing
        """Shared by all accounts; held during each transaction that finds or stores files."""
        self._belonging = Belonging(names, heads)
        self._account = account
        self._turns = turns
        self._epochs = Epochs(settling_seconds=heads.settling_seconds)
        self._audit_gate = Gate(requests_per_second=audits_per_second, concurrency=1)
        self._run = run
        self._tally = tally
        self._together = Together(self._archive)
        self._scrutiny = Scrutiny(client, engine, self._belonging, now=now)
        self._ends = Ends(client, heads, self._belonging, keep=self._keep)
        self._large = asyncio.Lock()
        self._now = now

    async def ask(
        self,
        flow_key: int,
        first: int,
        last: int,
        *,
        newest: bool,
        purpose: Purpose,
    ) -> Reading:
        """Request one page of the messages from *first* to *last*, and archive it.

        `Reading.proven` is what is proven in the archive now.

        Raises:
            FlowRefused: the flow is lost. And all that `Client.page` raises.
        """
        asked = partial(self._ask, flow_key, first, last, newest=newest, purpose=purpose)
        try:
            return await asked(limit=MAX_PAGE)
        except AnswerTooLong:
            # One such page at a time, until it is archived: there may be many, and memory is small.
            async with self._large:
                with suppress(AnswerTooLong):
                    return await asked(limit=FEW)
                return await asked(limit=1)

    async def _ask(
        self,
        flow_key: int,
        first: int,
        last: int,
        *,
        newest: bool,
        purpose: Purpose,
        limit: int,
    ) -> Reading:
        await self._together.room()
        clock = asyncio.get_running_loop().time
        as_of = self.heads.settled(flow_key, now=clock())
        epoch = self._epochs.settled(flow_key, now=clock())
        if purpose == "audit":
            await self._audit_gate.turn()
        page = await self.client.page(
            self._path(flow_key), since=first - 1, until=last + 1, newest=newest, limit=limit
        )
        listing = self._belonging.listing(page, flow_key, as_of=as_of)
        reading, absent = await self._checked(listing, purpose=purpose)
        batch = batch_of(
            listing,
            reading,
            absent,
            epoch=epoch,
            run=self._run,
            purpose=purpose,
            now=self._now(),
        )
        if keys := await self._together.archive(batch):
            return await self._without(keys, listing, reading, purpose=purpose)
        return reading

    async def _checked(
        self, listing: Listing, *, purpose: Purpose
    ) -> tuple[Reading, Sequence[Arrival]]:
        """Read a page and have it checked; if that is not possible, archive at least what it lists.

        Returns also what the service answered about messages that the page lacks.
        """
        reading = read_page(listing)
        try:
            return await self._scrutiny.hold(listing, reading, purpose=purpose)
        except FlowRefused:
            raise  # the page may be that of another flow, so nothing of it is kept
        except Exception:
            # The listed messages exist, even if the requests that check the page have failed.
            if not self._belonging.is_untold(reading):
                await self._keep(reading.arrivals)
            raise

    async def _without(
        self, keys: Collection[Key], listing: Listing, reading: Reading, *, purpose: Purpose
    ) -> Reading:
        """*reading* without the messages that Postgres refused, which is recorded in the ledger."""
        trouble = f"PostgreSQL refused {len(keys)} of the page's messages"
        first, last = bounds(listing.page)
        await self.fail(listing.flow_key, first, last, purpose=purpose, error=trouble)
        refused = Ranges.of((id_, id_) for _, id_ in keys)
        return replace(reading, proven=reading.proven - refused, trouble=trouble)

    async def look_at_head(self, flow_key: int) -> int:
        """Request the newest message of a flow and archive it if it is new; this proves nothing.

        Returns the id of the newest message that can be read; 0 if there is none.

        Raises:
            All that `Ends.look` raises.
        """
        return await self._ends.look(flow_key, self._path(flow_key))

    async def wanting(self) -> dict[int, Wanting]:
        """By flow key: the missing and the doubted ranges of the flows that this account requests.

        Flows that have neither are left out, and those whose turn is another account's. What has
        become due is noted in the ledger first; what other daemons noted as due is learned from it.
        """
        clock = asyncio.get_running_loop().time
        dues = self.heads.due(now=clock() - STREAM_FIRST_SECONDS)
        if dues:
            gains = {flow_key: Standing(due=due) for flow_key, due in dues.items()}
            await self._archive(Batch(now=self._now(), gains=gains))
            self.heads.noted(dues)
        ours = partial(wanted.wanting, flow_keys=list(self.paths))
        wanting = await when_possible(self.engine, ours)
        now = clock()  # read after the wait for the database: an epoch may have begun meanwhile
        # A daemon that had the flow until a moment ago may have heard more of it than this one.
        self.heads.restore({flow_key: one.due for flow_key, one in wanting.items()})
        self._turns.holds(self._account, self.paths.keys())
        in_their_epochs = {
            flow_key: self._in_its_epoch(flow_key, one, now)
            for flow_key, one in wanting.items()
            if flow_key in self.paths
        }
        return {
            flow_key: one
            for flow_key, one in in_their_epochs.items()
            if self._turns.is_of(self._account, flow_key)
        }

    def _in_its_epoch(self, flow_key: int, one: Wanting, now: float) -> Wanting:
        """Leave out doubts until a listing can show what was sent just before the epoch began."""
        self._epochs.learned(flow_key, one.epoch, now=now)
        if self._epochs.settled(flow_key, now=now) == UNSETTLED:
            return replace(one, doubted=Ranges(), is_early=bool(one.doubted))
        return one

    def ours(self) -> list[int]:
        """The keys of the flows that this account, and no other one, requests at present."""
        self._turns.holds(self._account, self.paths.keys())
        return [key for key in self.paths if self._turns.is_of(self._account, key)]

    async def doubt_oldest(self, cycle: timedelta) -> None:
        """Have a flow listed again: the one free of doubts for longest, if for over a *cycle*."""
        now = self._now()
        again = partial(doubts.doubt_flows, before=now - cycle, now=now, most=1)
        await when_possible(self.engine, partial(again, flow_keys=list(self.paths)))

    async def lose(self, flow_key: int, *, reason: str) -> None:
        """Set aside a flow that can no longer be read; it comes back when it is listed again."""
        self.astray.add(flow_key)
        if path := self.paths.get(flow_key):
            log.warning("flow can no longer be read", extra={"flow": path, "reason": reason})
            self.leave_out(flow_key)
            await self.note_unreadable(flow_key)

    def leave_out(self, flow_key: int) -> None:
        """Stop requesting a flow until it is looked up again."""
        self.paths.pop(flow_key, None)
        self.visible.pop(flow_key, None)
        self.untold.pop(flow_key, None)

    async def note_unreadable(self, flow_key: int) -> None:
        """Record that no account can read a flow, unless another of this process can."""
        if not self._turns.can_another(self._account, flow_key):
            await when_possible(self.engine, partial(directory.lose_flow, flow_key=flow_key))

    def stop(self) -> None:
        """Leave the flows to the other accounts."""
        self._turns.leave(self._account)

    async def fail(
        self, flow_key: int, first: int, last: int, *, purpose: Purpose, error: str
    ) -> None:
        """Record in the ledger that a request failed, and why; pass the turn to another account."""
        self._turns.pass_on(self._account, flow_key)
        await self._note(flow_key, first, last, purpose=purpose, error=error)

    async def note_head(self, flow_key: int, *, error: str | None) -> None:
        """Record in the ledger why a flow's newest message is unknown; None means it is known."""
        first = min(self.heads.newest(flow_key) + 1, coverage.NEWEST_PROVABLE)
        await self._note(flow_key, first, coverage.NEWEST_PROVABLE, purpose="head", error=error)

    async def _note(
        self, flow_key: int, first: int, last: int, *, purpose: Purpose, error: str | None
    ) -> None:
        row = PageRow(
            flow_key=flow_key,
            run=self._run,
            purpose=purpose,
            asked=(first, last),
            proven=None,
            messages=0,
            as_of=0,
            requested_at=self._now(),
            error=error,
        )
        await self._archive(Batch(now=self._now(), pages=[row]))

    async def _archive(self, batch: Batch) -> Applied:
        clock = asyncio.get_running_loop().time
        began = clock()
        applied = await apply_patiently(self.engine, batch)
        self._tally.applied(applied, seconds=clock() - began)
        return applied

    async def _keep(self, arrivals: Sequence[Arrival]) -> None:
        await self._together.archive(Batch(now=self._now(), arrivals=arrivals))

    def _path(self, flow_key: int) -> str:
        path = self.paths.get(flow_key)
        if path is None:
            raise FlowRefused("a flow that was lost a moment ago", 404)
        return path
