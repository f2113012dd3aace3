"""The manifest of an export, and the check of an export against it.

A manifest states the arguments, the counts, the size and SHA-256 of each file, and for each flow
which ranges of ids the archive had proven, by which witness, and which it had not. It does not say
when it was made, so that the same archive and arguments give the same bytes.
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
"""Limit for a manifest, which is read whole; that of an archive of decades has a tenth of this."""
DAMAGED = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged file may raise, also from a zip.

An entry that is encrypted, or compressed by another method than ours, raises a RuntimeError.
"""


class NamedFiles(Struct, frozen=True, kw_only=True):
    """The files that exported messages name."""

    named: int
    """How often messages name a file."""
    kept: int
    """How many of these have their contents in the export."""
    contents: int
    """How many different contents there are."""
    bytes: int
    not_kept: Mapping[str, int]
    """By flow: how many are not in the archive; ``archive.attachments`` shows which, and why."""


class Manifest(Struct, frozen=True, kw_only=True):
    """What ``manifest.json`` says of an export."""

    kind: str = KIND
    version: str
    """Of the archiver."""
    arguments: Mapping[str, Any]
    as_of: str | None
    """The time whose state it shows; null for the state when the export was made."""
    rows: int
    flows: Mapping[str, int]
    """By path: the number of rows."""
    files: list[File]
    coverage: Mapping[str, Any]
    """By path: what the archive had proven of the flow, and what not."""
    not_heard: list[str] = []
    """Flows that a daemon captured although none of their streams was open: edits go unheard."""
    not_told: Mapping[str, str] = {}
    """By path: why nobody knew what was new in the flow, even if all is proven up to ``due``."""
    not_measured: Mapping[str, str] = {}
    """By path: why nobody knew how far the ids of the flow go; it need not be empty."""
    named_files: NamedFiles | UnsetType = UNSET
    """Present if the contents of files were requested."""
    left_out: list[str] = []
    """In words: what the archive has of these flows, but the export leaves out."""

    def encode(self) -> bytes:
        """Its bytes, which are the same for the same content."""
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic")) + b"\n"


class Finding(Struct, frozen=True):
    """A file that is not as the manifest says."""

    path: str
    trouble: str


def read_manifest(export: Path) -> Manifest:
    """Read the manifest of an export, which is a directory or a zip.

    Raises:
        ArchiverError: there is none, or it cannot be read.
    """
    try:
        require_file(export / MANIFEST if export.is_dir() else export)
        with opened(export) as read, read(MANIFEST) as source:
            content = source.read(LONGEST_BYTES + 1)
            if len(content) > LONGEST_BYTES:
                raise ArchiverError(f"{export}: its {MANIFEST} is too long")
            found = msgspec.json.decode(content, type=Manifest)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ArchiverError(f"{export} is not a finished export: it has no {MANIFEST}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, *DAMAGED) as error:
        raise ArchiverError(f"{export}: its {MANIFEST} cannot be read: {error}") from error
    if found.kind != KIND:
        raise ArchiverError(f"{export}: its {MANIFEST} is not that of an export")
    return found


def check(export: Path, manifest: Manifest) -> Iterator[Finding | File]:
    """Yield each file that is as the manifest says, and a finding for each that is not."""
    strangers = _unexpected(export, manifest)
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
                yield Finding(file.path, "changed: its SHA-256 differs")
            elif manifest.named_files is not UNSET and not _is_as_named(file):
                yield Finding(file.path, "its SHA-256 is not the one in its path")
            else:
                yield file
    yield from strangers


def _is_as_named(file: File) -> bool:
    """Tell whether *file* has the digest that is in its path, as paths of contents have one."""
    return digest_in(file.path) in {None, file.sha256}


def _unexpected(export: Path, manifest: Manifest) -> list[Finding]:
    """What should not be there: not in the manifest, not a plain file, or twice in a zip."""
    named = {MANIFEST, *(file.path for file in manifest.files)}
    if export.is_dir() and not is_partial(export):
        named.add(BOOK)  # it is removed last, so a run that is killed just before leaves it
    found = {}
    for path, trouble in _in_directory(export) if export.is_dir() else _in_zip(export):
        if trouble or path not in named:
            found[path] = trouble or "not in the manifest"
    return [Finding(path, found[path]) for path in sorted(found)]


def _in_directory(export: Path) -> Iterator[tuple[str, str]]:
    """Paths of all but directories, with what is wrong with them; links are not followed."""
    for one in export.rglob("*"):
        path = one.relative_to(export).as_posix()
        if one.is_symlink():
            yield path, "a symbolic link, whose target is not in the export"
        elif not one.is_dir():
            yield path, "" if one.is_file() else "not a regular file"


def _in_zip(export: Path) -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(export) as packed:
        for path, times in Counter(packed.namelist()).items():
            yield (
                path,
                "" if times == 1 else f"present {times} times, so readers may take any of them",
            )


def _measure(source: IO[bytes]) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


@contextmanager
def opened(export: Path) -> Iterator[Callable[[str], IO[bytes]]]:
    """Provide a function that opens files of an export by their paths."""
    if export.is_dir():
        yield lambda path: (export / path).open("rb")
    else:
        with zipfile.ZipFile(export) as packed:

            def read(path: str) -> IO[bytes]:
                if packed.getinfo(path).compress_type not in PACKED_BY:
                    raise NotImplementedError("compressed by another method than deflate")
                return packed.open(path)

            yield read
