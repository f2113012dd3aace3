"""Tables for people: as wide as they need to be, on a terminal as wide as it has room for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from archiver.cli.terminal import has_colours, is_terminal, make_safe

UNBOUNDED_CELLS = 10_000


@dataclass(frozen=True, slots=True)
class Column:
    """How a column is shown; what is neither a number nor short gives way to the others."""

    name: str
    is_number: bool = False
    is_short: bool = False


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print *rows*, whatever they hold; texts that have no room are broken, numbers never."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column.name,
            justify="right" if column.is_number else "left",
            no_wrap=column.is_number or column.is_short,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(make_safe(cell)) for cell in row))
    width = None if is_terminal() else UNBOUNDED_CELLS
    Console(width=width, no_color=not has_colours(), highlight=False).print(table)


def clipped(text: str, letters: int) -> str:
    """*text* on one line, safe for terminals, with at most so many letters."""
    safe = make_safe(text[: letters + 1])
    return safe if len(safe) <= letters else safe[: letters - 1] + "…"


def counted(count: int, thing: str) -> str:
    """So many of a *thing*, whose plural ends in s."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def moment(at: datetime | None) -> str:
    """A time to the second, in UTC; a dash when it is not known."""
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
