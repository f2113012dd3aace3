"""What files hold, in an export: where it lies, and how it gets there.

Each content is one file, however many messages name it, and called as the first of them does:
``files/SHA-256/NAME``. What people attach is foreign, its name, its type and its bytes.
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
"""What is said of a file instead of where it lies."""
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
"""Suffixes by which no browser takes a file for a page, a script or a drawing."""
PACKED = frozenset({"br", "bz2", "gz", "xz", "z", "zst"})
"""Suffixes of which a server may see that before them."""
_ACTIVE_TYPE = re.compile(
    r"html|[/+]xml\b|svg|script|rfc822|multipart/|mimearchive|flash", re.IGNORECASE
)
_SUFFIX = re.compile(r"[A-Za-z0-9]{1,10}")
_MOST_CLEARED = 4
"""Suffixes at the end of a name that are looked at."""

Place = Callable[[NamedFile], str | None]
"""Where a format puts what a file holds; None when it has no place for the message."""


class DamagedFile(ArchiverError):
    """What the archive holds of a file is not what the message named."""

    def __init__(self, digest: str, trouble: str) -> None:
        super().__init__(
            f"what the archive holds of the file with the SHA-256 {digest} is damaged: {trouble}. "
            "Nothing of it was exported. archive.attachments tells which messages name it; without "
            "--files all else can be exported"
        )


class Content(Struct, frozen=True):
    """What a file holds, once."""

    path: str
    """In the export."""
    size_bytes: int | None
    """None when the archive says that it holds it, and does not."""


class Found(Struct):
    """The files that the messages of an export name."""

    contents: dict[str, Content] = {}
    """By digest, in the order in which messages name them."""
    named: int = 0
    not_kept: dict[str, int] = {}
    """By flow, how many of those that its messages name are not in the archive."""
    marks: dict[str, str] = {}
    """By name of part: what its messages name, and where it lies, as a digest."""

    @property
    def size_bytes(self) -> int:
        """How long all contents are together."""
        return sum(content.size_bytes or 0 for content in self.contents.values())

    def counted(self) -> NamedFiles:
        """What a manifest tells of them."""
        missing = sum(self.not_kept.values())
        return NamedFiles(
            named=self.named,
            kept=self.named - missing,
            contents=len(self.contents),
            bytes=self.size_bytes,
            not_kept=self.not_kept,
        )


class Links:
    """Where the files of messages lie, seen from the *folder* of what names them."""

    def __init__(self, found: Found, folder: str) -> None:
        self._contents = found.contents
        self._root = root_from(folder)

    def path(self, file: Mapping[str, Any]) -> str | None:
        """The path from the folder to what *file* holds; None when that is not in the archive."""
        content = self._contents.get(file.get("sha256") or "")
        return None if content is None else self._root + content.path


def root_from(folder: str) -> str:
    """The way from *folder*, a path in an export, to the export itself; nothing from there."""
    return "../" * (folder.count("/") + 1) if folder else ""


async def find_files(tx: Transaction, chosen: Selection, place: Place, *, by_month: bool) -> Found:
    """What the chosen messages name, and where what is kept of it goes."""
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
    """Write what a file holds, part by part; of each, *count* is told how long it is, and where.

    Raises:
        DamagedFile: it is not all in the archive, or something else.
    """
    if content.size_bytes is None:
        raise DamagedFile(digest, "it is said to be kept, and is not there")
    with shelf.file(content.path) as sink:
        async with aclosing(files.parts(tx, digest)) as parts:
            async for part in parts:
                sink.write(part)
                count(len(part), content.path)
        sink.flush()
        if sink.size_bytes != content.size_bytes:
            raise DamagedFile(
                digest, f"{sink.size_bytes:,} bytes are there of {content.size_bytes:,}"
            )
        if sink.sha256() != digest:
            raise DamagedFile(digest, f"the SHA-256 of what is there is {sink.sha256()}")


def plain_place(file: NamedFile) -> str:
    """``files/SHA-256/NAME``."""
    return f"{FILES}/{file.sha256}/{file_name(file.file_name)}"


def inert_place(file: NamedFile) -> str:
    """The same, where nothing that a browser would run is called as such."""
    path = plain_place(file)
    return path if _is_inert(file) else f"{path}.txt"


def _is_inert(file: NamedFile) -> bool:
    """Tell whether a browser that is led to *file* shows it, or hands it on, and runs nothing."""
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
    """Tell whether what lies at *path* is shown as a picture: of points, which cannot act."""
    return path.rpartition(".")[2].lower() in PICTURES


def file_name(name: str | None) -> str:
    """*name* as that of one file, safe as `safe_name` makes it, but with its suffix if it is long.

    A path that somebody gave is a name like any other: nothing in it leads anywhere.
    """
    name = name or "file"
    safe = safe_name(name)
    stem, dot, suffix = name.rpartition(".")
    if dot and _SUFFIX.fullmatch(suffix) and not safe.endswith(f".{suffix}"):
        safe = f"{safe_name(stem)}.{suffix}"
    # What begins with a dot is hidden from who looks into the folder.
    return f"%2E{safe[1:]}" if safe.startswith(".") else safe
