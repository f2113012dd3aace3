"""The daemon: one task group of streams, backfill and their writer, stopped by cancellation.

Nothing needs to be drained: what was not committed is requested again. An account whose token is
refused stops alone, which is logged; the others go on.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NoReturn

from msgspec import Struct

from archiver.domain.model import UserId
from archiver.flowdock.refusals import TokenRefused
from archiver.flowdock.session import open_session
from archiver.ingest.backfill import backfill
from archiver.ingest.contact import (
    CONTACT_LIMITS,
    LockedOut,
    Unreachable,
    locking_out,
    make_contact,
)
from archiver.ingest.files import fetch_all
from archiver.ingest.indexing import Writers, index_forever
from archiver.ingest.leases import EVERYTHING, Leases
from archiver.ingest.live import Pace, write_forever
from archiver.ingest.pruning import prune
from archiver.ingest.source import STREAM_FIRST_SECONDS, Source
from archiver.memory import collect_rarely
from archiver.settings import Settings
from archiver.settings.account import Account as AccountSettings
from archiver.store.connection import Engine
from archiver.store.engine import Fault, telling
from archiver.works import Works

log = logging.getLogger(__name__)

CONTACT_SECONDS = 30.0
"""The pause before an account that cannot be reached is tried again while others go on."""
REFUSED_SECONDS = 10.0
"""The pause before a service that answers, but does not serve requests yet, is tried again."""


def utc_now() -> datetime:
    """The time of the wall clock."""
    return datetime.now(UTC)


@asynccontextmanager
async def works(settings: Settings, engine: Engine) -> AsyncIterator[Works]:
    """Provide what all accounts share, loaded with what the archive knows."""
    async with open_session() as session:
        shared = Works(settings, engine, session, now=utc_now)
        await shared.load()
        collect_rarely()
        try:
            yield shared
        finally:
            if shared.leases is not None:
                await shared.leases.close()


async def archive(shared: Works, *, stop: asyncio.Event) -> None:
    """Archive all accounts of *shared* until *stop* is set.

    Raises:
        LockedOut: the token of an account was refused; raised at once when no account is left,
            otherwise at the end.
        Unreachable: the only account could not be reached at the start.
    """
    accounts = shared.settings.accounts
    locked_out: set[str] = set()
    signals_kept = timedelta(days=shared.settings.signals.retention_days)
    language = shared.settings.search.language
    async with _giving_back(shared.leases), asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_write(shared)),
            group.create_task(prune(shared.engine, signals_kept=signals_kept, now=utc_now)),
            group.create_task(index_forever(shared.engine, _writers(shared), language=language)),
            *(group.create_task(_work(shared, one, locked_out)) for one in accounts),
        ]
        if shared.leases is not None:
            tasks.append(group.create_task(shared.leases.keep()))
        await stop.wait()
        for task in tasks:
            task.cancel()
    if locked_out:
        raise LockedOut(_whence(shared, locked_out))


def _whence(shared: Works, names: Collection[str]) -> dict[str, str]:
    """Where the tokens of the accounts *names* are set, by name."""
    return {one.name: one.whence for one in shared.settings.accounts if one.name in names}


def _writers(shared: Works) -> Writers:
    """What the indexing for the search, which can wait, needs to know of the writers."""
    batch_events = shared.settings.ingest.batch_events
    return Writers(
        written=lambda: shared.tally.messages,
        are_behind=lambda: shared.intake.held_events > batch_events,
    )


@asynccontextmanager
async def _giving_back(leases: Leases | None) -> AsyncIterator[None]:
    """Release our leases when the block ends, in whatever way, so that others take over at once."""
    try:
        yield
    finally:
        if leases is not None:
            await leases.give_back()


class Backfilled(Struct, frozen=True, kw_only=True):
    """The outcome of a backfill."""

    untold: Mapping[str, str]
    """The reasons why the newest message of a flow is not known, by the flow's path."""
    locked_out: Mapping[str, str]
    """Where the tokens that were refused are set, by account name."""


async def backfill_once(
    settings: Settings, engine: Engine, *, on_found: Callable[[int], None]
) -> Backfilled:
    """Fill all gaps of all accounts up to the present, and fetch the files.

    *on_found* is called with the number of flows once their newest messages are known, before gaps
    are filled.

    Raises:
        LockedOut: the tokens of all accounts were refused.
        Unreachable: an account cannot be reached.
    """
    accounts = settings.require_accounts()
    locked_out: dict[str, str] = {}
    async with works(settings, engine) as shared:
        sources: list[tuple[AccountSettings, Source]] = []
        paths: dict[int, str] = {}
        for one in accounts:
            account = shared.account(one)
            with locking_out(locked_out, one.name, whence=one.whence, count=len(accounts)):
                await _contact(shared, one)
                await account.look_up()
                paths |= account.source.paths
                await account.look_at_heads()
                sources.append((one, account.source))
        on_found(len({key for _, source in sources for key in source.paths}))
        await asyncio.sleep(settings.ingest.settling_seconds + STREAM_FIRST_SECONDS)
        for one, source in sources:
            with locking_out(locked_out, one.name, whence=one.whence, count=len(accounts)):
                await backfill(source, workers=settings.backfill.concurrency, until_done=True)
                if settings.files.enabled:
                    await fetch_all(source, partial(shared.downloads, one))
            source.stop()
        untold = {paths[key]: why for key, why in _untold(source for _, source in sources).items()}
        return Backfilled(untold=untold, locked_out=locked_out)


def _untold(sources: Iterable[Source]) -> dict[int, str]:
    """The flows whose newest message none of *sources* knows, by key, with the reason."""
    asked = list(sources)
    told = {key for source in asked for key in source.paths.keys() - source.untold.keys()}
    return {
        key: reason for source in asked for key, reason in source.untold.items() if key not in told
    }


async def _work(shared: Works, account: AccountSettings, locked_out: set[str]) -> None:
    """Archive one account; return if its token is refused and other accounts are left."""
    accounts = shared.settings.accounts
    while account.name not in locked_out:
        try:
            me = await _contact(shared, account)
        except Unreachable as unreachable:
            if len(accounts) == 1 and not unreachable.is_there:
                raise
            log.error(str(unreachable), extra={"account": account.name})  # noqa: TRY400
            await asyncio.sleep(REFUSED_SECONDS if unreachable.is_there else CONTACT_SECONDS)
        except TokenRefused:
            locked_out.add(account.name)
        else:
            chosen = shared.chosen(account.name)
            shared.at_work[account.name] = shared.account(chosen, share=shared.leases or EVERYTHING)
            try:
                await shared.at_work[account.name].run(me)
            except* TokenRefused:
                locked_out.add(account.name)
            finally:
                del shared.at_work[account.name]
    shared.tally.accounts[account.name].state = "locked out"
    refused = {"account": account.name, "whence": account.whence}
    log.error("Flowdock refused the token: account stopped", extra=refused)
    if len(locked_out) == len(accounts):
        raise LockedOut(_whence(shared, locked_out))


async def _contact(shared: Works, account: AccountSettings) -> UserId:
    for url in account.cleartext_urls():
        log.warning(
            "the token is sent unencrypted: use https://",
            extra={"account": account.name, "url": url},
        )
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
