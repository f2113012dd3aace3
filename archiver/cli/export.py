"""``archiver export``: write what the archive holds to files for people and other programs."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from msgspec import UNSET, Struct, to_builtins
from msgspec.structs import replace

from archiver.cli.choice import choose_flows
from archiver.cli.configuration import LoadSettings
from archiver.cli.database import Place, open_database, require_archive, serve_database
from archiver.cli.export_checking import check_export
from archiver.cli.measures import (
    NAMED,
    describe_not_heard,
    describe_not_measured,
    describe_not_told,
    flows_and_reasons,
)
from archiver.cli.moments import parse as moment
from archiver.cli.moments import refusal
from archiver.cli.options import FileName, refuse_beside
from archiver.cli.progress import Tell, shown_progress
from archiver.cli.searching.finding import refresh
from archiver.cli.searching.misspelling import misspelt_filters
from archiver.cli.stopping import report_when_stopped
from archiver.cli.tables import counted, first_of
from archiver.cli.terminal import make_safe
from archiver.domain.query import Filter, Query
from archiver.domain.query_parsing import parse
from archiver.domain.query_time import Calendar, read_moment
from archiver.errors import ArchiverError
from archiver.export.book import asked_before
from archiver.export.folder import has_left, partial_of
from archiver.export.manifest import Manifest, NamedFiles
from archiver.export.reading import Progress
from archiver.export.writing import Format, total_bytes, write_export
from archiver.store.exporting_choice import Selection
from archiver.store.search_meaning import leaves

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
BYTES_OF_A_ROW = 1_000
"""This many bytes of files take about as long as one row."""
CHOOSING = ("words", "patterns", "since", "until", "as_of")
"""The parameters that choose messages."""


class Order(Struct, frozen=True, kw_only=True):
    """An export that was requested."""

    style: Format
    chosen: Selection
    """Still without flows, which are read from the archive."""
    patterns: Sequence[str]
    """Patterns of flows."""
    to: Path
    arguments: Mapping[str, Any]
    """As the manifest states them."""
    language: str
    """The language of the search, for an archive that was never made searchable."""


class Course:
    """How far a run has come, and how long it has taken."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.is_begun = False
        """Whether it has written anything, or found it written."""

    @property
    def seconds(self) -> float:
        """The time since it began."""
        return time.monotonic() - self._began

    def tell(self, tell: Tell, progress: Progress) -> None:
        """Show *progress* to people, by *tell*."""
        self.is_begun = True
        done = progress.rows + progress.bytes / BYTES_OF_A_ROW
        total = progress.total + progress.total_bytes / BYTES_OF_A_ROW
        if progress.bytes:
            where = f"contents of files, {progress.bytes:,} of {progress.total_bytes:,} bytes"
        else:
            rate = (progress.rows - progress.kept) / max(0.001, self.seconds)
            rows = f"{progress.rows:,} of {progress.total:,} rows"
            where = f"{progress.where}, {rows}, {rate:,.0f}/s"
        tell(done / max(1, total), where)


@click.command
@click.argument("to", metavar="DIR", type=FileName())
@click.argument("words", type=click.UNPROCESSED, metavar="[QUERY]", nargs=-1)
@click.option(
    "--format", "style", type=click.Choice(list(FORMATS)), default="jsonl", show_default=True
)
@click.option("--events", is_flag=True, help="All events as received, for archiver import.")
@click.option("--files", is_flag=True, help="Also what files hold, as far as it is archived.")
@click.option(
    "--flow", "patterns", multiple=True, metavar="PATTERN", help="Only flows like this: 'acme/*'."
)
@click.option("--since", metavar="WHEN", help="Sent then or later: 30d, or a date.")
@click.option("--until", metavar="WHEN", help="Sent before then.")
@click.option("--as-of", metavar="WHEN", help="Messages as their flows showed them then.")
@click.option(
    "--check", "checked", is_flag=True, help="Write nothing; compare DIR with its manifest."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.pass_obj
def export(
    load: LoadSettings,
    /,
    *,
    to: Path,
    words: tuple[str, ...],
    style: str,
    events: bool,
    files: bool,
    patterns: tuple[str, ...],
    since: str | None,
    until: str | None,
    as_of: str | None,
    checked: bool,
    as_json: bool,
) -> int:
    """Write messages to files, as they are at one moment.

    DIR is a directory, new or empty, or NAME.zip. QUERY selects messages as in archiver search, but
    with times in UTC; without it, all are written.

    DIR appears only when it is complete. After an interruption, the same command goes on where the
    export was. manifest.json says what the export holds, what of that the archive had proven, and
    the SHA-256 of each file; --check compares an export with it.

    --files also writes the files that these messages name, as files/SHA-256/NAME, and counts those
    that are not in the archive.

    Exit status of --check: 0 when all is as the manifest says, 1 when it is not.
    """
    if checked:
        refuse_beside("--check compares everything in DIR", *CHOOSING, "style", "events", "files")
        return check_export(to, as_json=as_json)
    if events:
        other_style = () if style == "jsonl" else ("style",)
        reason = "--events is the journal as it was received, in jsonl"
        refuse_beside(reason, "words", "as_of", *other_style)
    asked_at = asked_before(partial_of(to)) or datetime.now(UTC)
    chosen = Selection(
        flows=(),
        since=_moment("--since", since, asked_at),
        until=_moment("--until", until, asked_at),
        as_of=_moment("--as-of", as_of, asked_at),
        query=parse(" ".join(words)) if words else None,
        asked_at=asked_at,
        files=files,
    )
    if chosen.since and chosen.until and chosen.since >= chosen.until:
        raise click.UsageError("--since must be before --until: nothing was sent between them")
    written = _format(EVENTS if events else FORMATS[style])
    settings = load()
    require_archive(settings)
    order = Order(
        style=written,
        chosen=chosen,
        patterns=patterns,
        to=to,
        arguments={"format": style, "events": events, **_arguments(chosen, patterns)},
        language=settings.search.language,
    )
    for told in misspelt_filters(chosen.query) if chosen.query else ():
        click.echo(make_safe(told), err=True)
    course = Course()
    with (
        report_when_stopped(partial(_left, to, course)),
        serve_database(settings) as place,
        shown_progress(quiet=as_json) as tell,
    ):
        manifest = asyncio.run(_run(place, order, partial(course.tell, tell)))
    if as_json:
        click.echo(json.dumps(_summary(manifest, to, course.seconds)))
    else:
        _describe(manifest, to, course.seconds)
    return 0


async def _run(place: Place, order: Order, tell: Callable[[Progress], None]) -> Manifest:
    async with open_database(place) as engine:
        if order.chosen.query is not None:
            await refresh(engine, language=order.language)
        async with engine.connect() as tx:
            flows = await choose_flows(tx, order.patterns)
        return await write_export(
            engine,
            order.style,
            replace(order.chosen, flows=tuple(sorted(flows.values()))),
            order.to,
            arguments=order.arguments,
            version=version("flowdock-archiver"),
            tell=tell,
        )


def _left(to: Path, course: Course) -> Iterator[str]:
    """What an interrupted run has left."""
    if not course.is_begun:
        return
    if has_left(to):
        yield f"{to} is complete; {partial_of(to)} is left over from writing it: remove it"
    elif partial_of(to).exists():
        kept = f"what is finished is kept in {partial_of(to)}"
        yield f"{kept}; run the same command again to continue"


def _moment(option: str, told: str | None, now: datetime) -> datetime | None:
    if told is None:
        return None
    try:
        return moment(told, now=now)
    except (ValueError, OverflowError) as error:
        raise click.UsageError(f"{option}: {refusal(told)}") from error


def _arguments(chosen: Selection, patterns: Sequence[str]) -> dict[str, Any]:
    """The arguments for the manifest, with the time of the run only if the query depends on it."""
    told: dict[str, Any] = {
        "flows": list(patterns),
        "since": _plain_time(chosen.since),
        "until": _plain_time(chosen.until),
        "as_of": _plain_time(chosen.as_of),
        "query": chosen.query and chosen.query.source,
    }
    if chosen.files:
        told["files"] = True
    if chosen.query is not None and _counts_back(chosen.query):
        told["asked_at"] = _plain_time(chosen.asked_at)
    return told


def _counts_back(query: Query) -> bool:
    """Tell whether a time in *query*, as 30d, depends on when the query is asked."""
    times = (
        read_moment(leaf.value)
        for leaf in leaves(query.root)
        if isinstance(leaf, Filter) and leaf.name in {"before", "after", "on"}
    )
    return any(not isinstance(one, Calendar) for one in times)


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


def _unproven(manifest: Manifest) -> list[str]:
    """The flows that are not proven to be archived completely."""
    return sorted(
        flow
        for flow, standing in manifest.coverage.items()
        if flow in manifest.flows and (standing["missing"] or not standing["proven"])
    )


def _summary(manifest: Manifest, to: Path, seconds: float) -> dict[str, Any]:
    named = manifest.named_files
    files = {} if named is UNSET else {"named_files": to_builtins(named)}
    return {
        "to": str(to),
        "rows": manifest.rows,
        "flows": len(manifest.flows),
        "files": len(manifest.files),
        "bytes": total_bytes(manifest.files),
        **files,
        "unproven_flows": _unproven(manifest),
        "not_heard": manifest.not_heard,
        "not_told": flows_and_reasons(manifest.not_told),
        "not_measured": list(manifest.not_measured),
        "left_out": manifest.left_out,
        "seconds": round(seconds, 3),
    }


def _describe(manifest: Manifest, to: Path, seconds: float) -> None:
    click.echo(
        f"{counted(manifest.rows, 'row')} of {counted(len(manifest.flows), 'flow')} in "
        f"{counted(len(manifest.files), 'file')}, {total_bytes(manifest.files):,} bytes: "
        f"{make_safe(str(to))}"
    )
    if manifest.named_files is not UNSET:
        _describe_files(manifest.named_files)
    for told in manifest.left_out:
        click.echo(make_safe(f"left out: {told}"))
    if unproven := _unproven(manifest):
        click.echo(
            f"not proven to be complete in the archive: {counted(len(unproven), 'flow')}; "
            "manifest.json has the ids"
        )
    if manifest.not_heard:
        click.echo(describe_not_heard(manifest.not_heard))
    unknown = [
        *(describe_not_told(*one) for one in sorted(manifest.not_told.items())),
        *(describe_not_measured(*one) for one in sorted(manifest.not_measured.items())),
    ]
    for told in first_of(unknown, NAMED, more="more such flows: manifest.json names them"):
        click.echo(told)
    if manifest.rows:
        click.echo(f"{seconds:,.1f} s, {manifest.rows / max(0.001, seconds):,.0f} rows/s")
    else:
        click.echo("nothing was found")


def _describe_files(named: NamedFiles) -> None:
    held = f"{named.kept:,} of {counted(named.named, 'file')} that messages name"
    click.echo(f"{held}, {named.bytes:,} bytes in {counted(named.contents, 'content')}")
    if missing := named.named - named.kept:
        click.echo(
            f"not in the archive: {counted(missing, 'file')} that messages name, of "
            f"{counted(len(named.not_kept), 'flow')}; archive.attachments says which, and why"
        )
