"""What the tasks of a process share, and the factories of the parts of each account.

It is created once, from the settings, by `archiver.daemon.works`; each part that it creates gets
only the settings that concern it.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp

from archiver.flowdock.client import Client, Limits
from archiver.flowdock.downloads import DownloadLimits, Downloads
from archiver.flowdock.retry import Gate
from archiver.flowdock.stream import follow
from archiver.ingest.account import Account, Plan
from archiver.ingest.apply import when_possible
from archiver.ingest.directory import Choice
from archiver.ingest.heads import Heads
from archiver.ingest.intake import Intake
from archiver.ingest.leases import EVERYTHING, Leases, Share
from archiver.ingest.names import Names
from archiver.ingest.process import this_process
from archiver.ingest.source import Source
from archiver.ingest.tally import Tally
from archiver.ingest.turns import Turns
from archiver.settings import Settings
from archiver.settings.account import Account as AccountSettings
from archiver.store import coverage, journal
from archiver.store.connection import Engine
from archiver.store.engine import beside, key_of, telling

PAGE_LIMITS = Limits(patience_seconds=10.0)
"""A page that does not come within this time is requested again later; others have their turn."""


class Works:
    """What all accounts of a process share."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        session: aiohttp.ClientSession,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self.settings = settings
        self.session = session
        self.now = now
        self.heads = Heads(settling_seconds=settings.ingest.settling_seconds)
        self.intake = Intake(
            limit_bytes=settings.ingest.buffer_bytes,
            settling_seconds=settings.ingest.settling_seconds,
        )
        self.names = Names(engine)
        self.turns = Turns()
        self.filing = asyncio.Lock()
        self.chance = random.Random()  # noqa: S311  (it only spreads delays)
        self.run = str(uuid4())
        self.tally = Tally.of(account.name for account in settings.accounts)
        self.engine = telling(engine, lambda fault, state: self.tally.failed(fault.value, state))
        self.gates: dict[str, Gate] = {}
        self.at_work: dict[str, Account] = {}
        """The accounts whose tasks are running, by name."""
        self.leases = self._leases() if settings.sharing.enabled else None
        """Our leases, if several daemons share the flows; None when nothing is shared."""

    async def load(self) -> None:
        """Load what the archive knows: the flows, and how far each is known to have come."""
        await self.names.load()
        standings = await when_possible(self.engine, coverage.standings)
        self.heads.restore({key: standing.due for key, standing in standings.items()})
        # What the last process had kept but not claimed becomes due after the settling time.
        now = asyncio.get_running_loop().time()
        newest = await when_possible(self.engine, journal.newest_from_service)
        for flow_key, id_ in newest.items():
            self.heads.seen(flow_key, id_, at=now)
        self.heads.begun(await when_possible(self.engine, journal.newest))

    def gate(self, url: str) -> Gate:
        """The gate of the host of *url*, shared by all accounts."""
        host = urlsplit(url).netloc
        if host not in self.gates:
            backfilling = self.settings.backfill
            self.gates[host] = Gate(
                requests_per_second=backfilling.requests_per_second,
                concurrency=backfilling.concurrency,
            )
        return self.gates[host]

    def replan(self, settings: Settings) -> None:
        """Archive the flows that *settings* select, of the accounts that exist already."""
        wanted = {account.name: account for account in settings.accounts}
        for name in self.at_work.keys() & wanted.keys():
            self.at_work[name].replan(_choice(wanted[name]))
        self.settings = replace(
            self.settings,
            accounts=tuple(
                replace(one, flows=wanted[one.name].flows, private=wanted[one.name].private)
                if one.name in wanted
                else one
                for one in self.settings.accounts
            ),
        )

    def wants(self, path: str) -> bool:
        """Tell whether the settings select the flow or private conversation *path* now."""
        return self.settings.wants(path)

    def chosen(self, name: str) -> AccountSettings:
        """The settings of the account *name*, with the flows that are selected now."""
        return next(one for one in self.settings.accounts if one.name == name)

    def client(self, account: AccountSettings, limits: Limits = PAGE_LIMITS) -> Client:
        """The REST API as *account* sees it."""
        return Client(
            self.session,
            account.api_url,
            account.token,
            gate=self.gate(account.api_url),
            clock=self.now,
            chance=self.chance,
            limits=limits,
        )

    def source(self, account: AccountSettings) -> Source:
        """The source of what can be requested as *account*."""
        return Source(
            self.client(account),
            self.engine,
            self.heads,
            self.names,
            account=account.name,
            turns=self.turns,
            filing=self.filing,
            run=self.run,
            tally=self.tally,
            now=self.now,
            audits_per_second=self.settings.audit.requests_per_second,
        )

    def downloads(self, account: AccountSettings) -> Downloads:
        """The downloads of files that *account* may read."""
        return Downloads(
            account.api_url,
            account.token,
            gate=self.gate(account.api_url),
            clock=self.now,
            chance=self.chance,
            limits=DownloadLimits(most_bytes=self.settings.files.largest_bytes),
        )

    def account(self, account: AccountSettings, *, share: Share = EVERYTHING) -> Account:
        """*account*, ready to run or to be queried; *share* is our part of what it can see."""
        settings = self.settings
        plan = Plan(
            name=account.name,
            choice=_choice(account),
            request_line_bytes=settings.stream.request_line_bytes,
            refresh_seconds=settings.directory.refresh_seconds,
            head_seconds=settings.backfill.head_seconds,
            workers=settings.backfill.concurrency,
            audit_cycle=timedelta(days=settings.audit.cycle_days),
        )
        source = self.source(account)
        follow_shard = partial(
            follow,
            self.session,
            account.stream_url,
            token=account.token,
            gate=self.gate(account.stream_url),
            clock=self.now,
            service_time=source.client.service_time,
            chance=self.chance,
            stream_format=settings.stream.format,
            silence_seconds=settings.stream.silence_seconds,
        )
        return Account(
            plan,
            source,
            follow=follow_shard,
            downloads=partial(self.downloads, account) if settings.files.enabled else None,
            names=self.names,
            intake=self.intake,
            tally=self.tally.accounts[account.name],
            share=share,
            now=self.now,
        )

    def _leases(self) -> Leases:
        sharing = self.settings.sharing
        me = this_process(
            key_of(self.engine), name=sharing.name, lease_seconds=sharing.lease_seconds
        )
        # Leases have their own connection: they must be renewed even if all others wait for a lock.
        return Leases(
            beside(self.engine),
            me,
            self.tally.sharing,
            heard=self.tally.heard,
            on_taken=self.load,
        )


def _choice(account: AccountSettings) -> Choice:
    return Choice(
        is_wanted=account.wants, private=account.private, idle_patterns=account.idle_patterns
    )
