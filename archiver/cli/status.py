"""``archiver status``: what is archived, proven and missing."""

import asyncio
import json
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from archiver.cli.configuration import LoadSettings
from archiver.cli.database import Place, open_database, require_archive, serve_database
from archiver.cli.terminal import has_colours, is_terminal, make_safe
from archiver.settings import matches
from archiver.store import reading
from archiver.store.reading import Count, FlowReport, Totals

EVER_SO_WIDE = 10_000
"""Columns of what is no terminal: nothing is cut."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What the command shows."""

    at: datetime
    flows: Sequence[FlowReport]
    totals: Totals


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--flow", "patterns", multiple=True, metavar="PATTERN", help="Only these: 'acme/*'.")
@click.option("--exact", is_flag=True, help="Count every row, however long it takes.")
@click.pass_obj
def status(
    load_settings: LoadSettings, *, as_json: bool, patterns: tuple[str, ...], exact: bool
) -> None:
    r"""Show what is archived, proven and missing, flow by flow.

    \b
    events    in the archive; ~ marks an estimate, see --exact
    messages  as the flow would show them, the deleted ones too
    newest    how long ago the newest event happened
    lag       0s when the newest id known is proven; else for how long the
              first of those above all that is proven has been known
    gaps      ranges of ids that nothing proves yet, and the ids in them;
              many ids stand for no event, so that is a bound
    proven    the share of ids that are proven to be archived in full
    """
    settings = load_settings()
    require_archive(settings)
    with serve_database(settings) as place:
        found = asyncio.run(_read(place, patterns, exact=exact))
    if as_json:
        click.echo(json.dumps(_plain(found), ensure_ascii=False))
    else:
        _print(found)


async def _read(place: Place, patterns: Sequence[str], *, exact: bool) -> Status:
    now = datetime.now(UTC)
    async with open_database(place) as engine, engine.connect() as tx:
        paths = await reading.flow_paths(tx)
        keys = [key for key, path in paths.items() if matches(path, patterns or ["*"])]
        flows = await reading.flow_reports(tx, keys, now=now, exact=exact)
        return Status(at=now, flows=flows, totals=await reading.totals(tx, exact=exact))


def _plain(found: Status) -> dict[str, Any]:
    """*found* as JSON has it, with the sums over its flows."""
    plain: dict[str, Any] = msgspec.to_builtins(found)
    plain["totals"] |= {
        "flows": len(found.flows),
        "events": msgspec.to_builtins(_sum(one.events for one in found.flows)),
        "messages": msgspec.to_builtins(_sum(one.messages for one in found.flows)),
        "gaps": sum(one.gaps for one in found.flows),
        "missing_ids": sum(one.missing_ids for one in found.flows),
    }
    return plain


def _print(found: Status) -> None:
    terminal = is_terminal()
    console = Console(
        width=None if terminal else EVER_SO_WIDE,
        no_color=not has_colours(),
        highlight=False,
        markup=False,
        emoji=False,
    )
    with console.capture() as captured:
        console.print(_table(found, terminal=terminal))
        console.print(Text(_summary(found)))
    for line in captured.get().rstrip("\n").split("\n"):
        click.echo(line.rstrip(), color=True)


def _table(found: Status, *, terminal: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=False, header_style="bold")
    table.add_column("flow", overflow="ellipsis", no_wrap=True, ratio=None, min_width=8)
    for name in ("events", "messages", "newest", "lag", "gaps", "ids", "proven"):
        table.add_column(name, justify="right", no_wrap=True)
    errors = any(one.last_error for one in found.flows)
    if errors:
        table.add_column("last error", overflow="ellipsis", no_wrap=True)
    for one in found.flows:
        table.add_row(*_cells(one, at=found.at), *([_error(one)] if errors else []))
    return table


def _cells(one: FlowReport, *, at: datetime) -> Iterable[Text]:
    away = one.joined is False or bool(one.disabled)
    yield Text(make_safe(one.flow), style="dim" if away else "")
    yield Text(_number(one.events))
    yield Text(_number(one.messages))
    yield Text("-" if one.newest_at is None else _duration((at - one.newest_at).total_seconds()))
    yield Text("-" if one.lag_seconds is None else _duration(one.lag_seconds))
    yield Text(f"{one.gaps:,}", style="yellow" if one.gaps else "")
    yield Text(f"{one.missing_ids:,}", style="yellow" if one.gaps else "")
    yield Text(_percent(one.proven), style="yellow" if one.gaps else "green")


def _error(one: FlowReport) -> Text:
    return Text(make_safe(one.last_error or ""), style="red")


def _summary(found: Status) -> str:
    flows, totals = found.flows, found.totals
    gaps, missing = sum(one.gaps for one in flows), sum(one.missing_ids for one in flows)
    written = totals.written_at
    events = _number(_sum(one.events for one in flows))
    messages = _number(_sum(one.messages for one in flows))
    age = f"{_duration((found.at - written).total_seconds())} ago" if written else "never"
    return (
        f"{len(flows):,} flows, {events} events, {messages} messages, "
        f"{gaps:,} gaps of {missing:,} ids\n"
        f"{_number(totals.signals)} signals, {_number(totals.rejects)} rejects, "
        f"database of {_bytes(totals.database_bytes)}, last written {age}"
    )


def _sum(counts: Iterable[Count]) -> Count:
    return sum(counts, Count(0))


def _number(count: Count) -> str:
    return f"{'' if count.exact else '~'}{count.rows:,}"


def _percent(share: float | None) -> str:
    """Rounded down: only what is complete reads 100%."""
    if share is None:
        return "-"
    return "100%" if share == 1 else f"{math.floor(share * 10_000) / 100:.2f}%"


def _duration(seconds: float) -> str:
    """The two largest units."""
    left = max(0, int(seconds))
    told: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number or told:
            told.append(f"{number}{unit}")
    return " ".join(told[:2]) or "0s"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
