"""``archiver export``: what the archive holds, into files that others can read."""

import asyncio
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from archiver.cli.choice import choose_flows
from archiver.cli.configuration import LoadSettings
from archiver.cli.database import Place, open_database, require_archive, serve_database
from archiver.cli.moments import Moment
from archiver.cli.progress import Tell, shown_progress
from archiver.cli.tables import counted
from archiver.cli.terminal import make_safe
from archiver.errors import ArchiverError
from archiver.export.folder import File
from archiver.export.manifest import Manifest, check, read_manifest
from archiver.export.writing import Format, Progress, total_bytes, write_export
from archiver.store.exporting import Selection

FORMATS = {
    "jsonl": ("archiver.export.lines", "JsonLines"),
    "csv": ("archiver.export.lines", "Csv"),
    "parquet": ("archiver.export.parquet", "Parquet"),
    "html": ("archiver.export.html", "Html"),
    "markdown": ("archiver.export.transcript", "Markdown"),
    "text": ("archiver.export.transcript", "PlainText"),
    "slack": ("archiver.export.slack", "Slack"),
}
EVENTS = ("archiver.export.lines", "Events")
TOLD_FINDINGS = 20


@click.command
@click.option(
    "--format", "style", type=click.Choice(list(FORMATS)), default="jsonl", show_default=True
)
@click.option("--events", is_flag=True, help="The journal as received, for archiver import.")
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    help="A directory, new or empty; or a file to be made, NAME.zip.",
)
@click.option("--flow", "patterns", multiple=True, metavar="PATTERN", help="Only these: 'acme/*'.")
@click.option("--since", type=Moment(), help="Sent then or later: 30d, or a date.")
@click.option("--until", type=Moment(), help="Sent before then.")
@click.option("--as-of", type=Moment(), help="Messages as their flows showed them then.")
@click.option(
    "--check",
    "checked",
    type=click.Path(path_type=Path),
    help="Write nothing: compare this export with its manifest.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.pass_obj
def export(
    load: LoadSettings,
    /,
    *,
    style: str,
    events: bool,
    to: Path | None,
    patterns: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    as_of: datetime | None,
    checked: Path | None,
    as_json: bool,
) -> int:
    """Write messages into files: of one moment, complete or not there.

    An export that was interrupted goes on where it was, by the same command. Its manifest.json
    tells what it holds, what of that the archive had proven, and the SHA-256 of each file.

    Exit status of --check: 0 when all is as the manifest says, 1 when it is not.
    """
    if checked is not None:
        return _check(checked, as_json=as_json)
    if to is None:
        raise click.UsageError("say where to: --to DIR, or --to FILE.zip")
    if events and (style != "jsonl" or as_of is not None):
        raise click.UsageError("--events is the journal in jsonl, and knows no --as-of")
    written = _format(EVENTS if events else FORMATS[style])
    settings = load()
    require_archive(settings)
    arguments = {
        "format": style,
        "events": events,
        "flows": list(patterns),
        "since": _plain_time(since),
        "until": _plain_time(until),
        "as_of": _plain_time(as_of),
    }
    began = time.monotonic()

    async def run(place: Place, tell: Tell) -> Manifest:
        async with open_database(place) as engine:
            async with engine.connect() as tx:
                flows = await choose_flows(tx, patterns)
            chosen = Selection(
                flows=tuple(sorted(flows.values())), since=since, until=until, as_of=as_of
            )
            return await write_export(
                engine,
                written,
                chosen,
                to,
                arguments=arguments,
                version=version("flowdock-archiver"),
                tell=lambda progress: _tell(tell, progress, time.monotonic() - began),
            )

    with serve_database(settings) as place, shown_progress(quiet=as_json) as tell:
        manifest = asyncio.run(run(place, tell))
    _describe(manifest, to, time.monotonic() - began, as_json=as_json)
    return 0


def _format(place: tuple[str, str]) -> Format:
    module, name = place
    try:
        style: Format = getattr(import_module(module), name)()
    except ImportError as error:
        raise ArchiverError(
            f"this format needs {error.name}: pip install 'flowdock-archiver[parquet]'"
        ) from error
    return style


def _plain_time(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()


def _tell(tell: Tell, progress: Progress, seconds: float) -> None:
    rate = (progress.rows - progress.kept) / max(0.001, seconds)
    tell(
        progress.rows / max(1, progress.total),
        f"{progress.where}, {progress.rows:,} of {progress.total:,} rows, {rate:,.0f}/s",
    )


def _describe(manifest: Manifest, to: Path, seconds: float, *, as_json: bool) -> None:
    size = total_bytes(manifest.files)
    unproven = sorted(
        flow
        for flow, standing in manifest.coverage.items()
        if flow in manifest.flows and (standing["missing"] or not standing["proven"])
    )
    if as_json:
        click.echo(
            json.dumps(
                {
                    "to": str(to),
                    "rows": manifest.rows,
                    "flows": len(manifest.flows),
                    "files": len(manifest.files),
                    "bytes": size,
                    "unproven_flows": unproven,
                    "seconds": round(seconds, 3),
                }
            )
        )
        return
    click.echo(
        f"{counted(manifest.rows, 'row')} of {counted(len(manifest.flows), 'flow')} in "
        f"{counted(len(manifest.files), 'file')}, {size:,} bytes: {make_safe(str(to))}"
    )
    if unproven:
        click.echo(
            f"not all that was said in {counted(len(unproven), 'flow')} is proven to be in the "
            "archive: manifest.json tells which ids"
        )
    click.echo(f"{seconds:,.1f} s, {manifest.rows / max(0.001, seconds):,.0f} rows/s")


def _check(export: Path, *, as_json: bool) -> int:
    manifest = read_manifest(export)
    good: list[File] = []
    findings = []
    size = max(1, total_bytes(manifest.files))
    with shown_progress(quiet=as_json) as tell:
        for found in check(export, manifest):
            if isinstance(found, File):
                good.append(found)
                tell(total_bytes(good) / size, found.path)
            else:
                findings.append(found)
    if as_json:
        told: dict[str, Any] = {
            "files": len(manifest.files),
            "bytes": total_bytes(good),
            "findings": [{"file": one.path, "trouble": one.trouble} for one in findings],
        }
        click.echo(json.dumps(told))
    else:
        _tell_findings([f"{one.path}: {one.trouble}" for one in findings], len(manifest.files))
    return 1 if findings else 0


def _tell_findings(findings: Sequence[str], files: int) -> None:
    for told in findings[:TOLD_FINDINGS]:
        click.echo(make_safe(told))
    if len(findings) > TOLD_FINDINGS:
        click.echo(f"… and {len(findings) - TOLD_FINDINGS:,} more")
    verdict = f"{counted(len(findings), 'finding')}" if findings else "all as the manifest says"
    click.echo(f"{counted(files, 'file')}: {verdict}")
