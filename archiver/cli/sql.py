"""``archiver sql``: one query, answered from the archive's views."""

import asyncio
import csv
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from itertools import count
from math import isfinite
from typing import Any

import click

from archiver.cli.configuration import LoadSettings
from archiver.cli.database import (
    Place,
    open_for_questions,
    require_archive,
    require_demo,
    serve_database,
)
from archiver.cli.numbers import Number
from archiver.cli.tables import Column, counted, table_text
from archiver.cli.terminal import has_colours, is_terminal, make_safe, show_json, show_long
from archiver.cli.zones import Zone
from archiver.store.asking import Answer, Json, ask

SCHEMA = "archive"
MOST_ROWS = 10_000
"""Limit for a table, which is made only when all rows are there; more than a person reads."""
LINE_ENDS = str.maketrans("\r\n", "  ")
"""In JSON, line ends occur only between values, and mean no more than a space."""


@click.command
@click.argument("query")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a row.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with a header.")
@click.option("--demo", "of_demo", is_flag=True, help="Query what the last demo archived.")
@click.option(
    "--zone",
    type=Zone(),
    metavar="NAME",
    default="UTC",
    show_default=True,
    help="Time zone, as Europe/Helsinki.",
)
@click.option(
    "--timeout",
    type=Number(0.1, 86_400),
    default=60.0,
    show_default=True,
    help="Give up when nothing has come for so many seconds.",
)
@click.pass_obj
def sql(
    load: LoadSettings,
    /,
    *,
    query: str,
    as_json: bool,
    as_csv: bool,
    of_demo: bool,
    zone: tzinfo,
    timeout: float,
) -> None:
    """Answer one SQL QUERY, or EXPLAIN one; nothing can be changed.

    The views are flows, users, messages, revisions, events, threads, attachments, files,
    file_parts, signals, coverage, gaps, doubts, rejects, forms, daemons, leases and schema_version;
    messages_as_of(MOMENT) returns the messages as they were then, newest_messages(COUNT) the newest
    of each flow. docs/sql.md describes their columns, and answers many questions.

    The table is for people: it shows times to the second, cuts long texts unless a terminal shows
    them, goes through PAGER if it is longer than the terminal, and ends after 10,000 rows. JSON and
    CSV are complete.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    settings = load()
    # Nothing but the answer is wanted: the user knows which database it comes from.
    logging.getLogger("archiver").setLevel(logging.WARNING)
    if of_demo:
        settings = require_demo(settings)
    else:
        require_archive(settings)
    with serve_database(settings) as place:
        form = _print_json if as_json else _print_csv if as_csv else _text_of
        told = asyncio.run(_tell(place, query, form, zone=str(zone), seconds=timeout))
    if told:
        show_long(told)


async def _tell(
    place: Place,
    query: str,
    form: Callable[[Answer], Awaitable[str | None]],
    *,
    zone: str,
    seconds: float,
) -> str | None:
    """The answer in its *form*; None if the form has printed it row by row."""
    async with (
        open_for_questions(place) as engine,
        ask(engine, query, schema=SCHEMA, seconds=seconds, zone=zone) as answer,
    ):
        return await form(answer)


async def _print_json(answer: Answer) -> None:
    names = list(_distinct(answer.columns))
    async for row in answer.rows:
        told = [f"{_json(name)}: {_json(one)}" for name, one in zip(names, row, strict=True)]
        show_json(f"{{{', '.join(told)}}}")


def _distinct(names: Sequence[str]) -> Iterator[str]:
    """Make *names* unique: repeated ones get a number, as in a, a_2."""
    taken: set[str] = set()
    for name in names:
        numbered = (f"{name}_{number}" for number in count(2))
        told = name if name not in taken else next(one for one in numbered if one not in taken)
        taken.add(told)
        yield told


async def _print_csv(answer: Answer) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(map(make_safe, answer.columns) if is_terminal() else answer.columns)
    async for row in answer.rows:
        cells = ["" if value is None else _text(value) for value in row]
        writer.writerow(map(make_safe, cells) if is_terminal() else cells)


async def _text_of(answer: Answer) -> str:
    return await _plan(answer) if answer.is_plan else await _table(answer)


async def _plan(answer: Answer) -> str:
    lines = [line async for row in answer.rows for line in _text(row[0]).split("\n")]
    return "".join(f"{make_safe(line)}\n" for line in lines)


async def _table(answer: Answer) -> str:
    found = await _first(MOST_ROWS, answer.rows)
    columns = [
        Column(
            name,
            is_number=_is_all(found, at, (int, float, Decimal)),
            is_short=_is_all(found, at, (date, time, timedelta)),
        )
        for at, name in enumerate(answer.columns)
    ]
    rows = [["" if value is None else _cell(value) for value in row] for row in found]
    told = counted(len(rows), "row")
    async for _ in answer.rows:
        told = f"the first {told}; there are more: --csv and --json print all"
        break
    last = click.style(told, dim=True) if has_colours() else told
    return f"{table_text(columns, rows)}{last}\n"


async def _first(most: int, rows: AsyncIterator[Sequence[Any]]) -> list[Sequence[Any]]:
    found: list[Sequence[Any]] = []
    while len(found) < most and (row := await anext(rows, None)) is not None:
        found.append(row)
    return found


def _is_all(rows: Sequence[Sequence[Any]], at: int, kinds: tuple[type, ...]) -> bool:
    """Tell whether a column holds values of these kinds and nothing else."""
    values = [row[at] for row in rows if row[at] is not None]
    return bool(values) and all(isinstance(one, kinds) for one in values)


def _cell(value: Any) -> str:
    """*value* as a cell of a table."""
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds").replace("+00:00", "Z")
    return _json(value) if isinstance(value, Json) else _text(value)


def _text(value: Any) -> str:
    """All of *value*, as Postgres writes it."""
    match value:
        case timedelta() if value < timedelta():
            # Days and hours each have their own sign: without one, the hours would be positive.
            return f"-{-value}".replace(", ", ", -")
        case bool() | list() | tuple():
            return _json(value)
        case bytes():
            return value.hex()
        case Decimal():
            return f"{value:f}"
        case float() if not isfinite(value):
            return f"{Decimal(value):f}"
        case _:
            return str(value)


def _json(value: Any) -> str:
    """*value* on one line of JSON, with all its digits; types that JSON does not have, as text."""
    match value:
        case Json():
            return value.translate(LINE_ENDS)
        case list() | tuple():
            return f"[{', '.join(map(_json, value))}]"
        case float() | Decimal() if Decimal(value).is_finite():
            return _text(value)
        case None | int() | str():
            return json.dumps(value, ensure_ascii=False)
        case datetime():
            return json.dumps(value.isoformat())
        case _:
            return json.dumps(_text(value), ensure_ascii=False)
