"""The book: the progress file of an unfinished export, from which an interrupted run resumes.

The first line describes the export. Each further line records a finished unit of work: its files,
with their sizes and digests. If a unit has several lines, the last one counts. Files that no line
names are not finished, and are removed when the export resumes.
"""

import fcntl
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec import Struct

from archiver.errors import ArchiverError

BOOK = ".progress.jsonl"
DAMAGED = (msgspec.DecodeError, UnicodeDecodeError)
"""What decoding a damaged line may raise."""


class File(Struct, frozen=True, kw_only=True):
    """A file that is complete."""

    path: str
    """Relative to the folder, with forward slashes."""
    size_bytes: int
    sha256: str


class Unit(Struct, kw_only=True):
    """A unit of work: files that are finished together."""

    name: str
    rows: int = 0
    files: list[File] = []
    seen_at: str = ""
    """The snapshot of the archive that it shows, as `exporting.snapshot` names it."""
    mark: str = ""
    """A digest of the files that its messages name, and of their paths; empty without any."""


class Heading(Struct, frozen=True, kw_only=True):
    """The first line of a book."""

    arguments: Mapping[str, Any]
    names: str
    """The digest of all names of people and flows: if it has changed, no unit is kept."""
    database: str = ""
    """Which database it is, as `exporting.database` names it: of another one, no unit is kept."""
    asked_at: datetime | None = None
    """The time from which times like 30d count back; the same for all runs."""


def is_own(home: Path) -> bool:
    """Tell whether *home*, and what it links to, belongs to this user."""
    return {home.lstat().st_uid, home.stat().st_uid} == {os.geteuid()}


def asked_before(home: Path) -> datetime | None:
    """When the unfinished export in *home* was first requested; None if there is none of ours."""
    try:
        if not is_own(home):  # its book may be a pipe, which is waited for, or have no end
            return None
        with (home / BOOK).open("rb") as book:
            return msgspec.json.decode(book.readline(), type=Heading).asked_at
    except (OSError, *DAMAGED):
        return None


def lock(book: IO[bytes], home: Path) -> None:
    """Lock the book against other runs for as long as it is open.

    Raises:
        ArchiverError: another run has locked it.
    """
    try:
        fcntl.flock(book, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ArchiverError(f"another export is writing to {home}: wait until it ends") from error


def read_book(book: IO[bytes], heading: Heading, home: Path) -> dict[str, Unit]:
    """The units that an interrupted run finished and whose files are still there.

    Raises:
        ArchiverError: *home* is not the folder of an unfinished export, or of one with other
            arguments, or its book is damaged.
    """
    book.seek(0)
    # A kill may have cut the last line short: only lines with an end count.
    first, *more = book.read().rpartition(b"\n")[0].split(b"\n")
    if not first:
        if any(one.name != BOOK for one in home.iterdir()):
            raise ArchiverError(
                f"{home} is not an unfinished export: remove it, or choose another name"
            )
        return {}
    try:
        before = msgspec.json.decode(first, type=Heading)
        units = [msgspec.json.decode(line, type=Unit) for line in more]
    except DAMAGED as error:
        raise ArchiverError(f"{home / BOOK} is damaged: remove {home} and start again") from error
    if msgspec.json.encode(before, order="sorted") != msgspec.json.encode(
        msgspec.structs.replace(
            heading, names=before.names, database=before.database, asked_at=before.asked_at
        ),
        order="sorted",
    ):
        raise ArchiverError(
            f"{home} is an unfinished export with other arguments: repeat the command with those, "
            "or remove it"
        )
    if (before.names, before.database) != (heading.names, heading.database):
        return {}
    newest = {unit.name: unit for unit in units}
    return {name: unit for name, unit in newest.items() if _is_there(unit, home)}


def _is_there(unit: Unit, home: Path) -> bool:
    return all(
        (home / file.path).is_file() and (home / file.path).stat().st_size == file.size_bytes
        for file in unit.files
    )


def go_on(book: IO[bytes], heading: Heading, units: Mapping[str, Unit]) -> None:
    """Prepare the book for more units; a kill in the middle of it loses none of *units*."""
    if units:
        book.seek(0)
        book.truncate(book.read().rfind(b"\n") + 1)
    else:
        book.truncate(0)
        book.write(msgspec.json.encode(heading) + b"\n")
        book.flush()


def tidy(home: Path, units: Mapping[str, Unit]) -> None:
    """Remove files that no finished unit names, and directories that are empty."""
    named = {file.path for unit in units.values() for file in unit.files} | {BOOK}
    for place in sorted(home.rglob("*"), reverse=True):
        if place.is_dir() and not place.is_symlink():
            if next(place.iterdir(), None) is None:
                place.rmdir()
        elif place.relative_to(home).as_posix() not in named:
            place.unlink()
