"""The daemon: one task group of streams, backfill and their writer; cancelling is the way to stop.

Nothing needs to be drained: what was not committed is asked for again. An account that is locked
out stops alone, and is told; the others go on.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NoReturn
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp

from archiver.domain.model import UserId
from archiver.flowdock.client import Client, Limits
from archiver.flowdock.refusals import TokenRefused
from archiver.flowdock.retry import Gate
from archiver.flowdock.stream import follow
from archiver.ingest.account import Account, Plan
from archiver.ingest.apply import when_possible
from archiver.ingest.backfill import backfill
from archiver.ingest.contact import CONTACT_LIMITS, LockedOut, Unreachable, make_contact
from archiver.ingest.heads import Heads
from archiver.ingest.indexing import index_forever
from archiver.ingest.intake import Intake
from archiver.ingest.live import Pace, write_forever
from archiver.ingest.names import Names
from archiver.ingest.pruning import prune
from archiver.ingest.source import STREAM_FIRST_SECONDS, Source
from archiver.ingest.tally import Tally
from archiver.ingest.turns import Turns
from archiver.settings import Account as AccountSettings
from archiver.settings import Settings
from archiver.store import coverage, journal
from archiver.store.engine import Engine, Fault, telling

log = logging.getLogger(__name__)

CONTACT_SECONDS = 30.0
"""How often an account that cannot be reached is tried again while others go on."""

PAGE_LIMITS = Limits(patience_seconds=10.0)
"""A page that is not given within this is asked for again later; others have their turn."""


def utc_now() -> datetime:
    """The time of the wall clock."""
    return datetime.now(UTC)


class Works:
    """What all accounts of a process share."""

    def __init__(self, settings: Settings, engine: Engine, session: aiohttp.ClientSession) -> None:
        self.settings = settings
        self.session = session
        self.heads = Heads(settling_seconds=settings.ingest.settling_seconds)
        self.intake = Intake(
            limit_bytes=settings.ingest.buffer_bytes,
            settling_seconds=settings.ingest.settling_seconds,
        )
        self.names = Names(engine)
        self.turns = Turns()
        self.chance = random.Random()  # noqa: S311  (it only spreads delays)
        self.run = str(uuid4())
        self.tally = Tally.of(account.name for account in settings.accounts)
        self.engine = telling(engine, lambda fault, state: self.tally.failed(fault.value, state))
        self.gates: dict[str, Gate] = {}
        self.at_work: dict[str, Account] = {}
        """The accounts whose tasks run, by name."""

    async def load(self) -> None:
        """Take over what the archive knows."""
        await self.names.load()
        standings = await when_possible(self.engine, coverage.standings)
        self.heads.restore({key: standing.due for key, standing in standings.items()})
        # What was kept and not yet claimed when the last process ended is due before long.
        now = asyncio.get_running_loop().time()
        for flow_key, id_ in (await when_possible(self.engine, journal.newest)).items():
            self.heads.seen(flow_key, id_, at=now)

    def gate(self, url: str) -> Gate:
        """The gate before the host of *url*: one for all accounts."""
        host = urlsplit(url).netloc
        if host not in self.gates:
            backfilling = self.settings.backfill
            self.gates[host] = Gate(
                requests_per_second=backfilling.requests_per_second,
                concurrency=backfilling.concurrency,
            )
        return self.gates[host]

    def replan(self, settings: Settings) -> None:
        """Archive the flows that *settings* want, of the accounts that are there."""
        wanted = {account.name: account for account in settings.accounts}
        for name in self.at_work.keys() & wanted.keys():
            it = wanted[name]
            self.at_work[name].replan(wanted=it.wants, private=it.private)
        self.settings = replace(
            self.settings,
            accounts=tuple(
                replace(one, flows=wanted[one.name].flows, private=wanted[one.name].private)
                if one.name in wanted
                else one
                for one in self.settings.accounts
            ),
        )

    def chosen(self, name: str) -> AccountSettings:
        """The account of that name, with the flows that are wanted by now."""
        return next(one for one in self.settings.accounts if one.name == name)

    def client(self, account: AccountSettings, limits: Limits = PAGE_LIMITS) -> Client:
        """The REST API as *account* sees it."""
        return Client(
            self.session,
            account.api_url,
            account.token,
            gate=self.gate(account.api_url),
            clock=utc_now,
            chance=self.chance,
            limits=limits,
        )

    def source(self, account: AccountSettings) -> Source:
        """What *account* can be asked for."""
        return Source(
            self.client(account),
            self.engine,
            self.heads,
            self.names,
            account=account.name,
            turns=self.turns,
            run=self.run,
            tally=self.tally,
            now=utc_now,
            audits_per_second=self.settings.audit.requests_per_second,
        )

    def account(self, account: AccountSettings) -> Account:
        """*account*, ready to run."""
        settings = self.settings
        plan = Plan(
            name=account.name,
            wanted=account.wants,
            private=account.private,
            request_line_bytes=settings.stream.request_line_bytes,
            refresh_seconds=settings.directory.refresh_seconds,
            head_seconds=settings.backfill.head_seconds,
            workers=settings.backfill.concurrency,
            audit_cycle=timedelta(days=settings.audit.cycle_days),
        )
        follow_shard = partial(
            follow,
            self.session,
            account.stream_url,
            token=account.token,
            gate=self.gate(account.stream_url),
            clock=utc_now,
            chance=self.chance,
            stream_format=settings.stream.format,
            silence_seconds=settings.stream.silence_seconds,
        )
        return Account(
            plan,
            self.source(account),
            follow=follow_shard,
            names=self.names,
            intake=self.intake,
            tally=self.tally.accounts[account.name],
            now=utc_now,
        )


@asynccontextmanager
async def works(settings: Settings, engine: Engine) -> AsyncIterator[Works]:
    """What all accounts share, with the archive's knowledge taken over."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        shared = Works(settings, engine, session)
        await shared.load()
        yield shared


async def run(settings: Settings, engine: Engine, *, stop: asyncio.Event) -> None:
    """Archive all accounts until *stop* is set.

    Raises:
        All that `archive` raises.
    """
    settings.require_accounts()
    async with works(settings, engine) as shared:
        await archive(shared, stop=stop)


async def archive(shared: Works, *, stop: asyncio.Event) -> None:
    """Archive all accounts of *shared* until *stop* is set.

    Raises:
        LockedOut: the token of an account was refused; at once when no other account is left.
        Unreachable: the only account could not be reached at the start.
    """
    accounts = shared.settings.accounts
    locked_out: set[str] = set()
    signals_kept = timedelta(days=shared.settings.signals.retention_days)
    language = shared.settings.search.language
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_write(shared)),
            group.create_task(prune(shared.engine, signals_kept=signals_kept, now=utc_now)),
            group.create_task(index_forever(shared.engine, language=language)),
            *(group.create_task(_work(shared, one, locked_out)) for one in accounts),
        ]
        await stop.wait()
        for task in tasks:
            task.cancel()
    if locked_out:
        raise LockedOut(locked_out)


async def backfill_once(
    settings: Settings, engine: Engine, *, on_found: Callable[[int], None]
) -> None:
    """Fill all gaps of all accounts up to the present, and return.

    *on_found* is called with the number of flows when their heads are known and filling begins.

    Raises:
        TokenRefused, Unreachable: an account cannot be asked.
    """
    async with works(settings, engine) as shared:
        sources = []
        for one in settings.require_accounts():
            account = shared.account(one)
            await _contact(shared, one)
            await account.look_up()
            await account.look_at_heads()
            sources.append(account.source)
        on_found(sum(len(source.paths) for source in sources))
        await asyncio.sleep(settings.ingest.settling_seconds + STREAM_FIRST_SECONDS)
        for source in sources:
            await backfill(source, workers=settings.backfill.concurrency, until_done=True)
            source.stop()


async def _work(shared: Works, account: AccountSettings, locked_out: set[str]) -> None:
    """Archive one account; returns if its token is refused and there are others to go on with."""
    accounts = shared.settings.accounts
    while account.name not in locked_out:
        try:
            me = await _contact(shared, account)
        except Unreachable as unreachable:
            if len(accounts) == 1:
                raise
            log.error(str(unreachable), extra={"account": account.name})  # noqa: TRY400
            await asyncio.sleep(CONTACT_SECONDS)
        except TokenRefused:
            locked_out.add(account.name)
        else:
            shared.at_work[account.name] = shared.account(shared.chosen(account.name))
            try:
                await shared.at_work[account.name].run(me)
            except* TokenRefused:
                locked_out.add(account.name)
            finally:
                del shared.at_work[account.name]
    shared.tally.accounts[account.name].state = "locked out"
    log.error("token refused: account stopped", extra={"account": account.name})
    if len(locked_out) == len(accounts):
        raise LockedOut(locked_out)


async def _contact(shared: Works, account: AccountSettings) -> UserId:
    for url in account.cleartext_urls():
        log.warning("token travels unencrypted", extra={"account": account.name, "url": url})
    client = shared.client(account, CONTACT_LIMITS)
    return await make_contact(client, account=account.name, api_url=account.api_url)


async def _write(shared: Works) -> NoReturn:
    ingest = shared.settings.ingest
    pace = Pace(batch_events=ingest.batch_events, linger_seconds=ingest.linger_seconds)
    clock = asyncio.get_running_loop().time

    def failed(fault: Fault, state: str) -> None:
        shared.tally.failed(fault.value, state)
        if fault is Fault.SERVER:
            shared.tally.writer_failed(now=clock())

    await write_forever(
        telling(shared.engine, failed),
        shared.intake,
        shared.heads,
        pace=pace,
        tally=shared.tally,
        now=utc_now,
    )
