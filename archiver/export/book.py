"""The book of an export that is being written: what is finished, so that a kill costs no more.

Its first line tells what the export is; each line after it is a unit of work, its files with their
sizes and digests; of several lines of one unit the last counts. What no line names is not finished,
and is removed.
"""

import fcntl
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec import Struct

from archiver.errors import ArchiverError

BOOK = ".progress.jsonl"


class File(Struct, frozen=True, kw_only=True):
    """A file that is complete."""

    path: str
    """In the folder, with slashes."""
    size_bytes: int
    sha256: str


class Unit(Struct, kw_only=True):
    """A unit of work: files that are finished together."""

    name: str
    rows: int = 0
    files: list[File] = []
    seen_at: str = ""
    """The moment of the archive that it shows."""
    mark: str = ""
    """Which files its messages name, and where these lie; nothing without any."""


class Heading(Struct, frozen=True, kw_only=True):
    """The first line of a book."""

    arguments: Mapping[str, Any]
    names: str
    """The digest of the names in the archive: if these have changed, nothing is kept."""
    asked_at: datetime | None = None
    """What times like 30d are counted back from, the same for all runs."""


def asked_before(home: Path) -> datetime | None:
    """When the export that is unfinished in *home* was first asked for; None if there is none."""
    try:
        with (home / BOOK).open("rb") as book:
            return msgspec.json.decode(book.readline(), type=Heading).asked_at
    except (OSError, msgspec.DecodeError):
        return None


def lock(book: IO[bytes], home: Path) -> None:
    """Keep other runs away from the book while it is open.

    Raises:
        ArchiverError: one is at it.
    """
    try:
        fcntl.flock(book, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ArchiverError(f"another export is being written into {home}") from error


def read_book(book: IO[bytes], heading: Heading, home: Path) -> dict[str, Unit]:
    """The units that an interrupted run finished, as far as its files are there.

    Raises:
        ArchiverError: *home* is no such run's, or that of one with other arguments.
    """
    book.seek(0)
    # What a kill left of a line is none.
    first, *more = book.read().rpartition(b"\n")[0].split(b"\n")
    if not first:
        if any(one.name != BOOK for one in home.iterdir()):
            raise ArchiverError(f"{home} holds what is no unfinished export: remove it first")
        return {}
    try:
        before = msgspec.json.decode(first, type=Heading)
        units = [msgspec.json.decode(line, type=Unit) for line in more]
    except msgspec.DecodeError as error:
        raise ArchiverError(f"{home / BOOK} is damaged: remove {home} and start anew") from error
    if msgspec.json.encode(before, order="sorted") != msgspec.json.encode(
        msgspec.structs.replace(heading, names=before.names, asked_at=before.asked_at),
        order="sorted",
    ):
        raise ArchiverError(
            f"{home} is an unfinished export with other arguments: finish it with those, or "
            "remove it"
        )
    newest = {unit.name: unit for unit in units if before.names == heading.names}
    return {name: unit for name, unit in newest.items() if _is_there(unit, home)}


def _is_there(unit: Unit, home: Path) -> bool:
    return all(
        (home / file.path).is_file() and (home / file.path).stat().st_size == file.size_bytes
        for file in unit.files
    )


def go_on(book: IO[bytes], heading: Heading, units: Mapping[str, Unit]) -> None:
    """Make the book ready for more units; at no moment is there less in it than *units*."""
    if units:
        book.seek(0)
        book.truncate(book.read().rfind(b"\n") + 1)
    else:
        book.truncate(0)
        book.write(msgspec.json.encode(heading) + b"\n")
        book.flush()


def tidy(home: Path, units: Mapping[str, Unit]) -> None:
    """Remove what no finished unit names."""
    named = {file.path for unit in units.values() for file in unit.files} | {BOOK}
    for place in sorted(home.rglob("*"), reverse=True):
        if place.is_dir() and not place.is_symlink():
            if next(place.iterdir(), None) is None:
                place.rmdir()
        elif place.relative_to(home).as_posix() not in named:
            place.unlink()
