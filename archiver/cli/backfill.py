"""``archiver backfill``: fill the gaps that are known, then exit."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from archiver import daemon
from archiver.cli.configuration import LoadSettings
from archiver.cli.database import Place, guarded, open_for_changes, serve_database
from archiver.cli.measures import (
    describe_excluded,
    describe_files,
    describe_not_measured,
    describe_not_told,
    flows_and_reasons,
)
from archiver.cli.progress import shown_bar
from archiver.cli.stopping import report_when_stopped
from archiver.cli.tables import counted, first_of
from archiver.cli.terminal import can_draw, make_safe
from archiver.ingest.apply import when_possible
from archiver.ingest.contact import LockedOut
from archiver.settings import Settings
from archiver.store import directory, files, missing, reading
from archiver.store.connection import Engine, Transaction
from archiver.store.reading import FlowReport

TOLD_FLOWS = 20
NOT_READABLE = "no account can read this flow now"
NOT_TOLD = "Flowdock gave no answer that proves it"
STOPPED = (
    "stopped: what was archived is kept; run the same command again to continue, or "
    "archiver status to see what is left"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """How far the wanted flows have come."""

    reports: Sequence[FlowReport]
    messages: int
    proven: float
    """The proven share of ids, as an average over the flows."""
    files: files.Counts
    untold: Mapping[str, str] = field(default_factory=dict)
    """By flow: why nobody knows what is new in it."""
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    """By flow, without those above: why it is not known how far its ids go."""
    excluded: Sequence[str] = ()
    """Flows that may lack something, and go on so, because the settings exclude them."""
    locked_out: Mapping[str, str] = field(default_factory=dict)
    """By account whose token was refused: where the token comes from."""

    @property
    def gaps(self) -> int:
        """How many gaps are left."""
        return sum(report.gaps or 0 for report in self.reports)


class Watcher(Protocol):
    """Shows the progress."""

    every_seconds: float
    """The time between updates; each takes time of the server, which has better things to do."""

    def show(self, progressed: Progressed) -> None:
        """Show how far it has come."""


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.pass_obj
def backfill(load: LoadSettings, /, *, as_json: bool) -> int:
    """Fill the gaps of all flows up to now, fetch their files, then exit.

    The daemon may run at the same time: both use the same ledger, and what both fetch is archived
    once. A service that goes away for a minute meanwhile is waited for. archiver files shows which
    files could not be fetched, and why.

    What is archived already is not asked for again: archiver run and archiver verify find what was
    edited, tagged or deleted since.

    Flows that the settings exclude are left alone; if one of them may lack something,
    it is named. This does not change the exit status.

    \b
    Exit status
    0  all gaps are filled
    1  a gap is left, or it is not known how far a flow goes: the service did not
       say, or nobody ever asked and no account can read the flow
    2  an account's token was refused; what the others can read is filled
    """  # noqa: D301
    settings = load()
    settings.require_accounts()
    with report_when_stopped(lambda: [STOPPED]), serve_database(settings) as place:
        done = asyncio.run(_run(settings, place, as_json=as_json))
    if as_json:
        click.echo(json.dumps(_summary(done)))
    else:
        _describe(done)
    if done.locked_out:
        raise LockedOut(done.locked_out)
    return 1 if done.gaps or done.untold or done.unmeasured else 0


async def _run(settings: Settings, place: Place, *, as_json: bool) -> Progressed:
    async with open_for_changes(place) as engine, guarded(place):
        with _watching(as_json=as_json) as watcher:
            async with asyncio.TaskGroup() as group:
                watching = watcher and group.create_task(_watch(settings, engine, watcher))
                filled = await daemon.backfill_once(settings, engine, on_found=_note_found)
                if watching:
                    watching.cancel()
        unmeasured = await when_possible(engine, partial(_unmeasured, settings))
        others = {path: unmeasured[path] for path in unmeasured if path not in filled.untold}
        return replace(
            await _look(settings, engine),
            untold=filled.untold,
            unmeasured=others,
            excluded=await when_possible(engine, partial(_left_out, settings)),
            locked_out=filled.locked_out,
        )


def _note_found(flows: int) -> None:
    # With err=True, click would bypass the bar, which has replaced standard error.
    click.echo(f"filling the gaps of {counted(flows, 'flow')}", file=sys.stderr)


async def _watch(settings: Settings, engine: Engine, watcher: Watcher) -> None:
    while True:
        await asyncio.sleep(watcher.every_seconds)
        watcher.show(await _look(settings, engine))


async def _look(settings: Settings, engine: Engine) -> Progressed:
    """How far the wanted flows have come; like the backfill, waits while the database is away."""
    return await when_possible(engine, partial(_read, settings))


async def _read(settings: Settings, tx: Transaction) -> Progressed:
    keys = list(await _wanted(settings, tx))
    named = await files.counts(tx, keys)
    reports = await reading.flow_reports(tx, keys, now=datetime.now(UTC), exact=False)
    shares = [report.proven for report in reports if report.proven is not None]
    return Progressed(
        reports=reports,
        messages=sum(report.messages.rows for report in reports),
        proven=sum(shares) / len(shares) if shares else 0.0,
        files=named,
    )


async def _unmeasured(settings: Settings, tx: Transaction) -> dict[str, str]:
    paths = await _wanted(settings, tx)
    found = await missing.unmeasured(tx, paths)
    return {path: found[key] for key, path in paths.items() if key in found}


async def _left_out(settings: Settings, tx: Transaction) -> list[str]:
    """The flows that the settings exclude and of which something may be missing."""
    flows = await directory.flow_paths(tx)
    excluded = settings.excluded(flows.values())
    ends = await missing.unknown_ends(tx, flows)
    lacking = {gap.flow for gap in await missing.gaps(tx, excluded)}
    lacking |= ends.untold.keys() | ends.unmeasured.keys()
    return [path for path in excluded if path in lacking]


async def _wanted(settings: Settings, tx: Transaction) -> dict[int, str]:
    """The paths of the flows that the settings want, by key."""
    return {
        key: path for key, path in (await directory.flow_paths(tx)).items() if settings.wants(path)
    }


def _summary(done: Progressed) -> dict[str, Any]:
    return {
        "flows": len(done.reports),
        "messages": done.messages,
        "proven": done.proven,
        "gaps_left": done.gaps,
        "files_kept": done.files.kept,
        "files_missing": done.files.missing,
        "not_filled": [
            {"flow": report.flow, "gaps": report.gaps, "reason": _reason(report)}
            for report in done.reports
            if report.gaps
        ],
        "not_told": flows_and_reasons(done.untold),
        "not_measured": list(done.unmeasured),
        "excluded": list(done.excluded),
        "locked_out": list(done.locked_out),
    }


def _describe(done: Progressed) -> None:
    click.echo(
        f"{counted(len(done.reports), 'flow')}, {counted(done.messages, 'message')}, "
        f"{counted(done.gaps, 'gap')} left, {describe_files(done.files)}"
    )
    left = [report for report in done.reports if report.gaps]
    _tell_some([_describe_gaps(report) for report in left], whence="archiver status lists them")
    untold = [describe_not_told(flow, reason) for flow, reason in done.untold.items()]
    _tell_some(untold, whence="--json has them all")
    unmeasured = [describe_not_measured(flow, reason) for flow, reason in done.unmeasured.items()]
    _tell_some(unmeasured, whence="--json has them all")
    _tell_some(list(map(describe_excluded, done.excluded)), whence="--json has them all")


def _tell_some(lines: Sequence[str], *, whence: str) -> None:
    """Print *lines*, one for each flow; of too many, only the first, and where the others are."""
    for line in first_of(lines, TOLD_FLOWS, more=f"more flows: {whence}"):
        click.echo(f"  {line}")


def _describe_gaps(report: FlowReport) -> str:
    gaps = counted(report.gaps or 0, "gap")
    return f"{make_safe(report.flow)}: {gaps}: {make_safe(_reason(report))}"


def _reason(report: FlowReport) -> str:
    return report.last_error or (NOT_TOLD if report.joined else NOT_READABLE)


@contextmanager
def _watching(*, as_json: bool) -> Iterator[Watcher | None]:
    if as_json:
        yield None
    elif can_draw():
        with shown_bar(
            TextColumn(" proven"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:5.1f}%"),
            TextColumn("{task.fields[messages]} messages"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[files]}"),
            TimeRemainingColumn(),
            console=Console(highlight=False),
        ) as progress:
            yield Bar(progress)
    else:
        yield Lines()


class Bar:
    """A bar on a terminal."""

    every_seconds = 0.5

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=1.0, messages="0", rate="", files="")
        self._pace = Pace()

    def show(self, progressed: Progressed) -> None:
        """Move the bar."""
        rate = self._pace.rate(progressed.messages)
        self._progress.update(
            self._task,
            completed=progressed.proven,
            messages=f"{progressed.messages:,}",
            files=describe_files(progressed.files),
            rate=f"{rate:,.0f}/s",
        )


class Lines:
    """A line now and then, where there is no terminal."""

    every_seconds = 10.0

    def __init__(self) -> None:
        self._pace = Pace()

    def show(self, progressed: Progressed) -> None:
        """Print a line."""
        rate = self._pace.rate(progressed.messages)
        click.echo(
            f"{progressed.proven:6.1%} proven, {progressed.messages:,} messages, "
            f"{rate:,.0f} a second, {counted(progressed.gaps, 'gap')} left, "
            f"{describe_files(progressed.files)}"
        )


class Pace:
    """Measures how fast a count grows from one call to the next."""

    def __init__(self) -> None:
        self._last: tuple[float, int] | None = None

    def rate(self, count: int) -> float:
        """The growth of *count* per second since the last call."""
        now = time.monotonic()
        before, self._last = self._last, (now, count)
        if before is None:
            return 0.0
        return max(0, count - before[1]) / max(0.001, now - before[0])
