"""How far long work has come: a bar on a terminal, else a line now and then; on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from archiver.cli.terminal import is_terminal, make_safe

PLAIN_SECONDS = 10.0

Tell = Callable[[float, str], None]
"""Called with the share that is done, from 0 to 1, and where the work is."""


@contextmanager
def shown_progress(*, quiet: bool) -> Iterator[Tell]:
    """Show what is told while the block lasts; nothing if *quiet*."""
    if quiet:
        yield lambda _done, _where: None
    elif is_terminal(sys.stderr):
        with Progress(
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:5.1f}%"),
            TextColumn("{task.description}", markup=False),
            TimeRemainingColumn(),
            console=Console(stderr=True, highlight=False),
            transient=True,
        ) as progress:
            task = progress.add_task("", total=1.0)
            yield lambda done, where: progress.update(
                task, completed=done, description=make_safe(where)
            )
    else:
        yield _lines()


def _lines() -> Tell:
    told_at = time.monotonic()

    def tell(done: float, where: str) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= PLAIN_SECONDS:
            told_at = time.monotonic()
            click.echo(f"{done:6.1%} {make_safe(where)}", err=True)

    return tell
