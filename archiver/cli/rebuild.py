"""``archiver rebuild``: recreate all derived rows from the journal, or compare them with it."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import click
import msgspec

from archiver.cli.choice import choose_flows
from archiver.cli.configuration import LoadSettings
from archiver.cli.database import Place, open_database, require_archive, serve_database
from archiver.cli.progress import Tell, shown_progress
from archiver.cli.stopping import report_when_stopped
from archiver.cli.tables import clipped, counted
from archiver.cli.terminal import make_safe
from archiver.ingest import rebuild as rebuilding
from archiver.ingest.rebuild import Step
from archiver.memory import collect_rarely
from archiver.store.comparing import Difference
from archiver.store.connection import Engine
from archiver.store.engine import connections_of

TOLD_DIFFERENCES = 20
TOLD_LETTERS = 60
SIDE_BY_SIDE = 3
"""Flows at a time: while the server works on two, the events of the third are folded."""

Walk = Callable[[Engine, int], AsyncIterator[Step]]


@dataclass(slots=True)
class Outcome:
    """What was found in all flows."""

    flows: int = 0
    messages: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    """By table: how many rows differed."""
    erased: int = 0
    """How many forms of events are what an erasure left."""
    differences: int = 0
    """In all tables; a row may differ in several fields."""
    first: list[tuple[str, Difference]] = field(default_factory=list)
    """The first differences, each with its flow."""

    def add(self, flow: str, step: Step) -> None:
        """Count what a step found."""
        self.messages += step.messages
        self.erased += step.erased
        self.rows.update(table for table, *_ in {_row(one) for one in step.differences})
        self.differences += len(step.differences)
        room = TOLD_DIFFERENCES - len(self.first)
        self.first += [(flow, one) for one in step.differences[:room]]

    @property
    def differing(self) -> int:
        """How many rows differed."""
        return self.rows.total()


@click.command
@click.option("--check", is_flag=True, help="Compare only, and change nothing.")
@click.option(
    "--flow", "patterns", multiple=True, metavar="PATTERN", help="Only flows like this: 'acme/*'."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.pass_obj
def rebuild(load: LoadSettings, /, *, check: bool, patterns: tuple[str, ...], as_json: bool) -> int:
    """Recreate messages, revisions and threads from the journal.

    The daemon may run meanwhile. Only rows that differ are written; rows that nothing in the
    journal accounts for are removed. It prints what differed; if it is interrupted, what it found
    by then.

    Exit status: 0; with --check, 1 when a row differs.
    """
    settings = load()
    require_archive(settings)
    began = time.monotonic()
    walk = rebuilding.check if check else rebuilding.rebuild
    done = "found" if check else "mended"
    outcome = Outcome()
    with (
        report_when_stopped(lambda: _stopped(outcome, done)),
        serve_database(settings) as place,
        shown_progress(quiet=as_json) as tell,
    ):
        asyncio.run(_run(place, walk, patterns, outcome, tell))
    if as_json:
        seconds = round(time.monotonic() - began, 3)
        click.echo(json.dumps({"check": check, **_plain(outcome), "seconds": seconds}))
    else:
        for line in [*_first(outcome), _conclusion(outcome, done)]:
            click.echo(line)
    return 1 if check and outcome.differing else 0


async def _run(
    place: Place, walk: Walk, patterns: Sequence[str], outcome: Outcome, tell: Tell
) -> None:
    collect_rarely()
    async with open_database(place) as engine:
        async with engine.connect() as tx:
            chosen = await choose_flows(tx, patterns)
        under_way: dict[int, float] = {}
        waiting = iter(chosen.items())

        async def work() -> None:
            for flow_key, path in waiting:
                async for step in walk(engine, flow_key):
                    outcome.add(path, step)
                    under_way[flow_key] = step.done
                    done = (outcome.flows + sum(under_way.values())) / len(chosen)
                    tell(done, f"{path}, {outcome.messages:,} messages")
                under_way.pop(flow_key, None)
                outcome.flows += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(min(SIDE_BY_SIDE, connections_of(engine))):
                group.create_task(work())
    outcome.first.sort(key=itemgetter(0))


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "flows": outcome.flows,
        "messages": outcome.messages,
        "differing_rows": outcome.differing,
        "by_table": dict(outcome.rows),
        "erased_forms": outcome.erased,
        "first_differences": [
            {"flow": flow, **msgspec.to_builtins(one)} for flow, one in outcome.first
        ],
    }


def _first(outcome: Outcome) -> Iterator[str]:
    """The first differences."""
    for flow, one in outcome.first:
        yield f"{make_safe(flow)} {_told(one)}"
    if len(outcome.first) < outcome.differences:
        yield f"(the first {len(outcome.first)} of {outcome.differences:,} differences)"


def _conclusion(outcome: Outcome, done: str) -> str:
    told = f"{counted(outcome.flows, 'flow')}, {counted(outcome.messages, 'message')}"
    if outcome.erased:
        told += f", {counted(outcome.erased, 'form')} of events of which words or all were erased"
    if not outcome.differing:
        return f"{told}: every row matches the journal"
    return f"{told}: {_rows(outcome, done)}"


def _rows(outcome: Outcome, done: str) -> str:
    rows = ", ".join(f"{count:,} of {table}" for table, count in sorted(outcome.rows.items()))
    return f"{counted(outcome.differing, 'wrong row')} {done}: {rows}"


def _stopped(outcome: Outcome, done: str) -> Iterator[str]:
    """What an interrupted run has done: the next one does not find what this one has mended."""
    yield from _first(outcome)
    found = f"; {_rows(outcome, done)}" if outcome.differing else ", and no wrong row found"
    yield (
        f"stopped: {counted(outcome.messages, 'message')} compared{found}; "
        "run the same command again to start over"
    )


def _told(one: Difference) -> str:
    if one.table == "attached":
        return f"message {make_safe(one.id)}: nothing asks for its files"
    subject = "thread" if one.table == "threads" else "message"
    about = f"{subject} {make_safe(one.id)}"
    if one.revision is not None:
        about += f" revision {one.revision}"
    if one.is_missing:
        return f"{about}: not stored"
    if one.is_unfounded:
        return f"{about}: stored, but not in the journal"
    stored, expected = (
        "null" if value is None else clipped(value, TOLD_LETTERS)
        for value in (one.stored, one.expected)
    )
    return f"{about} {one.field}: {stored}, the journal says {expected}"


def _row(one: Difference) -> tuple[str, str, int | None]:
    return one.table, one.id, one.revision
