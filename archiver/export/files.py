"""The contents of attached files in an export: where they are put, and how they are written.

Each content is written once, however many messages name it, under the name that the first of them
gives it: ``files/SHA-256/NAME``. The name, the type and the bytes of a file are foreign, so none of
them is trusted.
"""

import re
from collections.abc import Callable, Mapping
from contextlib import aclosing
from hashlib import sha256
from typing import Any

from msgspec import Struct

from archiver.errors import ArchiverError
from archiver.export.folder import FILES, Shelf
from archiver.export.manifest import NamedFiles
from archiver.export.names import safe_name
from archiver.store import exporting_files, files
from archiver.store.connection import Transaction
from archiver.store.exporting_choice import ALWAYS, Selection, name_of
from archiver.store.exporting_files import NamedFile

NOT_KEPT = "not in the archive"
"""Shown instead of the path of a file whose contents the archive does not hold."""
PICTURES = frozenset({"gif", "jpeg", "jpg", "png", "webp"})
INERT = PICTURES | frozenset(
    {
        "7z", "aac", "ai", "avi", "bin", "bmp", "bz2", "csv", "diff", "doc", "docx", "epub", "flac",
        "gz", "heic", "ics", "json", "jsonl", "key", "log", "m4a", "m4v", "md", "mkv", "mov", "mp3",
        "mp4", "mpeg", "mpg", "numbers", "odg", "odp", "ods", "odt", "ogg", "ogv", "opus", "otf",
        "pages", "patch", "pdf", "ppt", "pptx", "psd", "rar", "rtf", "sketch", "sql", "tar", "tgz",
        "tif", "tiff", "toml", "tsv", "ttf", "txt", "wav", "webm", "wma", "wmv", "woff", "woff2",
        "xls", "xlsx", "xz", "yaml", "yml", "zip", "zst",
    }
)  # fmt: skip
"""Suffixes of files that no browser takes for a page, a script or a vector drawing."""
PACKED = frozenset({"br", "bz2", "gz", "xz", "z", "zst"})
"""Suffixes of compression: a web server may take the type of a file from the suffix before it."""
_ACTIVE_TYPE = re.compile(
    r"html|[/+]xml\b|svg|script|rfc822|multipart/|mimearchive|flash", re.IGNORECASE
)
_SUFFIX = re.compile(r"[A-Za-z0-9]{1,10}")
_MOST_CLEARED = 4
"""How many suffixes are examined, from the end of a name."""

Place = Callable[[NamedFile], str | None]
"""Returns the path at which a format puts the contents of a file; None if it omits the message."""


class DamagedFile(ArchiverError):
    """The contents of a file, which the archive should hold, are missing or damaged."""

    def __init__(self, digest: str, trouble: str) -> None:
        super().__init__(
            f"the file with the SHA-256 {digest} is damaged in the archive: {trouble}. "
            "It was not exported. archive.attachments says which messages name it; "
            "everything else can be exported without --files"
        )


class Content(Struct, frozen=True):
    """The contents of a file, written once for all files that have them."""

    path: str
    """In the export."""
    size_bytes: int | None
    """None when the archive refers to the contents but does not hold them."""


class Found(Struct):
    """The files that the messages of an export name."""

    contents: dict[str, Content] = {}
    """By digest, in the order in which messages first name them."""
    named: int = 0
    not_kept: dict[str, int] = {}
    """By flow: how many of the files that its messages name are not in the archive."""
    marks: dict[str, str] = {}
    """By name of part: a digest of the files that its messages name, and of their paths."""

    @property
    def size_bytes(self) -> int:
        """The total size of all contents."""
        return sum(content.size_bytes or 0 for content in self.contents.values())

    def counted(self) -> NamedFiles:
        """The counts of these files for the manifest."""
        missing = sum(self.not_kept.values())
        return NamedFiles(
            named=self.named,
            kept=self.named - missing,
            contents=len(self.contents),
            bytes=self.size_bytes,
            not_kept=self.not_kept,
        )


class Links:
    """Relative paths to the contents of files, from the *folder* of a page or a transcript."""

    def __init__(self, found: Found, folder: str) -> None:
        self._contents = found.contents
        self._root = root_from(folder)

    def path(self, file: Mapping[str, Any]) -> str | None:
        """The path from the folder to the contents of *file*; None if the archive has none."""
        content = self._contents.get(file.get("sha256") or "")
        return None if content is None else self._root + content.path


def root_from(folder: str) -> str:
    """The relative path from *folder*, in an export, to its root; empty for the root itself."""
    return "../" * (folder.count("/") + 1) if folder else ""


async def find_files(tx: Transaction, chosen: Selection, place: Place, *, by_month: bool) -> Found:
    """Find the files that the chosen messages name, and where the contents will be written."""
    found = Found()
    marks: dict[str, Any] = {}
    async with aclosing(exporting_files.named_files(tx, chosen)) as named:
        async for one in named:
            path = place(one)
            if path is None:
                continue
            found.named += 1
            if one.sha256 is None:
                found.not_kept[one.flow] = found.not_kept.get(one.flow, 0) + 1
                lies = ""
            else:
                known = found.contents.setdefault(one.sha256, Content(path, one.size_bytes))
                lies = f"{one.sha256} {known.path}"
            part = name_of(one.flow, one.month if by_month else ALWAYS)
            marks.setdefault(part, sha256()).update(f"{one.message} {lies}\n".encode())
    found.marks = {part: mark.hexdigest() for part, mark in marks.items()}
    return found


async def write_content(
    tx: Transaction, digest: str, content: Content, shelf: Shelf, count: Callable[[int, str], None]
) -> None:
    """Write the contents of a file in parts; *count* receives the size and the path of each.

    Raises:
        DamagedFile: the contents are missing, incomplete or altered.
    """
    if content.size_bytes is None:
        raise DamagedFile(digest, "its content is missing")
    with shelf.file(content.path) as sink:
        async with aclosing(files.parts(tx, digest)) as parts:
            async for part in parts:
                sink.write(part)
                count(len(part), content.path)
        sink.flush()
        if sink.size_bytes != content.size_bytes:
            raise DamagedFile(
                digest, f"it has {sink.size_bytes:,} bytes instead of {content.size_bytes:,}"
            )
        if sink.sha256() != digest:
            raise DamagedFile(digest, f"its content has the SHA-256 {sink.sha256()}")


def plain_place(file: NamedFile) -> str:
    """``files/SHA-256/NAME``."""
    return f"{FILES}/{file.sha256}/{file_name(file.file_name)}"


def inert_place(file: NamedFile) -> str:
    """The same path, but with ``.txt`` at its end if a browser might run what the file holds."""
    path = plain_place(file)
    return path if _is_inert(file) else f"{path}.txt"


def _is_inert(file: NamedFile) -> bool:
    """Tell whether a browser that opens *file* only shows or downloads it, and runs nothing."""
    if _ACTIVE_TYPE.search(file.content_type or ""):
        return False
    stem = file_name(file.file_name)
    for _ in range(_MOST_CLEARED):
        stem, dot, suffix = stem.lower().rpartition(".")
        if not dot or suffix not in INERT | PACKED:
            return False
        if suffix not in PACKED or "." not in stem:
            return True
    return False


def is_picture(path: str) -> bool:
    """Tell whether *path* is that of a picture to show; only of pixels, which cannot run."""
    return path.rpartition(".")[2].lower() in PICTURES


def file_name(name: str | None) -> str:
    """Make *name* safe for one file, as `safe_name` does, but keep the suffix of a long name.

    A name that is a path is no exception: nothing in it leads into another folder.
    """
    name = name or "file"
    safe = safe_name(name)
    stem, dot, suffix = name.rpartition(".")
    if dot and _SUFFIX.fullmatch(suffix) and not safe.endswith(f".{suffix}"):
        safe = f"{safe_name(stem)}.{suffix}"
    # A leading dot would hide the file from people who look into the folder.
    return f"%2E{safe[1:]}" if safe.startswith(".") else safe
