"""The import of another archive's journal, as ``archiver export --events`` wrote it."""

import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

from archiver import daemon
from archiver.cli.progress import Tell
from archiver.errors import ArchiverError
from archiver.export.folder import MANIFEST, digest_in
from archiver.export.lines import KEPT
from archiver.export.manifest import Finding, Manifest, check, opened, read_manifest
from archiver.flowdock.client import LIMITS
from archiver.flowdock.official import NO_ZIP, refuse_dangerous
from archiver.ingest.importing import Imported
from archiver.ingest.journal_lines import Line, read_claims
from archiver.ingest.restoring import (
    Content,
    restore_claims,
    restore_directory,
    restore_events,
    restore_files,
    restore_rejects,
)
from archiver.store.connection import Engine

CHECK_SHARE = 0.1
"""The share of the time that it takes to compare the files with the manifest."""
LONGEST_LINE_BYTES = 2 * LIMITS.body_bytes + 1_000_000
"""A byte of what was received takes at most two: escaped in a text, or as hexadecimal digits."""

Count = Callable[[Imported], None]
"""Called with what became of each part."""


def is_own(path: Path) -> bool:
    """Tell whether *path* is an export that the archiver made.

    Raises:
        ArchiverError: it is a dangerous zip.
    """
    try:
        if path.is_dir():
            return (path / MANIFEST).is_file()
        if not path.is_file():
            return False  # opening a pipe waits until somebody writes into it
        with zipfile.ZipFile(path) as packed:
            entries = packed.infolist()
    except (OSError, *NO_ZIP):
        return False
    if all(entry.filename != MANIFEST for entry in entries):
        return False
    for entry in entries:
        refuse_dangerous(path, entry)
    return True


def require_journal(path: Path) -> Manifest:
    """The manifest of an export that can be imported.

    Raises:
        ArchiverError: it is an export of messages, without their journal, or not complete.
    """
    manifest = read_manifest(path)
    missing = {"flows.jsonl", "users.jsonl", "rejects.jsonl"} - {one.path for one in manifest.files}
    if manifest.arguments.get("events") and missing:
        raise ArchiverError(f"{path}: its {MANIFEST} does not name {min(missing)}")
    if not manifest.arguments.get("events"):
        raise ArchiverError(
            f"{path} has only messages, without the events that made them: "
            "export it with archiver export --events"
        )
    return manifest


async def restore(
    engine: Engine, path: Path, manifest: Manifest, count: Count, tell: Tell
) -> Imported:
    """Archive an export of a journal, after checking that all its files are as the manifest says.

    Raises:
        ArchiverError: a file is not; nothing is archived then.
    """
    try:
        claims = read_claims(manifest.coverage)
    except ArchiverError as error:
        raise ArchiverError(f"{path}: its {MANIFEST}: {error}") from error
    for found in check(path, manifest):
        if isinstance(found, Finding):
            raise ArchiverError(f"{path}: {found.path}: {found.trouble}")
        tell(0.0, f"checking {found.path}")
    now = daemon.utc_now()
    imported = Imported()
    with opened(path) as read:
        lines = partial(_lines, path, read)
        keys = await restore_directory(engine, lines("flows.jsonl"), lines("users.jsonl"))
        if strange := claims.keys() - keys.keys():
            raise ArchiverError(
                f"{path}: its {MANIFEST} names {min(strange)}, but flows.jsonl does not"
            )
        for file in manifest.files:
            if not file.path.startswith("events/"):
                continue
            async for step in restore_events(engine, lines(file.path), keys, now=now):
                imported += step
                count(step)
                share = imported.read / max(1, manifest.rows)
                tell(
                    CHECK_SHARE + (1 - CHECK_SHARE) * share,
                    f"{file.path}, {imported.read:,} of {manifest.rows:,} events",
                )
        await restore_rejects(engine, lines("rejects.jsonl"), now=now)
        named = lines(KEPT) if KEPT in {file.path for file in manifest.files} else ()
        size = 0
        async for length in restore_files(engine, named, keys, _contents(manifest, read)):
            size += length
            tell(1.0, f"contents of files, {size:,} bytes")
    if manifest.arguments.get("since") is None and manifest.arguments.get("until") is None:
        lacking = imported.lacking
        await restore_claims(engine, claims, keys, lacking=lacking, now=now)
    return imported


def _lines(path: Path, read: Callable[[str], IO[bytes]], name: str) -> Iterator[Line]:
    """The lines of a file of the export; one that is too long is refused."""
    with read(name) as source:
        number = 0
        while text := source.readline(LONGEST_LINE_BYTES + 1):
            number += 1
            place = f"{path}: {name}, line {number:,}"
            if len(text) > LONGEST_LINE_BYTES:
                raise ArchiverError(f"{place}: the line is too long")
            yield Line(text, place)


def _contents(manifest: Manifest, read: Callable[[str], IO[bytes]]) -> dict[str, Content]:
    """The contents of files, by digest; they have been compared with the manifest before."""
    return {
        file.sha256: Content(file.size_bytes, partial(read, file.path))
        for file in manifest.files
        if digest_in(file.path) == file.sha256
    }
