"""Flowdock's official export: of each flow a zip with ``messages.json`` and the uploaded files.

An export may be given as its zip, unpacked, or as ``messages.json`` alone; a directory may hold
several. Nothing is ever unpacked to disk. The files that were uploaded are counted, not read: they
lie in the directory of ``messages.json``, or below it. Around one that is given alone may lie
anything.
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
"""How many times smaller than its content a packed file may be: chat comes to about ten."""
HARMLESS_BYTES = 100_000_000
"""What unpacks to less than this is no bomb, however small it was."""
PACKED_BY = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""Of other methods Python unpacks all that was read at once, whatever the zip says of its size."""
NO_ZIP = (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError)
"""What opening a file as a zip raises that is none, or is one that nobody packs here."""

_ZIP_START = b"PK\x03\x04"
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


class ExportUnreadable(ArchiverError):
    """A file is no export, or not all of one; the text names it and the place."""


class ExportFile(Struct, frozen=True, kw_only=True):
    """The messages of one flow, in a file of an export."""

    path: Path
    """Of the zip, or of ``messages.json`` itself."""
    entry: str | None
    """The name in the zip; None when the file is no zip."""
    size_bytes: int
    """Of the JSON."""
    attachments: int
    """How many other files came with it; 0 when it was given alone."""

    @override
    def __str__(self) -> str:
        return str(self.path) if self.entry is None else f"{self.path}: {self.entry}"

    def chunks(self) -> Iterator[bytes]:
        """The bytes of ``messages.json``, checked against the sum that the zip has of them.

        Raises:
            ExportUnreadable: they cannot be read, or are not what was packed.
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
    """The exports in *path*: a zip, a ``messages.json``, or a directory that holds such.

    Raises:
        ExportUnreadable: there is none, or a zip is damaged or dangerous.
    """
    try:
        if not path.is_dir():
            return _in_file(path)
        here = path / MESSAGES
        if here.exists():
            return [_unpacked(here)]
        zips, unpacked = sorted(path.glob("*.zip")), sorted(path.glob(f"*/{MESSAGES}"))
        if not zips and not unpacked:
            raise ExportUnreadable(f"{path} holds no {MESSAGES} and no zip")
        packed = [export for one in zips for export in _in_file(one)]
        return [*packed, *map(_unpacked, unpacked)]
    except OSError as error:
        raise ExportUnreadable(f"cannot read {path}: {error.strerror}") from error


def require_file(path: Path) -> None:
    """Refuse what is there and no file, as a pipe: opening that waits until somebody writes.

    Raises:
        ExportUnreadable: it is.
    """
    if path.exists() and not path.is_file():
        raise _no_file(path)


def _no_file(path: Path) -> ExportUnreadable:
    return ExportUnreadable(f"{path} is no file, and an export is read twice: write it into one")


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
        raise ExportUnreadable(f"{path} is no whole zip: {reason}") from error
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
        raise ExportUnreadable(f"{path} holds no {MESSAGES}: it is no export of a flow")
    for name, times in Counter(entry.filename for entry in wanted).items():
        if times > 1:
            raise ExportUnreadable(
                f"{path} holds {name} {times} times, and only the last could be read: unpack it "
                "yourself, and import each"
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
    """How many of *files* came with *messages*: of no other is the directory nearer to them."""
    homes = {one.parent for one in files if one.name == MESSAGES}
    nearest = [
        next((above for above in one.parents if above in homes), None)
        for one in files
        if one.name != MESSAGES
    ]
    return nearest.count(messages.parent)


def refuse_dangerous(path: Path, entry: zipfile.ZipInfo) -> None:
    """Refuse a zip of which an entry climbs out of it, or bursts, or may burst.

    Raises:
        ExportUnreadable: it does; the text says what.
    """
    name = entry.filename
    place = PurePosixPath(name.replace("\\", "/"))
    if place.is_absolute() or ".." in place.parts or _DRIVE.match(name):
        raise ExportUnreadable(f"{path} names {name!r}, which climbs out of it: it is no export")
    if place.name == MESSAGES and entry.flag_bits & 1:
        raise ExportUnreadable(f"{path}: {name} is encrypted; unpack it first")
    if place.name == MESSAGES and entry.compress_type not in PACKED_BY:
        raise ExportUnreadable(
            f"{path}: {name} is packed otherwise than by deflate, so nobody can tell how large it "
            "is; if you trust it, unpack it and import the file"
        )
    if entry.file_size > max(HARMLESS_BYTES, MAX_RATIO * entry.compress_size):
        raise ExportUnreadable(
            f"{path}: {name} would unpack from {entry.compress_size:,} to {entry.file_size:,} "
            "bytes, as bombs do; if you trust it, unpack it and import the file"
        )
