"""Progress of long work, on standard error: a bar on a terminal, otherwise a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from typing_extensions import override

from archiver import logs
from archiver.cli.full_screen import letting_go
from archiver.cli.terminal import can_draw, is_terminal, make_safe

PLAIN_SECONDS = 10.0

Tell = Callable[[float, str], None]
"""Called with the share that is done, from 0 to 1, and where the work is."""


@contextmanager
def shown_progress(*, quiet: bool) -> Iterator[Tell]:
    """A function that shows progress while the block lasts; if *quiet*, it shows nothing."""
    if quiet:
        yield lambda _done, _where: None
    elif can_draw(sys.stderr):
        with shown_bar(
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:5.1f}%"),
            TextColumn("{task.description}", markup=False),
            TimeRemainingColumn(),
            console=Console(stderr=True, highlight=False),
        ) as progress:
            task = progress.add_task("", total=1.0)
            yield lambda done, where: progress.update(
                task, completed=done, description=make_safe(where)
            )
    else:
        yield _lines()


@contextmanager
def shown_bar(*columns: ProgressColumn, console: Console) -> Iterator[Progress]:
    """A bar of *columns* at the bottom of a terminal; logs are printed above it."""
    with (
        Progress(
            *columns,
            console=console,
            transient=True,
            redirect_stdout=is_terminal(sys.stdout),
            redirect_stderr=is_terminal(sys.stderr),
        ) as progress,
        logs.passed_on(Above(console)),
        letting_go(console),
    ):
        yield progress


class Above(StringIO):
    """Prints what is written to it above the bar of *console*, which makes room for it."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    @override
    def write(self, text: str) -> int:
        """Print *text*, which consists of whole lines."""
        self._console.out(text.removesuffix("\n"), highlight=False)
        return len(text)


def _lines() -> Tell:
    told_at = time.monotonic()

    def tell(done: float, where: str) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= PLAIN_SECONDS:
            told_at = time.monotonic()
            click.echo(f"{done:6.1%} {make_safe(where)}", err=True)

    return tell
