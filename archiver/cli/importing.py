"""``archiver import``: archive official exports, or the exported journal of another archive."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from archiver import daemon
from archiver.cli.configuration import LoadSettings
from archiver.cli.database import Place, guarded, open_for_changes, serve_database
from archiver.cli.options import FileName, refuse_beside
from archiver.cli.progress import Tell, shown_progress
from archiver.cli.restoration import Count, is_own, require_journal, restore
from archiver.cli.stopping import report_when_stopped
from archiver.cli.tables import counted
from archiver.cli.terminal import make_safe
from archiver.domain.model import User
from archiver.errors import ArchiverError
from archiver.export.manifest import Manifest
from archiver.flowdock.official import ExportFile, find_exports
from archiver.flowdock.people import read_users
from archiver.ingest.apply import when_possible
from archiver.ingest.importing import Imported, Survey, find_destination, import_export, survey
from archiver.memory import collect_rarely
from archiver.store.connection import Engine
from archiver.store.importing import introduce_users

SURVEY_SHARE = 0.1
"""The share of a file's time that it takes to read it through before archiving it."""


@dataclass(slots=True, kw_only=True)
class Report:
    """What became of all input."""

    files: list[tuple[ExportFile, str | None, Imported]] = field(default_factory=list)
    """With the path of the flow; None if nothing names it, since the file has no messages."""
    archives: list[tuple[Path, Imported]] = field(default_factory=list)
    """Exports of other archives."""
    people: int = 0
    introduced: int = 0
    total: Imported = field(default_factory=Imported)
    """The sum over all files, including what has been read of the current one."""

    def count(self, step: Imported) -> None:
        """Count what became of a part of a file."""
        self.total += step


@click.command("import")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=FileName())
@click.option("--flow", "path", metavar="ORG/FLOW", help="The flow's name; for one file.")
@click.option("--users", "users", type=FileName(), help="Names of users by their ids: JSON or CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.pass_obj
def import_(
    load: LoadSettings,
    /,
    *,
    paths: tuple[Path, ...],
    path: str | None,
    users: Path | None,
    as_json: bool,
) -> int:
    """Archive official Flowdock exports, or what archiver export --events wrote.

    An official export is a zip, a messages.json, or a directory of them. It proves nothing, so the
    daemon lists the same ranges again. What archiver export --events wrote brings all that the
    other archive held, what it had proven too.

    Each file is read to its end before any of it is archived. An import may be repeated, and runs
    beside the daemon.

    Exit status: 0 when all was archived, 1 when some input was rejected (archiver rejects).
    """
    archives = {one: require_journal(one) for one in paths if is_own(one)}
    exports = [export for one in paths if one not in archives for export in find_exports(one)]
    for archive in archives:
        refuse_beside(
            f"{archive} was made by archiver export --events, which names the flows", "path"
        )
    if path is not None and len(exports) != 1:
        raise click.UsageError(f"--flow names one flow, but there are {len(exports)} files")
    if path is not None and not is_path(path):
        raise click.UsageError(f"--flow {path!r}: expected organization/flow")
    people = [] if users is None else read_users(users)
    settings = load()
    began = time.monotonic()
    report = Report(people=len(people))
    with (
        report_when_stopped(lambda: [_stopped(report.total, "event" if archives else "message")]),
        serve_database(settings) as place,
        shown_progress(quiet=as_json) as tell,
    ):
        asyncio.run(
            _run(place, exports, archives, people=people, path=path, report=report, tell=tell)
        )
    seconds = time.monotonic() - began
    if as_json:
        click.echo(json.dumps(_plain(report, seconds)))
    else:
        _describe(report, seconds)
    return 1 if report.total.rejected else 0


def is_path(text: str) -> bool:
    """Tell whether *text* could be the path of a flow."""
    parts = text.split("/")
    return len(parts) == 2 and all(parts) and parts[0] != "private"


async def _run(
    place: Place,
    exports: Sequence[ExportFile],
    archives: Mapping[Path, Manifest],
    *,
    people: Sequence[User],
    path: str | None,
    report: Report,
    tell: Tell,
) -> None:
    collect_rarely()
    async with open_for_changes(place) as engine, guarded(place):
        now = daemon.utc_now()
        report.introduced = await when_possible(
            engine, lambda tx: introduce_users(tx, people, now=now)
        )
        whole = sum(export.size_bytes for export in exports) or 1
        done = 0
        for export in exports:
            start, share = done / whole, export.size_bytes / whole
            part = _within(tell, start, share)
            flow, imported = await _import(engine, export, path, report.count, part)
            report.files.append((export, flow, imported))
            done += export.size_bytes
        for archive, manifest in archives.items():
            imported = await restore(engine, archive, manifest, report.count, tell)
            report.archives.append((archive, imported))


async def _import(
    engine: Engine, export: ExportFile, path: str | None, count: Count, tell: Tell
) -> tuple[str | None, Imported]:
    """Archive one file; returns the flow's path, and what became of it."""
    found = _survey(export, tell)
    if not found.elements and path is None:
        return None, Imported()
    now = daemon.utc_now()
    try:
        destination = await find_destination(engine, found, path=path, now=now)
    except ArchiverError as error:
        raise ArchiverError(f"{export}: {error}") from error
    imported = Imported()
    began = time.monotonic()
    async for step in import_export(engine, export, found, destination, now=now):
        imported += step
        count(step)
        rate = imported.read / max(0.001, time.monotonic() - began)
        share = imported.read / max(1, found.elements)
        tell(
            SURVEY_SHARE + (1 - SURVEY_SHARE) * share,
            f"{destination.path}, {imported.read:,} of {found.elements:,} messages, {rate:,.0f}/s",
        )
    return destination.path, imported


def _survey(export: ExportFile, tell: Tell) -> Survey:
    found = None
    for found in survey(export):
        tell(0.0, f"reading {export}, {found.elements:,} messages")
    assert found is not None  # noqa: S101 - a survey ends with all that was found
    return found


def _within(tell: Tell, start: float, share: float) -> Callable[[float, str], None]:
    return lambda done, where: tell(start + share * done, where)


def _plain(report: Report, seconds: float) -> dict[str, Any]:
    def told(imported: Imported) -> dict[str, int]:
        return {
            "read": imported.read,
            "taken": imported.taken,
            "known": imported.known,
            "changed": imported.changed,
            "rejected": imported.rejected,
        }

    return {
        "files": [
            {"file": str(export), "flow": flow, **told(imported), "files_left": export.attachments}
            for export, flow, imported in report.files
        ],
        "archives": [
            {"file": str(archive), **told(imported)} for archive, imported in report.archives
        ],
        **told(report.total),
        "users": report.people,
        "users_taken": report.introduced,
        "seconds": round(seconds, 3),
    }


def _describe(report: Report, seconds: float) -> None:
    for export, flow, imported in report.files:
        if flow is None:
            click.echo(f"{make_safe(str(export))}: it has no messages")
        else:
            click.echo(f"{make_safe(flow)}: {_told(imported)} (from {make_safe(str(export))})")
    for archive, imported in report.archives:
        click.echo(f"{make_safe(str(archive))}: {_told(imported, 'event')}")
    if report.people:
        click.echo(f"{counted(report.people, 'user')}: {report.introduced:,} new, the rest known")
    left = sum(export.attachments for export, _, _ in report.files)
    if left:
        click.echo(
            f"{counted(left, 'uploaded file')} not imported: "
            "the contents of files are fetched from Flowdock only"
        )
    nameless = [flow for _, flow, _ in report.files if flow is not None and "/" not in flow]
    if nameless:
        click.echo("a flow is shown by its id until Flowdock lists it; --flow names it at once")
    if report.total.rejected:
        click.echo("archiver rejects shows what was rejected, and why")
    rate = report.total.read / max(0.001, seconds)
    things = "event" if report.archives else "message"
    click.echo(f"{counted(report.total.read, things)} in {seconds:,.1f} s, {rate:,.0f}/s")


def _stopped(imported: Imported, thing: str) -> str:
    """What to say when an import is interrupted."""
    return (
        f"stopped: {counted(imported.read, thing)} read; what was archived is kept; "
        "run the same command again to continue"
    )


def _told(imported: Imported, things: str = "message") -> str:
    return (
        f"{counted(imported.read, things)}: {imported.taken:,} new, {imported.known:,} known, "
        f"{imported.changed:,} changed, {imported.rejected:,} rejected"
    )
