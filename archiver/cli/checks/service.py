"""Does Flowdock know the token, may the account read each flow, and do the streams open?"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from archiver.cli.checks.clock import check_clock
from archiver.cli.checks.result import Result, ok, warning, wrong
from archiver.cli.progress import Tell
from archiver.cli.tables import counted
from archiver.daemon import utc_now
from archiver.errors import ArchiverError
from archiver.flowdock.breaks import reason_of
from archiver.flowdock.client import UNANSWERED, Client
from archiver.flowdock.clock import host_time
from archiver.flowdock.refusals import FlowRefused, TokenRefused
from archiver.flowdock.retry import Gate
from archiver.flowdock.session import open_session
from archiver.flowdock.shards import Shard, assign
from archiver.flowdock.stream import Closed, follow
from archiver.ingest.contact import CONTACT_LIMITS, LockedOut, Unreachable
from archiver.settings import Settings
from archiver.settings.account import Account

STREAM_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What is needed for the requests of one account."""

    session: aiohttp.ClientSession
    settings: Settings
    account: Account
    gate: Gate
    client: Client


async def check_account(settings: Settings, account: Account, tell: Tell) -> list[Result]:
    """Try all that the archiver does for *account*, and change nothing."""
    async with open_session() as session:
        backfill = settings.backfill
        gate = Gate(
            requests_per_second=backfill.requests_per_second, concurrency=backfill.concurrency
        )
        client = Client(
            session,
            account.api_url,
            account.token,
            gate=gate,
            clock=utc_now,
            chance=random.Random(),  # noqa: S311  (it only spreads delays)
            limits=CONTACT_LIMITS,
        )
        means = Means(session=session, settings=settings, account=account, gate=gate, client=client)
        return [result async for result in _look(means, tell)]


async def _look(means: Means, tell: Tell) -> AsyncIterator[Result]:
    account, client = means.account, means.client
    try:
        began = datetime.now(UTC)
        told = await host_time(means.session, account.api_url)
        if told is not None:
            yield check_clock(account.api_url, told, began, datetime.now(UTC))
        me = await client.me()
    except TokenRefused:
        yield wrong("token", str(LockedOut({account.name: account.whence})))
        return
    except UNANSWERED as error:
        yield wrong("service", str(Unreachable(account.name, account.api_url, error)))
        return
    yield ok("token", f"{account.name}: valid, belongs to {me.nick or me.id}")
    try:
        joined = [flow.path for flow in await client.flows() if flow.joined and not flow.disabled]
        private = [one.path for one in await client.conversations()] if account.private else []
    except UNANSWERED as error:
        yield wrong("flows", f"{account.name}: cannot list them: {reason_of(error)}")
        return
    wanted = [path for path in joined if account.wants(path)]
    for result in _of_patterns(account, joined, wanted):
        yield result
    refused = await _unreadable(client, [*wanted, *private], tell)
    for result in refused:
        yield result
    read = len(wanted) + len(private) - len(refused)
    if read:
        found = {"flow": len(wanted), "private conversation": len(private)}
        about = " and ".join(counted(count, thing) for thing, count in found.items() if count)
        can = "" if not refused else f", of which {read} can be read"
        yield ok("flows", f"{account.name}: {about}{can}")
    for result in await _streams(means, wanted):
        yield result


def _of_patterns(account: Account, joined: list[str], wanted: list[str]) -> Iterator[Result]:
    for pattern in account.idle_patterns(joined):
        if pattern != "*":
            yield warning(
                "flows",
                f"{account.name}: the pattern {pattern} matches no flow",
                "correct ARCHIVER_FLOWS (flows in the file), or join the flow",
            )
    if joined and not wanted:
        yield wrong(
            "flows",
            f"{account.name}: the settings select none of {counted(len(joined), 'joined flow')}",
            "correct ARCHIVER_FLOWS (flows in the file)",
        )
    elif not joined:
        yield warning(
            "flows", f"{account.name}: its user has joined no flow", "join flows in Flowdock"
        )


async def _unreadable(client: Client, paths: list[str], tell: Tell) -> list[Result]:
    """Request the newest message of each flow; returns a result for each that cannot be read."""
    found: dict[str, Result] = {}
    done = 0

    async def look(path: str) -> None:
        nonlocal done
        try:
            await client.page(path, newest=True, limit=1)
        except FlowRefused as refusal:
            found[path] = wrong("flows", str(refusal))
        except UNANSWERED as error:
            found[path] = wrong("flows", f"cannot read {path}: {reason_of(error)}")
        done += 1
        tell(done / len(paths), path)

    async with asyncio.TaskGroup() as group:
        for path in paths:
            group.create_task(look(path))
    return [found[path] for path in sorted(found)]


async def _streams(means: Means, wanted: list[str]) -> list[Result]:
    shards = assign(
        wanted,
        private=means.account.private,
        limit_bytes=means.settings.stream.request_line_bytes,
    )
    reasons = [reason for shard in shards if (reason := await _try_stream(means, shard))]
    name = means.account.name
    if not reasons:
        opens = "opens" if len(shards) == 1 else "open"
        return (
            [ok("streams", f"{name}: {counted(len(shards), 'stream')} {opens}")] if shards else []
        )
    about = f"{len(reasons)} of {len(shards)} cannot be opened"
    return [
        wrong(
            "streams",
            f"{name}: {about}: {'; '.join(dict.fromkeys(reasons))}",
            "correct ARCHIVER_STREAM_URL (stream_url in the file), "
            "or check proxies and firewalls in between",
        )
    ]


async def _try_stream(means: Means, shard: Shard) -> str | None:
    """Why the stream of *shard* does not open; None when it does."""
    following = follow(
        means.session,
        means.account.stream_url,
        shard,
        token=means.account.token,
        gate=means.gate,
        clock=utc_now,
        service_time=utc_now,
        chance=random.Random(),  # noqa: S311  (it only spreads delays)
        stream_format=means.settings.stream.format,
    )
    try:
        async with asyncio.timeout(STREAM_SECONDS), aclosing(following) as occurrences:
            async for occurrence in occurrences:
                if isinstance(occurrence, Closed):
                    return f"{occurrence.url}: {occurrence.reason}"
                return None
    except TimeoutError:
        return f"{means.account.stream_url}: no answer"
    except ArchiverError as refusal:
        return str(refusal)
    return None
