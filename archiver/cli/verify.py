"""``archiver verify``: compare what is claimed with what Flowdock lists."""

import asyncio
import json
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial

import click

from archiver import daemon
from archiver.cli.choice import choose_flows
from archiver.cli.configuration import LoadSettings
from archiver.cli.database import (
    Place,
    guarded,
    open_for_changes,
    require_archive,
    serve_database,
)
from archiver.cli.findings import Findings, describe, interim_findings, summarize
from archiver.cli.moments import Moment
from archiver.cli.progress import Tell, shown_progress
from archiver.cli.stopping import report_when_stopped
from archiver.flowdock.client import UNANSWERED
from archiver.flowdock.refusals import TokenRefused
from archiver.ingest.account import Account
from archiver.ingest.apply import when_possible
from archiver.ingest.contact import CONTACT_LIMITS, LockedOut, Unreachable, locking_out
from archiver.ingest.looks import Difference
from archiver.ingest.source import STREAM_FIRST_SECONDS
from archiver.ingest.verify import Means, begin
from archiver.ingest.verify import verify as verify_flows
from archiver.settings import Settings
from archiver.settings.account import Account as AccountSettings
from archiver.settings.account import matches
from archiver.store import coverage, missing
from archiver.store.coverage import Standing
from archiver.works import Works

Unfinished = dict[str, dict[int, Difference]]
"""By path of a flow that still has to be verified: what was found in it so far."""


@click.command
@click.option(
    "--flow", "patterns", multiple=True, metavar="PATTERN", help="Only flows like this: 'acme/*'."
)
@click.option("--since", type=Moment(), help="Only messages since then: 30d, 12h, 2024-05-31.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.pass_obj
def verify(
    load: LoadSettings,
    /,
    *,
    patterns: tuple[str, ...],
    since: datetime | None,
    as_json: bool,
) -> int:
    """Compare what the archive claims to hold with Flowdock, and repair what differs.

    The daemon may run meanwhile. All claimed messages are listed again, or those --since a time, at
    the rate that the settings allow. If it is interrupted, it prints what it found by then: the
    next run does not find what this one has repaired.

    Flows that the settings exclude are named, but not compared. This alone does
    not change the exit status, unless a --flow chooses nothing else.

    \b
    listed         messages that Flowdock listed
    pages          requests that it took
    not held       messages that were claimed but missing from the archive
    changed        messages that the archive held otherwise than Flowdock shows
    vanished       messages that are gone from Flowdock but were not marked as
                   deleted
    two witnesses  the share of what is claimed that both a stream and a listing
                   prove; before → after, where that differs
    certain        no, where doubt remains; the reason stands below

    \b
    Exit status
    0  all is claimed, and is as Flowdock lists it
    1  something differed, and is repaired
    2  doubt remains: there are gaps, ranges that may have changed unnoticed,
       requests without an answer, an account whose token is refused (what the
       others can read is verified), or a --flow of which all is excluded
    """  # noqa: D301
    settings = load()
    settings.require_accounts()
    require_archive(settings)
    found = Findings()
    with (
        report_when_stopped(lambda: interim_findings(found.looks)),
        serve_database(settings) as place,
        shown_progress(quiet=as_json) as tell,
    ):
        asyncio.run(_run(settings, place, patterns, since=since, found=found, tell=tell))
    if as_json:
        click.echo(json.dumps(summarize(found)))
    else:
        describe(found)
    if found.locked_out:
        raise LockedOut(found.locked_out)
    if found.is_doubtful:
        return 2
    return 1 if any(look.differences for look in found.looks.values()) else 0


async def _run(
    settings: Settings,
    place: Place,
    patterns: Sequence[str],
    *,
    since: datetime | None,
    found: Findings,
    tell: Tell,
) -> None:
    async with (
        open_for_changes(place) as engine,
        guarded(place),
        daemon.works(settings, engine) as works,
    ):
        accounts = []
        for one in settings.accounts:
            with _locking_out(found, settings, one):
                accounts.append((one, await _meet(works, one, patterns)))
        async with engine.connect() as tx:
            chosen = await choose_flows(tx, patterns)
        await asyncio.sleep(settings.ingest.settling_seconds + STREAM_FIRST_SECONDS)
        unfinished: Unfinished = {}
        for one, account in accounts:
            means = Means(
                source=account.source,
                workers=settings.backfill.concurrency,
                now=daemon.utc_now,
                on_page=partial(_tell, tell, found),
            )
            with _locking_out(found, settings, one):
                await _look_through(means, found, unfinished, since=since, account=one.name)
        standings = await when_possible(engine, coverage.standings)
        unmeasured = await when_possible(engine, partial(missing.unmeasured, flow_keys=chosen))
    refused = {key for _, account in accounts for key in account.source.untold}
    left_out = [path for path in chosen.values() if path not in found.looks]
    excluded = settings.excluded(left_out)
    found.vain = _asked_in_vain(patterns, chosen.values(), excluded)
    uncertain = {
        path
        for key, path in chosen.items()
        if key in refused | unmeasured.keys() or standings.get(key, Standing()).due
    }
    found.excluded = [path for path in excluded if path in uncertain or path in found.vain]
    found.unreadable = [path for path in left_out if path in uncertain and settings.wants(path)]


def _asked_in_vain(
    patterns: Sequence[str], chosen: Collection[str], excluded: Collection[str]
) -> list[str]:
    """Those of the *excluded* flows that a pattern asks for which chooses no other flow."""
    asking = [one for one in patterns if not one.startswith("!")] or ["*"]
    asked = [{path for path in chosen if matches(path, [one])} for one in asking]
    return [
        path
        for path in excluded
        if any(path in paths and paths.issubset(excluded) for paths in asked)
    ]


async def _look_through(
    means: Means,
    found: Findings,
    unfinished: Unfinished,
    *,
    since: datetime | None,
    account: str,
) -> None:
    """Verify the flows that *account* can read and that no other account has finished.

    Raises:
        TokenRefused: its token is refused (in an exception group); its flows are *unfinished* then.
    """
    source = means.source
    mine = {
        key: path
        for key, path in source.paths.items()
        if path not in found.looks or path in unfinished
    }
    looks = await begin(source, mine, since=since)
    for key, look in looks.items():
        look.differences |= unfinished.pop(mine[key], {})
    found.looks |= {mine[key]: look for key, look in looks.items()}
    try:
        await verify_flows(means, looks)
    except* TokenRefused:
        source.stop()
        for key, look in looks.items():
            look.troubles.append(f"Flowdock refused the token of account {account}")
            unfinished[mine[key]] = look.differences
        raise


def _locking_out(
    found: Findings, settings: Settings, one: AccountSettings
) -> AbstractContextManager[None]:
    count = len(settings.accounts)
    return locking_out(found.locked_out, one.name, whence=one.whence, count=count)


async def _meet(works: Works, settings: AccountSettings, patterns: Sequence[str]) -> Account:
    """An account with those of its flows that are to be verified, and their newest ids looked up.

    Raises:
        TokenRefused: the service does not accept the token; perhaps in an exception group.
        Unreachable: the service does not answer.
    """
    account = works.account(settings)
    try:
        await works.client(settings, CONTACT_LIMITS).me()
        await account.look_up()
    except TokenRefused:
        raise
    except UNANSWERED as error:
        raise Unreachable(settings.name, settings.api_url, error) from error
    if patterns:
        paths = account.source.paths.items()
        account.source.paths = {key: path for key, path in paths if matches(path, patterns)}
    await account.look_at_heads()
    return account


def _tell(tell: Tell, found: Findings) -> None:
    # All flows have the same weight: a private conversation has few messages among very many ids.
    shares = [
        look.looked.size() / look.claimed.size() for look in found.looks.values() if look.claimed
    ]
    listed = sum(look.listed for look in found.looks.values())
    tell(sum(shares) / max(1, len(shares)), f"{listed:,} messages listed")
