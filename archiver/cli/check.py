"""``archiver check``: test what the archiver needs, and say how to fix what does not work."""

import asyncio
import json
import shutil
from collections.abc import Iterator, Sequence
from textwrap import wrap

import click
import msgspec

from archiver.cli.checks.database import check_database
from archiver.cli.checks.disk import check_disk
from archiver.cli.checks.result import Result, Verdict, wrong
from archiver.cli.checks.service import check_account
from archiver.cli.checks.settings import check_settings
from archiver.cli.configuration import LoadSettings
from archiver.cli.progress import shown_progress
from archiver.cli.tables import counted
from archiver.cli.terminal import has_colours, is_terminal, make_safe
from archiver.errors import ArchiverError
from archiver.settings import Settings

COLOURS: dict[Verdict, str] = {"ok": "green", "warning": "yellow", "wrong": "red"}
WIDEST = 120
UNBOUNDED = 10_000
VERDICT_CELLS = 9
SUBJECT_CELLS = 12
NARROWEST = 30
"""The least width to which texts are wrapped."""


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def check(load: LoadSettings, /, *, as_json: bool) -> int:
    """Test all that the archiver needs, and say how to fix what does not work.

    \b
    settings    they are valid; where they come from, who can read the secrets
    encryption  no token and no password travels unencrypted
    token       Flowdock accepts it
    flows       each flow can be read, each pattern matches one
    streams     they open
    database    it can be reached and written, and has this release's schema
    clock       ours agrees with Flowdock's and the database's
    disk        there is room for a private database

    Nothing is changed; the daemon may run meanwhile. Each flow is asked for its
    newest message, at the rate that the settings allow.

    Exit status: 0 when all works, warnings or not; 1 when something is wrong.
    """  # noqa: D301
    results = list(_results(load, quiet=as_json))
    if as_json:
        is_good = all(one.verdict != "wrong" for one in results)
        click.echo(json.dumps({"ok": is_good, "results": msgspec.to_builtins(results)}))
    else:
        _describe(results)
    return 1 if any(one.verdict == "wrong" for one in results) else 0


def _results(load: LoadSettings, *, quiet: bool) -> Iterator[Result]:
    try:
        settings = load()
        yield from check_settings(settings, load.tell(), load.config)
    except ArchiverError as refusal:
        yield wrong("settings", str(refusal))
        return
    yield from asyncio.run(_of_accounts(settings, quiet=quiet))
    yield from check_database(settings)
    yield from check_disk(settings)


async def _of_accounts(settings: Settings, *, quiet: bool) -> Sequence[Result]:
    found: list[Result] = []
    with shown_progress(quiet=quiet) as tell:
        for account in settings.accounts:
            found += await check_account(settings, account, tell)
    return found


def _describe(results: Sequence[Result]) -> None:
    columns = min(shutil.get_terminal_size().columns, WIDEST) if is_terminal() else UNBOUNDED
    for one in results:
        for line in lines(one, columns):
            click.echo(line if has_colours() else click.unstyle(line))
    count = {verdict: sum(one.verdict == verdict for one in results) for verdict in COLOURS}
    warnings = f", {counted(count['warning'], 'warning')}" if count["warning"] else ""
    state = f"{count['wrong']} wrong" if count["wrong"] else "all works"
    click.echo(f"{state}{warnings}")


def lines(one: Result, columns: int) -> Iterator[str]:
    """What was found, and below it what to do, wrapped to *columns*."""
    margin = VERDICT_CELLS + SUBJECT_CELLS
    verdict = click.style(one.verdict.ljust(VERDICT_CELLS), fg=COLOURS[one.verdict])
    head = f"{verdict}{one.subject.ljust(SUBJECT_CELLS)}"
    if columns - margin < NARROWEST:  # no room beside the head: the text goes below it
        yield head.rstrip()
        head, margin = "", 2
    room = max(NARROWEST, columns - margin)
    for line in wrap(make_safe(one.told), room, break_on_hyphens=False):
        yield (head or " " * margin) + line
        head = ""
    for number, line in enumerate(wrap(make_safe(one.mend), room - 2, break_on_hyphens=False)):
        yield " " * margin + ("  " if number else "→ ") + click.style(line, bold=True)
