"""An export from beginning to end: the parts, the summary, the manifest.

A format writes each part, and at the end a summary of all. An interrupted run can be resumed: parts
of which no row has changed since they were written are kept, and the others are written again. So
the finished export shows one moment, the one in which the last run began.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol

from msgspec import UNSET

from archiver.domain.query import show
from archiver.errors import Corruption
from archiver.export.book import File, Heading, Unit
from archiver.export.files import Content, find_files, write_content
from archiver.export.folder import Folder, Shelf, opened
from archiver.export.manifest import Manifest
from archiver.export.reading import Reading, Tally, Tell
from archiver.store import exporting, files, leases, search_queue
from archiver.store.connection import Engine, Transaction
from archiver.store.directory import flow_paths
from archiver.store.exporting import Table
from archiver.store.exporting_choice import Part, Selection, Subject, settled
from archiver.store.exporting_files import NamedFile

LARGE = 20_000
"""Number of rows from which a second connection is worth opening."""
SUMMARY = "summary"
"""The name of the unit of files that concern all parts."""
CONTENT = "file "
"""Prefix of the name of a unit for the contents of a file; their digest follows."""


class Format(Protocol):
    """How an export is written."""

    subject: Subject
    by_month: bool
    """Whether a part is a month of a flow; else it is a flow."""
    tables: tuple[Table, ...]
    """The tables from which its parts are made; a part is outdated if one of its rows is newer."""
    omits: str
    """In words: the messages that it has no place for, if these are `exporting.untold`."""

    def place(self, file: NamedFile) -> str | None:
        """The path for the contents of *file*; None if it has no place for the message."""

    async def write_part(self, reading: Reading, part: Part, shelf: Shelf) -> int:
        """Write the files of one part; returns how many rows it had."""

    async def write_summary(self, reading: Reading, shelf: Shelf) -> None:
        """Write the files that concern all parts."""


async def write_export(
    engine: Engine,
    style: Format,
    chosen: Selection,
    to: Path,
    *,
    arguments: Mapping[str, Any],
    version: str,
    tell: Tell,
) -> Manifest:
    """Write an export, or finish one that was interrupted.

    Raises:
        ArchiverError: *to* exists already, the disk is full, or the query names something that the
            archive does not know.
    """
    async with exporting.moment(engine) as tx:
        names = await exporting.names_digest(tx)
        chosen = await settled(tx, chosen)
        heading = Heading(
            arguments={**arguments, "version": version},
            names=names,
            database=await exporting.database(tx),
            asked_at=chosen.asked_at,
        )
        with opened(to, heading) as folder:
            parts = await exporting.parts(tx, style.subject, chosen)
            await exporting.read_by_index(tx)
            if not style.by_month:
                parts = exporting.whole_flows(parts)
            found = None
            if chosen.files:
                found = await find_files(tx, chosen, style.place, by_month=style.by_month)
            size = found.size_bytes if found else 0
            tally = Tally(sum(part.rows for part in parts), tell, total_bytes=size)
            reading = Reading(tx, chosen, parts, tally, found)
            await _write(engine, reading, style, folder)
            ends = await exporting.unknown_ends(tx, chosen.flows)
            manifest = Manifest(
                version=version,
                arguments=arguments,
                as_of=None if chosen.as_of is None else chosen.as_of.isoformat(),
                rows=sum(part.rows for part in parts),
                flows=_by_flow(parts),
                files=folder.files,
                coverage=await exporting.coverage(tx, chosen.flows),
                not_heard=leases.unheard_among(chosen.flows, await leases.reports(tx)),
                not_told=ends.untold,
                not_measured=ends.unmeasured,
                named_files=found.counted() if found else UNSET,
                left_out=await _left_out(tx, chosen, style),
            )
            folder.finish(manifest.encode())
    return manifest


async def _write(engine: Engine, reading: Reading, style: Format, folder: Folder) -> None:
    await _drop_outdated(reading, style, folder)
    missing = []
    for part in reading.parts:
        if part.name in folder.units:
            reading.tally.keep(part)
        else:
            missing.append(part)
    seen_at = await exporting.snapshot(reading.tx)
    waiting = iter(missing)

    async def work(reading: Reading) -> None:
        for part in waiting:
            reading.tally.tell(part)
            with folder.unit(part.name, seen_at=seen_at) as shelf:
                shelf.unit.mark = _mark(reading, part)
                shelf.unit.rows = await style.write_part(reading, part, shelf)
                _require_whole(part, shelf.unit.rows)
            reading.tally.tell(part)

    if len(missing) > 1 and sum(part.rows for part in missing) >= LARGE:
        async with exporting.same_moment(engine, reading.tx) as other:
            if other is None:
                await work(reading)
            else:
                await exporting.read_by_index(other)
                await _side_by_side(work(reading), work(reading.through(other)))
    else:
        await work(reading)
    await _write_contents(reading, folder, seen_at)
    with folder.unit(SUMMARY, seen_at=seen_at) as shelf:
        await style.write_summary(reading, shelf)


def _require_whole(part: Part, rows: int) -> None:
    """Make sure that a format was given all that the manifest will count.

    Raises:
        Corruption: it was given more or less, though both were read from one moment.
    """
    if rows != part.rows:
        raise Corruption(f"of {part.name}, {part.rows} rows were counted, but {rows} were read")


async def _drop_outdated(reading: Reading, style: Format, folder: Folder) -> None:
    wanted = {part.name: part for part in reading.parts}
    contents = reading.files.contents if reading.files else {}
    for name, unit in list(folder.units.items()):
        if name in wanted:
            is_current = await _is_current(reading, style, folder, wanted[name])
        else:
            is_current = _is_kept(contents.get(name.removeprefix(CONTENT)), unit)
        if not is_current:
            folder.drop(name)


async def _write_contents(reading: Reading, folder: Folder, seen_at: str) -> None:
    contents = reading.files.contents if reading.files else {}
    count = reading.tally.count_bytes
    for digest, content in contents.items():
        if (name := f"{CONTENT}{digest}") in folder.units:
            count(content.size_bytes or 0, content.path)
            continue
        with folder.unit(name, seen_at=seen_at) as shelf:
            await write_content(reading.tx, digest, content, shelf, count)


async def _side_by_side(*works: Coroutine[Any, Any, None]) -> None:
    """Run *works* concurrently: while one waits for Postgres, the others go on."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _is_current(reading: Reading, style: Format, folder: Folder, part: Part) -> bool:
    unit = folder.units[part.name]
    if unit.rows != part.rows or unit.mark != _mark(reading, part):
        return False
    of_query: tuple[Table, ...] = ("texts",) if reading.chosen.query else ()
    of_past: tuple[Table, ...] = ("revisions",) if reading.chosen.as_of else ()
    tables = [*dict.fromkeys(style.tables + of_query + of_past)]
    for table in tables:
        if await exporting.has_changed(reading.tx, table, part, since=unit.seen_at):
            return False
    return True


def _mark(reading: Reading, part: Part) -> str:
    return reading.files.marks.get(part.name, "") if reading.files else ""


def _is_kept(content: Content | None, unit: Unit) -> bool:
    """Tell whether *unit* has contents that are still wanted, and under the same path."""
    return content is not None and [file.path for file in unit.files] == [content.path]


async def _left_out(tx: Transaction, chosen: Selection, style: Format) -> list[str]:
    """In words: what the archive has of the chosen flows, but the export leaves out."""
    told = []
    if style.subject == "events" and not chosen.files:
        keys = [key for key, path in (await flow_paths(tx)).items() if path in chosen.flows]
        if kept := (await files.counts(tx, keys)).kept:
            told.append(f"the contents of {kept:,} archived files: --files writes them, too")
    if chosen.query is not None:
        told.append(f"messages that the query does not match: {show(chosen.query)}")
        waiting = await search_queue.backlog(tx)
        if waiting.changes or waiting.flows:
            count = f"{waiting.changes:,} messages, and earlier ones of {waiting.flows:,} flows"
            told.append(f"messages that were not searchable yet: {count}")
    if chosen.since is not None:
        told.append(f"what was sent before {chosen.since.isoformat()}, or has no time")
    if chosen.until is not None:
        told.append(f"what was sent from {chosen.until.isoformat()} on, or has no time")
    if chosen.as_of is not None:
        told.append(f"what came after {chosen.as_of.isoformat()}, or has no time")
    if style.omits and (rows := await exporting.untold(tx, chosen)):
        told.append(f"{rows:,} of the rows: {style.omits}")
    return told


def _by_flow(parts: list[Part]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for part in parts:
        rows[part.flow] = rows.get(part.flow, 0) + part.rows
    return rows


def total_bytes(files: list[File]) -> int:
    """The total size of *files*."""
    return sum(file.size_bytes for file in files)
