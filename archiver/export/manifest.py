"""What an export says of itself, and whether it still holds.

A manifest tells the arguments, the counts, the size and SHA-256 of each file, and of each flow
which ranges of ids the archive had proven complete, by which witness, and which not. It tells no
time of its making: the same archive and arguments give the same bytes.
"""

import hashlib
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from archiver.errors import ArchiverError
from archiver.export.book import BOOK, File
from archiver.export.folder import MANIFEST, digest_in, is_partial, leads_out
from archiver.flowdock.official import PACKED_BY, require_file

KIND = "flowdock-archiver export"
CHUNK_BYTES = 1 << 20
LONGEST_BYTES = 1 << 28
"""Of a manifest, which is read whole: that of an archive of decades has a tenth of this."""
DAMAGED = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading a file may raise that lies in a zip, too: of what is packed as nobody packs here,
a RuntimeError."""


class NamedFiles(Struct, frozen=True, kw_only=True):
    """The files that exported messages name."""

    named: int
    """Each time that a message names one."""
    kept: int
    """Of these, those of which the export has what they hold."""
    contents: int
    """What they hold, each once."""
    bytes: int
    not_kept: Mapping[str, int]
    """By flow, how many are not in the archive; ``archive.attachments`` tells each, and why."""


class Manifest(Struct, frozen=True, kw_only=True):
    """What an export says of itself."""

    kind: str = KIND
    version: str
    """Of the archiver."""
    arguments: Mapping[str, Any]
    as_of: str | None
    """The time whose state it shows; null for that of the archive when it was made."""
    rows: int
    flows: Mapping[str, int]
    """By path: how many rows are of each."""
    files: list[File]
    coverage: Mapping[str, Any]
    """By path: what the archive had proven of the flow, and what not."""
    not_heard: list[str] = []
    """Flows that a daemon captured, and no stream of them stood: nobody heard of edits."""
    not_told: Mapping[str, str] = {}
    """By path, of flows of which nobody knew what is new: why. All may be proven up to ``due``."""
    not_measured: Mapping[str, str] = {}
    """By path, of flows of which nobody knew how far their ids go: why. They are no empty ones."""
    named_files: NamedFiles | UnsetType = UNSET
    """Told when what files hold was asked for."""
    left_out: list[str] = []
    """What of these flows is in the archive and not here, in words: if any, this is a selection."""

    def encode(self) -> bytes:
        """Its bytes: the same for the same content."""
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic")) + b"\n"


class Finding(Struct, frozen=True):
    """A file that is not as the manifest says."""

    path: str
    trouble: str


def read_manifest(export: Path) -> Manifest:
    """The manifest of an export, a directory or a zip.

    Raises:
        ArchiverError: there is none that can be read.
    """
    try:
        require_file(export / MANIFEST if export.is_dir() else export)
        with opened(export) as read, read(MANIFEST) as source:
            content = source.read(LONGEST_BYTES + 1)
            if len(content) > LONGEST_BYTES:
                raise ArchiverError(f"{export}: its {MANIFEST} is longer than any of ours")
            found = msgspec.json.decode(content, type=Manifest)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ArchiverError(f"{export} is no finished export: it has no {MANIFEST}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, *DAMAGED) as error:
        raise ArchiverError(f"{export}: its {MANIFEST} cannot be read: {error}") from error
    if found.kind != KIND:
        raise ArchiverError(f"{export}: its {MANIFEST} is that of something else")
    return found


def check(export: Path, manifest: Manifest) -> Iterator[Finding | File]:
    """Yield each file that is as it should be, and a finding for each that is not."""
    strangers = _strangers(export, manifest)
    found = {one.path for one in strangers}
    with opened(export) as read:
        for file in manifest.files:
            if leads_out(file.path):
                yield Finding(file.path, "leads out of the export")
                continue
            if file.path in found:
                continue
            try:
                with read(file.path) as source:
                    size, digest = _measure(source)
            except (KeyError, *DAMAGED) as error:
                gone = isinstance(error, FileNotFoundError | KeyError)
                yield Finding(file.path, "missing" if gone else f"cannot be read: {error}")
                continue
            if size != file.size_bytes:
                yield Finding(file.path, f"{size:,} bytes instead of {file.size_bytes:,}")
            elif digest != file.sha256:
                yield Finding(file.path, "changed: its SHA-256 is another")
            elif manifest.named_files is not UNSET and not _is_as_named(file):
                yield Finding(file.path, "its SHA-256 is not that by which the archive names it")
            else:
                yield file
    yield from strangers


def _is_as_named(file: File) -> bool:
    """Tell whether *file*, if it is what a message's file holds, has the digest in its path."""
    return digest_in(file.path) in {None, file.sha256}


def _strangers(export: Path, manifest: Manifest) -> list[Finding]:
    """What is there and should not be: unnamed, no plain file, or there twice."""
    named = {MANIFEST, *(file.path for file in manifest.files)}
    if export.is_dir() and not is_partial(export):
        named.add(BOOK)  # it goes last, and stays where a run is killed just before
    found = {}
    for path, trouble in _in_directory(export) if export.is_dir() else _in_zip(export):
        if trouble or path not in named:
            found[path] = trouble or "not in the manifest"
    return [Finding(path, found[path]) for path in sorted(found)]


def _in_directory(export: Path) -> Iterator[tuple[str, str]]:
    """All but its directories, and what is wrong with it; what links lead to is not looked at."""
    for one in export.rglob("*"):
        path = one.relative_to(export).as_posix()
        if one.is_symlink():
            yield path, "a symbolic link: what it leads to is not in the export"
        elif not one.is_dir():
            yield path, "" if one.is_file() else "no file"


def _in_zip(export: Path) -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(export) as packed:
        for path, times in Counter(packed.namelist()).items():
            yield path, "" if times == 1 else f"there {times} times, of which readers take any"


def _measure(source: IO[bytes]) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


@contextmanager
def opened(export: Path) -> Iterator[Callable[[str], IO[bytes]]]:
    """A function that opens the files of an export by their paths."""
    if export.is_dir():
        yield lambda path: (export / path).open("rb")
    else:
        with zipfile.ZipFile(export) as packed:

            def read(path: str) -> IO[bytes]:
                if packed.getinfo(path).compress_type not in PACKED_BY:
                    raise NotImplementedError("packed otherwise than by deflate")
                return packed.open(path)

            yield read
