"""The folder that an export is written into, complete or not there.

While it is being written it is called ``NAME.partial``, and a book in it notes each unit of work
that is finished: its files, their sizes and digests. After a kill, what the book does not name is
removed, and the rest may be kept. At the end the manifest is written, the folder, or a zip of it,
gets its name, and the book is dropped.
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
from archiver.export.book import BOOK, File, Heading, Unit, go_on, lock, read_book, tidy

PARTIAL = ".partial"
MANIFEST = "manifest.json"
FILES = "files"
"""The folder of what the files of messages hold."""
_OF_CONTENT = re.compile(r"(?:files/|__uploads/F)([0-9a-fA-F]{64})/[^/]+")
PACKED_AT = (1980, 1, 1, 0, 0, 0)
"""The time of all that is in a zip, so that the same content makes the same bytes."""
SMALL_BYTES = 32 * 1024
OWN_DIRECTORY, OWN_FILE = 0o700, 0o600
"""An export may hold private conversations: others read it when its owner lets them."""


class Sink:
    """A file being written; it counts and digests what goes in.

    Pieces that are small are put together first: each costs more than its bytes.
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
        """How much was written."""
        return self.size_bytes

    def flush(self) -> None:
        """Let what was written be seen by others."""
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
    """An export that is being written; `opened` gives one."""

    def __init__(self, to: Path, book: IO[bytes], units: Mapping[str, Unit]) -> None:
        self._to = to
        self._book = book
        self._units = dict(units)

    @property
    def home(self) -> Path:
        """Where it is being written."""
        return partial_of(self._to)

    @property
    def units(self) -> Mapping[str, Unit]:
        """What is finished, by name."""
        return self._units

    @property
    def files(self) -> list[File]:
        """All files that are finished, in the order of their paths."""
        found = (file for unit in self._units.values() for file in unit.files)
        return sorted(found, key=lambda file: file.path)

    def drop(self, name: str) -> None:
        """Remove a unit that is to be written anew."""
        for file in self._units.pop(name).files:
            (self.home / file.path).unlink(missing_ok=True)

    @contextmanager
    def unit(self, name: str, *, seen_at: str) -> Iterator["Shelf"]:
        """Write a unit; it is finished, and stays so, when the block ends without an error."""
        shelf = Shelf(self, Unit(name=name, files=[], seen_at=seen_at))
        yield shelf
        self._note(shelf.unit)
        self._units[name] = shelf.unit

    def finish(self, manifest: bytes) -> None:
        """Write the manifest, and give the folder its name.

        Raises:
            ArchiverError: it cannot be done; what was written is kept.
        """
        try:
            self._sync(file.path for file in self.files)
            (self.home / MANIFEST).write_bytes(manifest)
            self._sync([MANIFEST])
            # The book goes last: without it, nothing could be taken up.
            if self._to.suffix.lower() == ".zip":
                self._pack()
                shutil.rmtree(self.home)
            else:
                self.home.rename(self._to)
                (self._to / BOOK).unlink()
        except OSError as error:
            raise hindered(self.home, str(self._to), error) from error

    def _pack(self) -> None:
        packed = self._to.with_name(f"{self._to.name}.tmp")
        packed.unlink(missing_ok=True)
        packed.touch(OWN_FILE, exist_ok=False)
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
            for path in sorted([MANIFEST, *(file.path for file in self.files)]):
                entry = zipfile.ZipInfo(path, PACKED_AT)
                # Nearly all that people attach is packed already.
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
            raise hindered(self.home, BOOK, error) from error

    def _sync(self, paths: Iterable[str]) -> None:
        for path in paths:
            with (self.home / path).open("rb") as target:
                os.fsync(target.fileno())


class Shelf:
    """Where the files of one unit are put; several may be filled at once."""

    def __init__(self, folder: Folder, unit: Unit) -> None:
        self.folder = folder
        self.unit = unit

    @contextmanager
    def file(self, path: str) -> Iterator[Sink]:
        """Write a file; whoever reads the folder sees it whole, or not at all.

        Raises:
            ArchiverError: there is no room left, or the file cannot be written.
            ValueError: *path* leads out of the folder; names are to be made by `safe_name`.
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
            raise hindered(self.folder.home, path, error) from error
        self.unit.files.append(File(path=path, size_bytes=sink.size_bytes, sha256=sink.sha256()))


def digest_in(path: str) -> str | None:
    """The digest that the path of what a message's file holds tells; None for all other paths."""
    found = _OF_CONTENT.fullmatch(path)
    return found and found[1].lower()


def leads_out(path: str) -> bool:
    """Tell whether *path* is none of a file in the folder."""
    place = PurePosixPath(path)
    return place.is_absolute() or ".." in place.parts or "\0" in path


def hindered(home: Path, path: str, error: OSError) -> ArchiverError:
    """What is told when *path* of an export that is being written in *home* cannot be written."""
    reason = (
        "no room is left"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}
        else str(error.strerror or error)
    )
    return ArchiverError(
        f"cannot write {path}: {reason}; what is finished is kept in {home}, "
        "and the same command goes on from there"
    )


def partial_of(to: Path) -> Path:
    """What an export that is to be called *to* is called while it is written."""
    return to.parent / f"{to.name}{PARTIAL}"


def is_partial(folder: Path) -> bool:
    """Tell whether *folder* is called as one that is being written."""
    return folder.name.endswith(PARTIAL)


def has_left(to: Path) -> bool:
    """Tell whether the zip *to* is there, and beside it what it is made of."""
    return to.suffix.lower() == ".zip" and to.is_file() and partial_of(to).is_dir()


@contextmanager
def opened(to: Path, heading: Heading) -> Iterator[Folder]:
    """The folder of the export *to*, new or as an interrupted run of the same *heading* left it.

    Raises:
        ArchiverError: there is something already, or another run is at it.
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
            raise hindered(home, BOOK, error) from error
        yield Folder(to, book, units)
    finally:
        with suppress(OSError):  # what of it could not be written was told before
            book.close()


def _require_own(home: Path) -> None:
    """Make sure that nobody else made *home*, or what it leads to: they could read the export."""
    if {home.lstat().st_uid, home.stat().st_uid} != {os.geteuid()}:
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
                f"{to} is the current directory, and an export that is complete takes the place of "
                "its directory: name one that is to be made"
            )
    elif to.exists():
        told = f"{to} is there already: remove it, or choose another name"
        if has_left(to):
            told += f"; {partial_of(to)} is left of a run for it"
        raise ArchiverError(told)
