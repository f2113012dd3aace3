"""Outputs that nobody reads, or that cannot be written: reported in one line, or left in peace."""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.cli.forks import Starter

FULL = "/dev/full"
UNREAD = 141

WAYS = {
    "click": "click.echo('x' * 200_000)",
    "csv": "csv.writer(sys.stdout).writerow(['x'])",
    "bytes": "sys.stdout.buffer.write(b'x')",
    "rich": "Console(width=80).print('x')",
    "among tasks": "asyncio.run(tell())",
}
"""Ways to write to standard output."""
PROBE = """
import asyncio, click, csv, os, sys
from rich.console import Console
from archiver.cli import main

async def tell():
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(click.echo, 'x'))

main.cli = click.Command('probe', callback=lambda: {way})
main.main()
"""


def probe(
    way: str, redirected: str, environ: dict[str, str], stdout: int | None = None
) -> tuple[int, bytes]:
    """Run a command that writes in this way; return its exit status and its errors."""
    return python(["-c", PROBE.format(way=way)], redirected, environ, stdout)


def python(
    arguments: Sequence[str], redirected: str, environ: dict[str, str], stdout: int | None = None
) -> tuple[int, bytes]:
    """Run Python with streams that a shell redirects; return its exit status and its errors."""
    ended = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, *arguments],
        stderr=subprocess.PIPE,
        env=environ,
        check=False,
        stdout=stdout,
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_output_that_is_not_taken_is_one_line_and_ends_with_2(
    way: str, environ: dict[str, str]
) -> None:
    told = b"archiver: error: cannot write the output: "
    assert probe(way, f">{FULL}", environ) == (2, told + b"No space left on device\n")
    assert probe(way, ">&-", environ) == (2, told + b"Bad file descriptor\n")


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_reader_that_goes_away_is_no_error(way: str, environ: dict[str, str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert probe(way, "", environ, stdout=writer) == (UNREAD, b"")
    os.close(writer)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_all_scripts_are_told_whatever_the_locale(encoding: str, environ: dict[str, str]) -> None:
    reader, writer = os.pipe()
    said = "(click.echo('Ж 👋'), click.echo('再', err=True), sys.exit(0))"
    told = probe(said, "", environ | {"PYTHONIOENCODING": encoding}, stdout=writer)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as out:
        assert (out.read(), told) == ("Ж 👋\n", (0, "再\n".encode()))


def test_what_is_opened_does_not_take_the_place_of_a_closed_stream(environ: dict[str, str]) -> None:
    opened = "sys.exit(os.open('/', os.O_RDONLY))"
    assert probe(opened, "<&- >&- 2>&-", environ) == (3, b"")


@pytest.mark.parametrize("redirected", ["2>&-", f"2>{FULL}"])
def test_work_goes_on_when_nobody_hears_of_it(redirected: str, environ: dict[str, str]) -> None:
    status = "(click.echo('x', err=True), print('y', file=sys.stderr), 5)[-1]"
    assert probe(status, redirected, environ) == (5, b"")
    assert probe("int('x')", redirected, environ) == (1, b"")
    command = ["-m", "archiver", "status"]
    assert python(command, redirected, environ) == (2, b"")  # there is no archive


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["status", "--json"],
        ["gaps"],
        ["rejects"],
        ["sql", "SELECT 1"],
        ["sql", "--csv", "SELECT 1"],
        ["search", "--csv", "lunch"],
        ["config", "--example"],
        ["check", "--json"],
    ],
    ids=" ".join,
)
def test_no_command_has_a_status_of_its_own_for_it(
    starter: Starter, database_url: str, environ: dict[str, str], arguments: Sequence[str]
) -> None:
    settings = environ | {"ARCHIVER_DATABASE_URL": database_url}
    nothing, full = os.open(os.devnull, os.O_RDONLY), os.open(FULL, os.O_WRONLY)
    reader, writer = os.pipe()
    with starter.start(arguments, settings, nothing, full, writer) as started:
        for file in (nothing, full, writer):
            os.close(file)
        with os.fdopen(reader) as told:
            lines = told.read().splitlines()
        assert started.wait() == 2
    assert lines[-1] == "archiver: error: cannot write the output: No space left on device"
