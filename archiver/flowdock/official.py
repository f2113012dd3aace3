"""Reads Flowdock's official export: for each flow, a zip of ``messages.json`` and uploaded files.

An export may be given as its zip, unpacked, or as ``messages.json`` alone; a directory may hold
several. Nothing is ever unpacked to disk. The uploaded files are counted, not read: they are in the
directory of ``messages.json``, or below it. With a ``messages.json`` that is given alone, none are
counted, since the files around it may be anything.
"""

import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from msgspec import Struct
from msgspec.structs import replace
from typing_extensions import override

from archiver.errors import ArchiverError

MESSAGES = "messages.json"
CHUNK_BYTES = 1_000_000
MAX_RATIO = 200
"""The greatest ratio of compression that is believed; that of chat is about ten."""
HARMLESS_BYTES = 100_000_000
"""A file that unpacks to no more than this is not a zip bomb, whatever its ratio."""
PACKED_BY = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""The methods of compression that are read. With others, Python decompresses all input that it has
at once, even if the output is far larger than the zip says."""
NO_ZIP = (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError)
"""The errors of opening a file that is not a zip, or is one with features that no export uses."""

_ZIP_START = b"PK\x03\x04"
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class ExportUnreadable(ArchiverError):
    """A file is not an export, or not a complete one; the text names the file and the place."""


class ExportFile(Struct, frozen=True, kw_only=True):
    """The messages of one flow, in a file of an export."""

    path: Path
    """The path of the zip, or of ``messages.json`` itself."""
    entry: str | None
    """The name in the zip; None when the file is not a zip."""
    size_bytes: int
    """The length of the JSON, decompressed."""
    attachments: int
    """How many other files came with it; 0 when it was given alone."""

    @override
    def __str__(self) -> str:
        return str(self.path) if self.entry is None else f"{self.path}: {self.entry}"

    def chunks(self) -> Iterator[bytes]:
        """The bytes of ``messages.json``, verified by the checksum in the zip.

        Raises:
            ExportUnreadable: they cannot be read, or are damaged.
        """
        read = 0
        try:
            with self._opened() as source:
                while chunk := source.read(CHUNK_BYTES):
                    read += len(chunk)
                    yield chunk
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise ExportUnreadable(f"{self} is damaged near byte {read:,}: {error}") from error
        except OSError as error:
            raise ExportUnreadable(f"cannot read {self}: {error.strerror or error}") from error

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        if self.entry is None:
            with self.path.open("rb") as source:
                yield source
        else:
            with zipfile.ZipFile(self.path) as packed, packed.open(self.entry) as source:
                yield source


def find_exports(path: Path) -> list[ExportFile]:
    """The exports in *path*: a zip, a ``messages.json``, or a directory of such files.

    Raises:
        ExportUnreadable: there are none, or a zip is damaged or dangerous.
    """
    try:
        if not path.is_dir():
            return _in_file(path)
        here = path / MESSAGES
        if here.exists():
            return [_unpacked(here)]
        zips = sorted(one for one in path.iterdir() if one.suffix.lower() == ".zip")
        unpacked = sorted(_outermost({*path.glob(f"*/{MESSAGES}"), *path.rglob(MESSAGES)}))
        if not zips and not unpacked:
            raise ExportUnreadable(f"{path} has no {MESSAGES} and no zip")
        packed = [export for one in zips for export in _in_file(one)]
        return [*packed, *map(_unpacked, unpacked)]
    except OSError as error:
        raise ExportUnreadable(f"cannot read {path}: {error.strerror}") from error


def _outermost(found: Collection[Path]) -> Iterator[Path]:
    """Those of *found* that are in no directory of another: below one, there may be uploads."""
    homes = {one.parent for one in found}
    return (one for one in found if not homes & {*one.parent.parents})


def require_file(path: Path) -> None:
    """Refuse what exists but is not a file, such as a pipe: opening one blocks until it is written.

    Raises:
        ExportUnreadable: *path* is such.
    """
    if path.exists() and not path.is_file():
        raise _no_file(path)


def _no_file(path: Path) -> ExportUnreadable:
    return ExportUnreadable(
        f"{path} is not a regular file, but an import reads it twice: save it as a file"
    )


def _in_file(path: Path) -> list[ExportFile]:
    if str(path) == "-" and not path.exists():
        raise _no_file(path)
    require_file(path)
    with path.open("rb") as source:
        start = source.read(len(_ZIP_START))
    if start != _ZIP_START and path.suffix.lower() != ".zip":
        return [_plain(path)]
    try:
        with zipfile.ZipFile(path) as packed:
            entries = packed.infolist()
    except NO_ZIP as error:
        is_cut = start == _ZIP_START and not zipfile.is_zipfile(path)
        reason = "its end is missing, as if it had been cut off" if is_cut else error
        raise ExportUnreadable(f"{path} is not a complete zip: {reason}") from error
    return _packed(path, entries)


def _plain(path: Path) -> ExportFile:
    return ExportFile(path=path, entry=None, size_bytes=path.stat().st_size, attachments=0)


def _unpacked(path: Path) -> ExportFile:
    files = [PurePosixPath(one) for one in path.parent.rglob("*") if one.is_file()]
    return replace(_plain(path), attachments=_beside(PurePosixPath(path), files))


def _packed(path: Path, entries: list[zipfile.ZipInfo]) -> list[ExportFile]:
    # Not is_dir(): up to Python 3.11 that fails where a name is empty.
    files = [entry for entry in entries if not entry.filename.endswith("/")]
    for entry in files:
        refuse_dangerous(path, entry)
    places = [PurePosixPath(entry.filename) for entry in files]
    wanted = [entry for entry in files if PurePosixPath(entry.filename).name == MESSAGES]
    if not wanted:
        raise ExportUnreadable(f"{path} has no {MESSAGES}: it is not an export of a flow")
    for name, times in Counter(entry.filename for entry in wanted).items():
        if times > 1:
            raise ExportUnreadable(
                f"{path} has {name} {times} times, but only the last can be read: unpack it, "
                "and import each"
            )
    return [
        ExportFile(
            path=path,
            entry=entry.filename,
            size_bytes=entry.file_size,
            attachments=_beside(PurePosixPath(entry.filename), places),
        )
        for entry in wanted
    ]


def _beside(messages: PurePosixPath, files: Collection[PurePosixPath]) -> int:
    """How many of *files* belong to *messages*: those below no nearer ``messages.json``."""
    homes = {one.parent for one in files if one.name == MESSAGES}
    nearest = [
        next((above for above in one.parents if above in homes), None)
        for one in files
        if one.name != MESSAGES
    ]
    return nearest.count(messages.parent)


def refuse_dangerous(path: Path, entry: zipfile.ZipInfo) -> None:
    """Refuse an *entry* of a zip whose path leads out of it, or that is or may be a zip bomb.

    Raises:
        ExportUnreadable: the entry is refused, or is encrypted; the text says why.
    """
    name = entry.filename
    place = PurePosixPath(name.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts or _DRIVE.match(name):
        raise ExportUnreadable(
            f"{path} has the path {name!r}, which leads outside: it is not an export"
        )
    if place.name == MESSAGES and entry.flag_bits & 1:
        raise ExportUnreadable(f"{path}: {name} is encrypted; unpack it first")
    if place.name == MESSAGES and entry.compress_type not in PACKED_BY:
        raise ExportUnreadable(
            f"{path}: {name} is compressed by another method than deflate, so its size cannot be "
            "checked; if you trust it, unpack it and import the file"
        )
    if entry.file_size > max(HARMLESS_BYTES, MAX_RATIO * entry.compress_size):
        raise ExportUnreadable(
            f"{path}: {name} would unpack from {entry.compress_size:,} to {entry.file_size:,} "
            "bytes, like a zip bomb; if you trust it, unpack it and import the file"
        )
