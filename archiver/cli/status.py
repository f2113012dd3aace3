"""``archiver status``: show what is archived, proven and missing."""

import asyncio
import json
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn

import click
import msgspec
from rich.cells import cell_len, chop_cells, set_cell_size

from archiver.cli.choice import choose_flows
from archiver.cli.configuration import LoadSettings
from archiver.cli.dashboard import Look
from archiver.cli.database import Place, open_database, require_archive, serve_database
from archiver.cli.measures import (
    COMPLETE,
    SILENCE,
    describe_excluded,
    describe_files,
    describe_not_heard,
    describe_not_read,
    describe_not_told,
    format_bytes,
    format_count,
    format_seconds,
    format_share,
)
from archiver.cli.numbers import Number
from archiver.cli.options import refuse_beside
from archiver.cli.tables import Column, counted, table_text
from archiver.cli.terminal import can_draw, has_colours, is_terminal, make_safe
from archiver.settings import Settings
from archiver.store import leases, reading
from archiver.store.connection import Engine
from archiver.store.engine import see_one_moment
from archiver.store.leases import unheard_among
from archiver.store.reading import Count, FlowReport
from archiver.store.surveying import events_beyond

COLUMNS = (
    Column("flow"),
    *(
        Column(name, is_number=True)
        for name in ("events", "messages", "newest", "lag", "gaps", "ids", "proven")
    ),
)
NAMES = tuple(column.name for column in COLUMNS)
GAP = "  "
NARROWEST = 8

Read = Callable[[Engine], Awaitable[Look]]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--flow", "patterns", multiple=True, metavar="PATTERN", help="Only flows like this: 'acme/*'."
)
@click.option("--exact", is_flag=True, help="Count every row, however long it takes.")
@click.option("--watch", "is_watched", is_flag=True, help="Keep it on the screen, until Ctrl-C.")
@click.option(
    "--every",
    type=Number(0.2, 3600),
    default=2.0,
    show_default=True,
    help="With --watch: seconds between updates.",
)
@click.pass_obj
def status(
    load: LoadSettings,
    /,
    *,
    as_json: bool,
    patterns: tuple[str, ...],
    exact: bool,
    is_watched: bool,
    every: float,
) -> None:
    """Show what is archived, proven and missing, flow by flow.

    \b
    events    events in the archive; ~ marks an estimate, see --exact
    messages  messages in the archive, deleted ones too
    newest    how long ago the newest event happened
    lag       0s when the newest known id is proven; otherwise for how long the
              first id above all that is proven has been known
    gaps      ranges of ids that nothing proves yet
    ids       ids in the gaps: an upper bound, for many stand for no event
    proven    share of the ids that are proven to be archived in full

    A - means that there is nothing to show: no event, no id. A ? means that it
    is not known how far the flow's ids go, and so not what is missing; a ? under
    proven alone, that the service does not say what is new in the flow. In JSON,
    both are null.

    Below the table are named: flows with a ?, and why; flows of which the newest
    request for a page failed, and why; flows with gaps that no account can read;
    flows with a gap or a ? that the settings exclude; flows whose stream is not
    open, where nobody hears of edits; how many flows each daemon captures, if
    several share them (all private conversations of a person count as one; JSON
    lists the flows). The last line says so when no daemon reports in: what is
    missed is not in the gaps until one runs again.

    --watch puts flows with gaps or a lag above a minute first, then those with
    the most traffic; new/s is events a second. A line below names the flows with
    gaps that no account can read, or that the settings exclude. If metrics.listen
    is set, it asks the daemon there whether it captures. Where the screen cannot
    be redrawn (no terminal, TERM=dumb), it prints the table again and again, or
    with --json one object a line.
    """  # noqa: D301
    if is_watched:
        refuse_beside("--watch looks again and again", "exact")
    else:
        refuse_beside("without --watch there is one look", "every")
    settings = load()
    require_archive(settings)
    is_shared = settings.sharing.enabled
    read = partial(_read, patterns=patterns, settings=settings, exact=exact)
    with serve_database(settings) as place, suppress(KeyboardInterrupt):
        if not is_watched:
            found = asyncio.run(_look(place, read))
            _tell(found, as_json=as_json, is_shared=is_shared)
        elif can_draw() and not as_json:
            listen = settings.metrics.listen
            asyncio.run(
                _watch(place, read, every_seconds=every, listen=listen, is_shared=is_shared)
            )
        else:
            tell = partial(_tell, as_json=as_json, is_shared=is_shared)
            asyncio.run(_repeat(place, read, every_seconds=every, tell=tell))


async def _look(place: Place, read: Read) -> Look:
    async with open_database(place) as engine:
        return await read(engine)


async def _read(
    engine: Engine, *, patterns: Sequence[str], settings: Settings, exact: bool
) -> Look:
    now = datetime.now(UTC)
    async with engine.connect() as tx:
        await see_one_moment(tx)
        keys = list(await choose_flows(tx, patterns))
        flows = await reading.flow_reports(tx, keys, now=now, exact=exact)
        totals = await reading.totals(tx, exact=exact)
        lacking = [one.flow for one in flows if one.gaps is None or one.gaps or one.not_told]
        return Look(
            at=now,
            flows=flows,
            totals=totals,
            daemons=await leases.reports(tx),
            excluded=settings.excluded(lacking),
        )


async def _watch(
    place: Place,
    read: Read,
    *,
    every_seconds: float,
    listen: str | None,
    is_shared: bool,
) -> NoReturn:
    async with open_database(place) as engine:
        from archiver.cli.watching import watch  # noqa: PLC0415 - aiohttp, for this alone

        count = partial(_count, engine)
        look = partial(read, engine)
        await watch(look, count, every_seconds=every_seconds, listen=listen, is_shared=is_shared)


async def _count(engine: Engine, look: Look) -> Mapping[str, int]:
    async with engine.connect() as tx:
        return await events_beyond(tx, {one.flow: one.newest_id for one in look.flows})


async def _repeat(
    place: Place, read: Read, *, every_seconds: float, tell: Callable[[Look], None]
) -> NoReturn:
    async with open_database(place) as engine:
        while True:
            tell(await read(engine))
            sys.stdout.flush()
            await asyncio.sleep(every_seconds)


def _tell(found: Look, *, as_json: bool, is_shared: bool) -> None:
    if as_json:
        click.echo(json.dumps(_plain(found)))
        return
    _print(found)
    # A daemon that does not share its flows does not report in either.
    if is_shared and leases.is_silent(found.daemons):
        click.echo(SILENCE)


def _plain(found: Look) -> dict[str, Any]:
    """*found* as JSON has it, with the sums over its flows."""
    plain: dict[str, Any] = msgspec.to_builtins(found)
    plain["totals"] |= {
        "flows": len(found.flows),
        "events": msgspec.to_builtins(_sum(one.events for one in found.flows)),
        "messages": msgspec.to_builtins(_sum(one.messages for one in found.flows)),
        "gaps": sum(one.gaps or 0 for one in found.flows),
        "missing_ids": sum(one.missing_ids or 0 for one in found.flows),
        "not_measured": sum(one.gaps is None for one in found.flows),
    }
    return plain


def _print(found: Look) -> None:
    if found.flows:
        table = _table([_cells(one, at=found.at) for one in found.flows])
        click.echo(table if has_colours() else click.unstyle(table), nl=False)
    for one in found.flows:
        if one.not_told:
            click.echo(describe_not_told(one.flow, one.not_told))
        if one.last_error and one.last_error != one.not_told:
            click.echo(f"{make_safe(one.flow)}: {make_safe(one.last_error)}")
        if one.not_read:
            click.echo(describe_not_read(one.flow, one.not_read))
        if one.flow in found.excluded:
            click.echo(describe_excluded(one.flow))
    if unheard := unheard_among([one.flow for one in found.flows], found.daemons):
        click.echo(describe_not_heard(unheard))
    click.echo(_summary(found))
    if len(found.daemons) > 1 or not all(one.is_heard for one in found.daemons):
        for line in _sharing(found):
            click.echo(line)


def _cells(one: FlowReport, *, at: datetime) -> Sequence[str]:
    return (
        make_safe(one.flow),
        format_count(one.events),
        format_count(one.messages),
        "-" if one.newest_at is None else format_seconds((at - one.newest_at).total_seconds()),
        "-" if one.lag_seconds is None else format_seconds(one.lag_seconds),
        "?" if one.gaps is None else f"{one.gaps:,}",
        "?" if one.missing_ids is None else f"{one.missing_ids:,}",
        format_share(one.proven),
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A table; on a terminal, names of flows are wrapped to fit its width.

    If they would get less than `NARROWEST` cells, each flow becomes a block of lines.
    """
    widest, *widths = (max(map(cell_len, column)) for column in zip(NAMES, *rows, strict=True))
    room = widest
    if is_terminal():
        columns = shutil.get_terminal_size().columns
        room = min(widest, columns - sum(widths) - len(GAP) * len(widths))
        if room < min(widest, NARROWEST):
            return table_text(COLUMNS, rows)
    return "".join(f"{line}\n" for line in _lines(rows, room, widths))


def _lines(rows: Sequence[Sequence[str]], room: int, widths: Sequence[int]) -> Iterator[str]:
    for number, (flow, *numbers) in enumerate([NAMES, *rows]):
        name, *rest = chop_cells(flow, room)
        line = GAP.join([set_cell_size(name, room), *map(str.rjust, numbers, widths)])
        unproven = number and not line.endswith(COMPLETE)
        for one in (line, *rest):
            yield click.style(one, bold=not number, fg="yellow" if unproven else None)


def _summary(found: Look) -> str:
    flows, totals = found.flows, found.totals
    gaps = sum(one.gaps or 0 for one in flows)
    missing = sum(one.missing_ids or 0 for one in flows)
    unknown = sum(one.gaps is None for one in flows)
    written = totals.written_at
    events = _counted(_sum(one.events for one in flows), "event")
    messages = _counted(_sum(one.messages for one in flows), "message")
    age = f"{format_seconds((found.at - written).total_seconds())} ago" if written else "never"
    return (
        f"{counted(len(flows), 'flow')}, {events}, {messages}, "
        f"{counted(gaps, 'gap')} of {counted(missing, 'id')}"
        f"{f', {unknown:,} not measured yet' if unknown else ''}\n"
        f"{_counted(totals.signals, 'signal')}, {_counted(totals.rejects, 'reject')}, "
        f"{describe_files(totals.files)}, "
        f"database of {format_bytes(totals.database_bytes)}, last written {age}"
    )


def _sharing(found: Look) -> Iterator[str]:
    """Which daemon captures how much, where there are several."""
    for one in found.daemons:
        silent = (
            ""
            if one.is_heard
            else ", silent for " + format_seconds((found.at - one.heard_at).total_seconds())
        )
        yield (
            f"daemon {make_safe(one.daemon)}: captures {len(one.captures):,} of "
            f"{one.could_capture:,} that it could{silent}"
        )


def _sum(counts: Iterable[Count]) -> Count:
    return sum(counts, Count(0))


def _counted(count: Count, thing: str) -> str:
    return f"{format_count(count)} {thing}{'' if count == Count(1) else 's'}"
