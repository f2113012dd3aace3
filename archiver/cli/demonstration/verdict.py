"""What the demonstration found, for people and for programs."""

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import click

from archiver.cli.demonstration.comparison import Difference
from archiver.cli.tables import counted, first_of
from archiver.cli.terminal import make_safe

TOLD_DIFFERENCES = 20
LONGEST_LINE = 300
CUT_SECONDS = 3.0
"""How long the streams are refused."""

QUERIES = (
    """
  SELECT nick, count(*) AS messages, count(edited_at) AS edited
  FROM messages GROUP BY nick ORDER BY messages DESC LIMIT 5""",
    """
  SELECT at, flow, kind, left(content, 40) AS content
  FROM revisions WHERE kind IN ('edited', 'deleted') ORDER BY at DESC LIMIT 5""",
    """
  SELECT flow, witness, count(*) AS ranges, max(to_id) AS up_to
  FROM coverage GROUP BY flow, witness ORDER BY flow, witness LIMIT 8""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How the archive compares with the truth."""

    differences: tuple[Difference, ...]
    flows: int
    conversations: int
    events: int
    """All that were archived, including edits and the like."""
    messages: int
    """Those that were compared, field by field."""
    threads: int
    edited: int
    deleted: int
    files: int
    """Files of messages whose bytes were compared."""
    gaps_left: int
    gaps_closed: int
    disconnections: int
    """How often the streams were cut."""
    seconds: float

    @property
    def is_equal(self) -> bool:
        """Tell whether the archive is what it should be, and proves it."""
        return not self.differences and not self.gaps_left

    @property
    def is_good(self) -> bool:
        """Tell whether it is equal, and the streams were cut to put it to the test."""
        return self.is_equal and self.disconnections > 0


def summarize(verdict: Verdict) -> dict[str, Any]:
    """The verdict as one JSON object; only the first differences are spelt out."""
    told = {name: value for name, value in asdict(verdict).items() if name != "differences"}
    return {
        "equal": verdict.is_equal,
        **told,
        "seconds": round(verdict.seconds, 1),
        "differences": len(verdict.differences),
        "first_differences": [asdict(one) for one in verdict.differences[:TOLD_DIFFERENCES]],
    }


def describe(verdict: Verdict) -> None:
    """Print the verdict for people, and how to look further."""
    for line in _lines(verdict):
        click.echo(line)
    differences = [make_safe(str(one))[:LONGEST_LINE] for one in verdict.differences]
    for told in first_of(differences, TOLD_DIFFERENCES):
        click.echo(f"  {told}")
    click.echo("\nThe archive is still there. Look into it with SQL:\n")
    for query in QUERIES:
        click.echo(f'{command_name()} sql --demo "{query}"\n')


def _lines(verdict: Verdict) -> Iterator[str]:
    colour = "green" if verdict.is_good else "red"
    yield ""
    yield click.style(_headline(verdict), fg=colour, bold=True)
    yield (
        f"  compared  {counted(verdict.messages, 'message')}, of which "
        f"{verdict.edited:,} were edited and {verdict.deleted:,} deleted,"
    )
    yield (
        f"            and {counted(verdict.threads, 'thread')} in "
        f"{counted(verdict.flows, 'flow')} and "
        f"{counted(verdict.conversations, 'private conversation')},"
    )
    yield f"            field by field; and {counted(verdict.files, 'file')}, byte for byte"
    yield f"  archived  {counted(verdict.events, 'event')} in {verdict.seconds:.0f} s"
    if verdict.disconnections:
        yield f"  cut off   {counted(verdict.disconnections, 'time')}, for {CUT_SECONDS:g} s"
    else:
        yield "  cut off   never, so nothing was put to the test"
    yield f"  gaps      {verdict.gaps_closed} found and closed, {verdict.gaps_left} left"


def _headline(verdict: Verdict) -> str:
    count = len(verdict.differences)
    if count:
        return f"The archive differs from the truth in {counted(count, 'value')}."
    if verdict.gaps_left:
        gaps = counted(verdict.gaps_left, "gap")
        return f"The archive equals the truth, but cannot prove it: {gaps}."
    return "The archive equals the truth."


def command_name() -> str:
    """The command by which the user's shell can run this same program."""
    program = Path(sys.prefix, "bin", "archiver")
    if not program.exists():
        return f"{quote(sys.executable)} -m archiver"
    here = Path.cwd()
    is_here = os.environ.get("PWD", str(here)) == str(here) and program.is_relative_to(here)
    return quote(str(program.relative_to(here) if is_here else program))
