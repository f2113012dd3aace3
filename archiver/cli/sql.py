"""``archiver sql``: one query, answered from the archive's views."""

import asyncio
import csv
import json
import logging
import sys
from datetime import datetime
from decimal import Decimal
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from archiver.cli.configuration import LoadSettings
from archiver.cli.database import Place, open_database, require_archive, serve_database
from archiver.cli.demo import demo_settings
from archiver.cli.terminal import has_colours, is_terminal, make_safe
from archiver.store.asking import Answer, ask

SCHEMA = "archive"
UNBOUNDED_CELLS = 10_000


@click.command
@click.argument("query")
@click.option("--json", "form", flag_value="json", help="Print one JSON object a row.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV, with a header.")
@click.option("--demo", "of_demo", is_flag=True, help="Ask what the last demonstration archived.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 86_400),
    default=60.0,
    show_default=True,
    help="Give up after so many seconds.",
)
@click.pass_obj
def sql(
    load: LoadSettings, /, *, query: str, form: str | None, of_demo: bool, timeout: float
) -> None:
    """Ask the archive one SQL QUERY; nothing can be changed.

    The views are flows, users, messages, revisions, events, threads, attachments, signals,
    coverage, gaps, doubts, rejects and forms.
    """
    settings = load()
    # Where the answer comes from is clear to who asks; the answer is all that is wanted.
    logging.getLogger("archiver").setLevel(logging.WARNING)
    if of_demo:
        settings = demo_settings(settings)
    require_archive(settings)
    with serve_database(settings) as place:
        answer = asyncio.run(_ask(place, query, timeout))
    if form == "json":
        _print_json(answer)
    elif form == "csv":
        _print_csv(answer)
    else:
        _print_table(answer)


async def _ask(place: Place, query: str, seconds: float) -> Answer:
    async with open_database(place) as engine:
        return await ask(engine, query, schema=SCHEMA, seconds=seconds)


def _print_json(answer: Answer) -> None:
    for row in answer.rows:
        named = dict(zip(answer.columns, row, strict=True))
        click.echo(json.dumps(named, default=_plain, ensure_ascii=False))


def _print_csv(answer: Answer) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(answer.columns)
    for row in answer.rows:
        writer.writerow(["" if value is None else _text(value) for value in row])


def _print_table(answer: Answer) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    numeric = [_is_numeric(answer, at) for at in range(len(answer.columns))]
    for name, is_number in zip(answer.columns, numeric, strict=True):
        table.add_column(
            Text(make_safe(name)),
            justify="right" if is_number else "left",
            no_wrap=is_number,
            overflow="fold",
        )
    for row in answer.rows:
        table.add_row(*(Text("" if value is None else make_safe(_text(value))) for value in row))
    width = None if is_terminal() else UNBOUNDED_CELLS
    console = Console(width=width, no_color=not has_colours(), highlight=False)
    console.print(table)
    count = len(answer.rows)
    console.print(Text(f"{count:,} row{'' if count == 1 else 's'}", style="dim"))


def _is_numeric(answer: Answer, at: int) -> bool:
    values = [row[at] for row in answer.rows if row[at] is not None]
    return bool(values) and all(isinstance(one, int | float | Decimal) for one in values)


def _text(value: Any) -> str:
    """*value* as a cell of a table."""
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, list | dict):
        return json.dumps(value, default=_plain, ensure_ascii=False)
    return str(_plain(value) if isinstance(value, bytes | memoryview) else value)


def _plain(value: Any) -> Any:
    """What JSON has no word for, as text."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    return float(value) if isinstance(value, Decimal) else str(value)
