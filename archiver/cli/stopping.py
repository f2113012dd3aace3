"""What to say when work is interrupted."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import click

from archiver.cli.terminal import make_safe


@contextmanager
def report_when_stopped(told: Callable[[], Iterable[str]]) -> Iterator[None]:
    """Print the lines that *told* gives, on standard error, if Ctrl-C or SIGTERM ends the block."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, click.Abort):
        for line in told():
            click.echo(make_safe(line), err=True)
        raise
