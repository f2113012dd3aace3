"""An export from beginning to end: parts into files, a manifest, a name.

A format writes each part, and at the end what is about all parts. A run that was interrupted is
taken up: parts of which no row has changed since they were written are kept, the others are
written anew, so that in the end all is of one moment: the one in which the last run began.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from msgspec import Struct

from archiver.domain.query import show
from archiver.export.book import File, Heading
from archiver.export.folder import Folder, opened
from archiver.export.manifest import Manifest
from archiver.store import exporting, search_queue
from archiver.store.engine import Engine, Transaction
from archiver.store.exporting import Table
from archiver.store.exporting_choice import Part, Selection, Subject, settled

LONGEST_NAME = 120
TOLD_ROWS = 5_000
SUMMARY = "summary"
"""The unit of what is about all parts."""
TABLES: Mapping[Subject, tuple[Table, ...]] = {"messages": ("messages",), "events": ("journal",)}
"""Where a row that an export was made of is written."""


class Progress(Struct, frozen=True, kw_only=True):
    """How far an export has come."""

    rows: int
    total: int
    where: str
    kept: int = 0
    """Of the rows, those that an interrupted run had written."""


Tell = Callable[[Progress], None]


class Format(Protocol):
    """How an export is written."""

    subject: Subject
    by_month: bool
    """Whether a part is a month of a flow; else it is a flow."""

    async def write_part(self, reading: "Reading", part: Part, folder: Folder) -> int:
        """Write the files of one part; returns how many rows it had."""

    async def write_summary(self, reading: "Reading", folder: Folder) -> None:
        """Write what is about all parts."""


class Reading:
    """What is read, and in which transaction."""

    def __init__(
        self,
        tx: Transaction,
        chosen: Selection,
        parts: list[Part],
        tell: Tell,
    ) -> None:
        self.tx = tx
        self.chosen = chosen
        self.parts = parts
        self._tell = tell
        self._rows = 0
        self._kept = 0
        self._told = 0
        self._total = sum(part.rows for part in parts)

    def keep(self, part: Part) -> None:
        """Count a part that is written already."""
        self._rows += part.rows
        self._kept += part.rows

    def count(self, rows: int, part: Part) -> None:
        """Count rows that were written; now and then, tell."""
        self._rows += rows
        self._told += rows
        if self._told >= TOLD_ROWS:
            self.tell(part)

    def tell(self, part: Part) -> None:
        """Tell how far it has come."""
        self._told = 0
        self._tell(Progress(rows=self._rows, total=self._total, where=part.name, kept=self._kept))


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
        ArchiverError: there is something at *to*, or no room for it; or the query names what the
            archive does not know.
    """
    async with exporting.moment(engine) as tx:
        names = await exporting.names_digest(tx)
        chosen = await settled(tx, chosen)
        heading = Heading(
            arguments={**arguments, "version": version}, names=names, asked_at=chosen.asked_at
        )
        with opened(to, heading) as folder:
            parts = await exporting.parts(tx, style.subject, chosen)
            await exporting.read_by_index(tx)
            if not style.by_month:
                parts = exporting.whole_flows(parts)
            reading = Reading(tx, chosen, parts, tell)
            await _write(reading, style, folder, seen_at=await exporting.snapshot(tx))
            manifest = Manifest(
                version=version,
                arguments=arguments,
                as_of=None if chosen.as_of is None else chosen.as_of.isoformat(),
                rows=sum(part.rows for part in parts),
                flows=_by_flow(parts),
                files=folder.files,
                coverage=await exporting.coverage(tx, chosen.flows),
                left_out=await _left_out(tx, chosen),
            )
            folder.finish(manifest.encode())
    return manifest


async def _write(reading: Reading, style: Format, folder: Folder, *, seen_at: str) -> None:
    wanted = {part.name: part for part in reading.parts}
    for name in list(folder.units):
        if name not in wanted or not await _is_current(reading, style, folder, wanted[name]):
            folder.drop(name)
    for part in reading.parts:
        if part.name in folder.units:
            reading.keep(part)
            continue
        with folder.unit(part.name, seen_at=seen_at) as unit:
            unit.rows = await style.write_part(reading, part, folder)
        reading.tell(part)
    with folder.unit(SUMMARY, seen_at=seen_at):
        await style.write_summary(reading, folder)


async def _is_current(reading: Reading, style: Format, folder: Folder, part: Part) -> bool:
    unit = folder.units[part.name]
    if unit.rows != part.rows:
        return False
    tables = TABLES[style.subject] + (("texts",) if reading.chosen.query else ())
    for table in tables:
        if await exporting.has_changed(reading.tx, table, part, since=unit.seen_at):
            return False
    return True


async def _left_out(tx: Transaction, chosen: Selection) -> list[str]:
    """What of its flows an export does not hold, though the archive does; in words."""
    told = []
    if chosen.query is not None:
        told.append(f"messages that the query does not choose: {show(chosen.query)}")
        waiting = await search_queue.backlog(tx)
        if waiting.changes or waiting.flows:
            count = f"{waiting.changes:,} messages, and earlier ones of {waiting.flows:,} flows"
            told.append(f"what was not searchable yet: {count}")
    if chosen.since is not None:
        told.append(f"what was sent before {chosen.since.isoformat()}, or tells no time")
    if chosen.until is not None:
        told.append(f"what was sent from {chosen.until.isoformat()} on, or tells no time")
    if chosen.as_of is not None:
        told.append(f"what came after {chosen.as_of.isoformat()}, or tells no time")
    return told


def _by_flow(parts: list[Part]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for part in parts:
        rows[part.flow] = rows.get(part.flow, 0) + part.rows
    return rows


def path_of(flow: str) -> str:
    """*flow* as a path in an export: letters that a file system may not take are escaped."""
    return "/".join(map(safe_name, flow.split("/")))


def safe_name(name: str) -> str:
    """*name* as the name of one file."""
    escaped = quote(name, safe="-_~ ()+,=@")
    if escaped.strip(".") == "":
        escaped = escaped.replace(".", "%2E")
    if len(escaped) <= LONGEST_NAME:
        return escaped
    return f"{escaped[: LONGEST_NAME - 20]}~{sha256(name.encode()).hexdigest()[:16]}"


def total_bytes(files: list[File]) -> int:
    """How large *files* are together."""
    return sum(file.size_bytes for file in files)
