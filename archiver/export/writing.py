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

from archiver.export.folder import File, Folder, opened
from archiver.export.manifest import Manifest
from archiver.store import exporting
from archiver.store.engine import Engine, Transaction
from archiver.store.exporting import Part, Selection, Subject

LONGEST_NAME = 120
TOLD_ROWS = 5_000
SUMMARY = "summary"
"""The unit of what is about all parts."""


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
        ArchiverError: there is something at *to*, or no room for it.
    """
    async with exporting.moment(engine) as tx:
        names = await exporting.names_digest(tx)
        with opened(to, {**arguments, "version": version}, names=names) as folder:
            parts = await exporting.parts(tx, style.subject, chosen)
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
    return unit.rows == part.rows and not await exporting.has_changed(
        reading.tx, style.subject, part, since=unit.seen_at
    )


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
