"""Tables for people.

On a terminal, a table fits its width: texts are wrapped, and if that is not enough, each row
becomes a block of lines. Elsewhere, a table is as wide as it needs to be, and long texts are cut;
JSON and CSV have all of them. The environment variable COLUMNS overrides the width.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import click
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from archiver.cli.terminal import has_colours, is_terminal, make_safe

UNBOUNDED_CELLS = 10_000
CUT_CELLS = 60
"""Limit for a text where there is no terminal to wrap it for."""
BROKEN_CELLS = 12
"""The least width to which texts are wrapped."""
GAP_CELLS = 2


@dataclass(frozen=True, slots=True)
class Column:
    """How a column is shown; those that are neither numbers nor short may be wrapped or cut."""

    name: str
    is_number: bool = False
    is_short: bool = False

    @property
    def is_whole(self) -> bool:
        """Tell whether its cells are neither wrapped nor cut."""
        return self.is_number or self.is_short


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print *rows*, whatever they hold; numbers are never wrapped or cut."""
    click.echo(table_text(columns, rows), nl=False)


def table_text(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    """What `show_table` prints."""
    safe = [[make_safe(cell) for cell in row] for row in rows]
    room = shutil.get_terminal_size((80 if is_terminal() else UNBOUNDED_CELLS, 24)).columns
    if not is_terminal():
        safe = [list(map(_cut, columns, row)) for row in safe]
    system: Literal["auto"] | None = "auto" if has_colours() else None
    console = Console(width=room, color_system=system, highlight=False)
    with console.capture() as capture:
        if _least_cells(columns, safe) > room:
            for line in _blocks(columns, safe):
                console.print(line, soft_wrap=True)
        else:
            console.print(_table(columns, safe))
    return "".join(f"{line.rstrip(' ')}\n" for line in capture.get().split("\n")[:-1])


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for at, column in enumerate(columns):
        table.add_column(
            Text(make_safe(column.name)),
            justify="right" if column.is_number else "left",
            no_wrap=column.is_whole,
            overflow="fold",
            min_width=_least(column, [row[at] for row in rows]),
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _blocks(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Iterator[Text]:
    """Each row as a heading, and a line for each of its columns."""
    names = [make_safe(column.name) for column in columns]
    widest = max(map(cell_len, names))
    for number, row in enumerate(rows, start=1):
        yield Text(f"── {number:,} ──", style="dim")
        for name, cell in zip(names, row, strict=True):
            line = Text(f"{name}: ".ljust(len(name) + 2 + widest - cell_len(name)), style="bold")
            yield line.append(cell, style="not bold") if cell else Text(line.plain.rstrip())


def _cut(column: Column, cell: str) -> str:
    return cell if column.is_whole else fitted(cell, CUT_CELLS)


def _least_cells(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> int:
    """The least width of a table."""
    least = (_least(column, [row[at] for row in rows]) for at, column in enumerate(columns))
    return sum(least) + GAP_CELLS * (len(columns) - 1)


def _least(column: Column, cells: Sequence[str]) -> int:
    widest = max(map(cell_len, [make_safe(column.name), *cells]))
    return widest if column.is_whole else min(widest, BROKEN_CELLS)


def fitted(safe: str, cells: int) -> str:
    """*safe*, cut to so many cells of a terminal."""
    if cell_len(safe) <= cells:
        return safe
    return set_cell_size(safe, max(0, cells - 1)).rstrip() + "…"


def clipped(text: str, letters: int) -> str:
    """*text* on one line, safe for terminals, with at most so many letters."""
    safe = make_safe(text[: letters + 1])
    return safe if len(safe) <= letters else safe[: letters - 1] + "…"


def first_of(lines: Sequence[str], most: int, *, more: str = "more") -> Iterator[str]:
    """The first of *lines*; if there are others, then also how many, in the words *more*."""
    yield from lines[:most]
    if len(lines) > most:
        yield f"… and {len(lines) - most:,} {more}"


def counted(count: int, thing: str) -> str:
    """*count* with the name of a *thing* whose plural ends in s."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def moment(at: datetime | None) -> str:
    """A time in UTC, to the second, with a Z at the end; a dash when it is not known."""
    if at is None:
        return "-"
    told = at.astimezone(UTC)
    return f"{told.date()} {told:%H:%M:%S}Z"  # %Y would write the year 1 with one digit
