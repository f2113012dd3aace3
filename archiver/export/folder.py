"""The folder that an export is written into: under its own name, it is complete or not there.

While it is being written it is called ``NAME.partial``, and the book in it (`archiver.export.book`)
records each finished unit of work: its files, with their sizes and digests. After a kill, files
that the book does not name are removed, and the others can be kept. At the end, the manifest is
written, the folder, or a zip of it, gets its own name, and the book is removed.
"""

import errno
import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec

from archiver.errors import ArchiverError
from archiver.export.book import BOOK, File, Heading, Unit, go_on, is_own, lock, read_book, tidy

PARTIAL = ".partial"
MANIFEST = "manifest.json"
FILES = "files"
"""The folder for the contents of attached files."""
_OF_CONTENT = re.compile(r"(?:files/|__uploads/F)([0-9a-fA-F]{64})/[^/]+")
PACKED_AT = (1980, 1, 1, 0, 0, 0)
"""The timestamp of every entry of a zip, so that the same content gives the same bytes."""
SMALL_BYTES = 32 * 1024
OWN_DIRECTORY, OWN_FILE = 0o700, 0o600
"""Permissions for the owner only, since an export may hold private conversations."""


class Sink:
    """A file being written, which computes its own size and digest.

    Small pieces are buffered, since each write costs more than its few bytes.
    """

    def __init__(self, target: IO[bytes]) -> None:
        self.size_bytes = 0
        self.closed = False
        self._target = target
        self._digest = hashlib.sha256()
        self._pieces = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append *data*."""
        if len(data) < SMALL_BYTES:
            self._pieces += data
            if len(self._pieces) >= SMALL_BYTES:
                self._put_together()
        else:
            self._put_together()
            self._digest.update(data)
            self._target.write(data)
        self.size_bytes += len(data)
        return len(data)

    def tell(self) -> int:
        """The number of bytes written."""
        return self.size_bytes

    def flush(self) -> None:
        """Pass on what is buffered."""
        self._put_together()
        self._target.flush()

    def sha256(self) -> str:
        """The digest of what was written, up to the last `flush`."""
        return self._digest.hexdigest()

    def _put_together(self) -> None:
        self._digest.update(self._pieces)
        self._target.write(self._pieces)
        self._pieces.clear()


class Folder:
    """An export that is being written; made by `opened`."""

    def __init__(self, to: Path, book: IO[bytes], units: Mapping[str, Unit]) -> None:
        self._to = to
        self._book = book
        self._units = dict(units)

    @property
    def home(self) -> Path:
        """The directory in which it is being written."""
        return partial_of(self._to)

    @property
    def units(self) -> Mapping[str, Unit]:
        """The finished units, by name."""
        return self._units

    @property
    def files(self) -> list[File]:
        """The files of all finished units, sorted by path."""
        found = (file for unit in self._units.values() for file in unit.files)
        return sorted(found, key=lambda file: file.path)

    def drop(self, name: str) -> None:
        """Remove a finished unit that is out of date, with its files."""
        for file in self._units.pop(name).files:
            (self.home / file.path).unlink(missing_ok=True)

    @contextmanager
    def unit(self, name: str, *, seen_at: str) -> Iterator["Shelf"]:
        """Write a unit; when the block ends without an error, the unit is recorded as finished."""
        shelf = Shelf(self, Unit(name=name, files=[], seen_at=seen_at))
        yield shelf
        self._note(shelf.unit)
        self._units[name] = shelf.unit

    def finish(self, manifest: bytes) -> None:
        """Write the manifest, and give the folder, or a zip of it, its own name.

        Raises:
            ArchiverError: a file cannot be written; what is finished is kept.
        """
        try:
            self._sync(file.path for file in self.files)
            (self.home / MANIFEST).write_bytes(manifest)
            self._sync([MANIFEST])
            # The book is removed last: without it, an interrupted run could not be resumed.
            if self._to.suffix.lower() == ".zip":
                self._pack()
                shutil.rmtree(self.home)
            else:
                self.home.rename(self._to)
                (self._to / BOOK).unlink()
        except OSError as error:
            raise write_error(self.home, str(self._to), error) from error

    def _pack(self) -> None:
        packed = self._to.with_name(f"{self._to.name}.tmp")
        packed.unlink(missing_ok=True)
        packed.touch(OWN_FILE, exist_ok=False)
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
            for path in sorted([MANIFEST, *(file.path for file in self.files)]):
                entry = zipfile.ZipInfo(path, PACKED_AT)
                # Nearly all files that people attach are compressed already.
                is_packed = digest_in(path) is not None
                entry.compress_type = zipfile.ZIP_STORED if is_packed else zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                with (
                    (self.home / path).open("rb") as source,
                    target.open(entry, "w", force_zip64=True) as sink,
                ):
                    shutil.copyfileobj(source, sink, 1 << 20)
        with packed.open("rb") as target_file:
            os.fsync(target_file.fileno())
        packed.rename(self._to)

    def _note(self, unit: Unit) -> None:
        try:
            self._sync(file.path for file in unit.files)
            self._book.write(msgspec.json.encode(unit) + b"\n")
            self._book.flush()
            os.fsync(self._book.fileno())
        except OSError as error:
            raise write_error(self.home, BOOK, error) from error

    def _sync(self, paths: Iterable[str]) -> None:
        for path in paths:
            with (self.home / path).open("rb") as target:
                os.fsync(target.fileno())


class Shelf:
    """Takes the files of one unit; several of them may be open at once."""

    def __init__(self, folder: Folder, unit: Unit) -> None:
        self.folder = folder
        self.unit = unit

    @contextmanager
    def file(self, path: str) -> Iterator[Sink]:
        """Write a file; it belongs to the unit once the block has ended without an error.

        Raises:
            ArchiverError: the disk is full, or the file cannot be written.
            ValueError: *path* leads out of the folder; make its names safe with `safe_name`.
        """
        place = self.folder.home / path
        if leads_out(path):
            raise ValueError(f"{path} leads out of the export")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as target:
                sink = Sink(target)
                yield sink
                sink.flush()
        except OSError as error:
            raise write_error(self.folder.home, path, error) from error
        self.unit.files.append(File(path=path, size_bytes=sink.size_bytes, sha256=sink.sha256()))


def digest_in(path: str) -> str | None:
    """The digest in *path*, if this is the path of a file's contents; None for all others."""
    found = _OF_CONTENT.fullmatch(path)
    return found and found[1].lower()


def leads_out(path: str) -> bool:
    """Tell whether *path* leads out of the folder, or cannot be a path at all."""
    place = PurePosixPath(path)
    return place.is_absolute() or ".." in place.parts or "\0" in path


def write_error(home: Path, path: str, error: OSError) -> ArchiverError:
    """The error to raise when *path*, in the unfinished export *home*, cannot be written."""
    reason = (
        "no space is left"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}
        else str(error.strerror or error)
    )
    return ArchiverError(
        f"cannot write {path}: {reason}; what is finished is kept in {home}; "
        "run the same command again to continue"
    )


def partial_of(to: Path) -> Path:
    """The path of the export *to* while it is being written."""
    return to.parent / f"{to.name}{PARTIAL}"


def is_partial(folder: Path) -> bool:
    """Tell whether *folder* has the name of an unfinished export."""
    return folder.name.endswith(PARTIAL)


def has_left(to: Path) -> bool:
    """Tell whether the zip *to* exists, and beside it the unfinished folder of a run for it."""
    return to.suffix.lower() == ".zip" and to.is_file() and partial_of(to).is_dir()


@contextmanager
def opened(to: Path, heading: Heading) -> Iterator[Folder]:
    """Open the folder of the export *to*: new, or as a run with the same *heading* left it.

    Raises:
        ArchiverError: *to* exists already, another run is writing it, or it cannot be written.
    """
    home = partial_of(to)
    try:
        _require_free(to)
        home.parent.mkdir(parents=True, exist_ok=True)
        try:
            home.mkdir(OWN_DIRECTORY)
        except FileExistsError:
            _require_own(home)
        book = (home / BOOK).open("a+b")
    except OSError as error:
        raise ArchiverError(f"cannot write {home}: {error.strerror or error}") from error
    try:
        lock(book, home)
        units = read_book(book, heading, home)
        try:
            tidy(home, units)
            go_on(book, heading, units)
        except OSError as error:
            raise write_error(home, BOOK, error) from error
        yield Folder(to, book, units)
    finally:
        with suppress(OSError):  # a write that failed was reported before
            book.close()


def _require_own(home: Path) -> None:
    """Make sure that *home*, and what it links to, is nobody else's: they could read the export."""
    if not is_own(home):
        raise ArchiverError(
            f"{home} belongs to another user, who could read and change the export: remove it, or "
            "choose another name"
        )


def _require_free(to: Path) -> None:
    if to.is_dir() and to.suffix.lower() != ".zip":
        if next(to.iterdir(), None) is not None:
            raise ArchiverError(f"{to} is not empty: an export needs a directory of its own")
        if to.samefile("."):
            raise ArchiverError(
                f"{to} is the current directory, which the export would replace: "
                "name a new directory"
            )
        if to.is_symlink() or os.path.ismount(to):
            # The finished folder is renamed to it, which no system does with either.
            raise ArchiverError(
                f"{to} is a link or the root of a file system, which an export cannot replace: "
                f"name a new directory in it, as {to / 'export'}"
            )
    elif to.exists():
        told = f"{to} already exists: remove it, or choose another name"
        if has_left(to):
            told += f"; {partial_of(to)} is left over from writing it"
        raise ArchiverError(told)
