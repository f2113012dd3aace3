"""Fetching the contents of the files that messages name, and storing them.

A file is not an event: it cannot be edited, and it proves nothing. So files are fetched separately,
a few at a time, by the daemon that captures their flow. A file that the service does not give is
retried with growing pauses, and `archive.attachments` shows why.

The contents must be as long as the message says, since a proxy's error page or a part of the file
is not the file.
"""

import asyncio
import hashlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, NoReturn, TypeVar

from archiver.errors import ArchiverError
from archiver.flowdock.breaks import reason_of
from archiver.flowdock.client import UNANSWERED
from archiver.flowdock.downloads import Downloads
from archiver.flowdock.refusals import TokenRefused
from archiver.ingest.apply import when_possible
from archiver.ingest.source import Source
from archiver.store import files
from archiver.store.connection import Transaction
from archiver.store.files import DueFile

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How often to look for files that are due."""
AT_ONCE = 4
"""How many files to fetch concurrently: where they are stored may be slow."""
LOOKED_UP = 100
"""How many due files to look up at once: each look sorts all that are due, maybe a million.

It is more than `AT_ONCE`, so at least one of them is not being fetched already."""
FIRST_REST = timedelta(minutes=1)
IN_MEMORY_BYTES = 1024 * 1024
"""Larger contents are held in a temporary file until the archive has them."""
READ_BYTES = 1024 * 1024
TOO_LONG = "more than files.largest_bytes allows"

T = TypeVar("T")
Opened = Callable[[], Downloads]
"""Opens the downloads of an account."""


class NotWhole(ArchiverError):
    """The received contents are not as long as the service says that the file is."""

    kind = "its length is not what Flowdock says"

    def __init__(self, *, came: int, told: int) -> None:
        super().__init__(f"{came:,} bytes arrived, but Flowdock says {told:,}")


class TooLong(ArchiverError):
    """The service says that a file is longer than the settings allow."""

    kind = "it is longer than files.largest_bytes allows"

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"it has {size_bytes:,} bytes, {TOO_LONG}")


async def keep_files(source: Source, opened: Opened) -> NoReturn:
    """Fetch the files of the account's flows, for ever.

    Files that were too long are due at once if the settings now allow their size.

    Raises:
        TokenRefused: the account is locked out; among others in a group.
    """
    async with opened() as downloads, asyncio.TaskGroup() as group:
        allow = partial(files.allow, left_as=TOO_LONG, largest_bytes=downloads.most_bytes)
        await when_possible(source.engine, allow)
        fetching = _Fetching(source, downloads, group)
        while True:
            if not await fetching.begin_next():
                await asyncio.sleep(LOOK_SECONDS)


async def fetch_all(source: Source, opened: Opened) -> None:
    """Fetch the files of the account's flows once, including those that wait to be retried.

    Raises:
        TokenRefused: the account is locked out; among others in a group.
    """
    hasten = partial(files.hasten, flow_keys=list(source.paths))
    by = await when_possible(source.engine, hasten)
    async with opened() as downloads, asyncio.TaskGroup() as group:
        fetching = _Fetching(source, downloads, group, by=by)
        while await fetching.begin_next():
            pass


class _Fetching:
    """Fetches several files concurrently; with *by*, only those that were due by that time.

    All accounts together use one database connection for files at a time, since events need the
    others.
    """

    def __init__(
        self,
        source: Source,
        downloads: Downloads,
        group: asyncio.TaskGroup,
        *,
        by: datetime | None = None,
    ) -> None:
        self._source = source
        self._downloads = downloads
        self._group = group
        self._by = by
        self._under_way: set[tuple[int, str]] = set()
        self._waiting: deque[DueFile] = deque()
        self._looked_at = 0.0
        self._room = asyncio.Semaphore(AT_ONCE)

    async def begin_next(self) -> bool:
        """Wait for room, then begin to fetch the file that is due first; tells if there is one."""
        await self._room.acquire()
        now = asyncio.get_running_loop().time()
        if not self._waiting or now - self._looked_at >= LOOK_SECONDS:
            self._waiting = deque(await self._look())
            self._looked_at = now
        if not self._waiting:
            self._room.release()
            return False
        one = self._waiting.popleft()
        self._under_way.add((one.flow_key, one.path))
        self._group.create_task(self._fetch(one))
        return True

    async def _look(self) -> list[DueFile]:
        """The files that are due first, without those being fetched."""
        due = partial(files.due, flow_keys=self._source.ours(), most=LOOKED_UP, by=self._by)
        found = await self._done(due)
        return [one for one in found if (one.flow_key, one.path) not in self._under_way]

    async def _fetch(self, one: DueFile) -> None:
        try:
            with _temporary() as content:
                await self._keep(one, content)
        finally:
            self._under_way.remove((one.flow_key, one.path))
            self._room.release()

    async def _keep(self, one: DueFile, content: IO[bytes]) -> None:
        try:
            sha256 = await _download(self._downloads, one, content)
        except TokenRefused as error:
            await _require_token(self._source)
            await self._leave(one, error)
            return
        except (*UNANSWERED, OSError) as error:  # OSError: no room for the temporary file
            await self._leave(one, error)
            return
        try:
            await self._done(partial(files.keep, one=one, content=content, sha256=sha256))
        except files.NoRoom as error:  # not retried: a smaller file may fit, and events need room
            await self._leave(one, error)

    async def _leave(self, one: DueFile, error: BaseException) -> None:
        rest = min(FIRST_REST * 2 ** min(one.attempts, 20), files.LONGEST_REST)
        await self._done(partial(files.fail, one=one, error=reason_of(error), rest=rest))
        # Log a reason without the file's numbers, so that a failure that all files share, such as
        # a proxy's page, is logged as one.
        reason = getattr(error, "kind", reason_of(error))
        about = {"flow": self._source.paths.get(one.flow_key), "reason": reason}
        log.warning("cannot fetch a file, trying again later", extra=about)

    async def _done(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        async with self._source.filing:
            return await when_possible(self._source.engine, work)


async def _require_token(source: Source) -> None:
    """Find out whether the token is refused altogether, or only for a file.

    Raises:
        TokenRefused: it is refused altogether.
    """
    try:
        await source.client.me()
    except TokenRefused:
        raise
    except UNANSWERED:
        return  # another request will find out


@contextmanager
def _temporary() -> Iterator[IO[bytes]]:
    content = SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115
    try:
        yield content
    finally:
        with suppress(OSError):  # closing retries a write for which there was no room
            content.close()


async def _download(downloads: Downloads, one: DueFile, content: IO[bytes]) -> str:
    """Fetch a file into *content*; returns its SHA-256 digest."""
    if one.size_bytes is not None and one.size_bytes > downloads.most_bytes:
        raise TooLong(one.size_bytes)
    await downloads.fetch(one.path, content, size_bytes=one.size_bytes)
    size = content.tell()
    if one.size_bytes not in {None, size}:
        raise NotWhole(came=size, told=one.size_bytes or 0)
    content.seek(0)
    digest = hashlib.sha256()
    while piece := content.read(READ_BYTES):
        digest.update(piece)
        await asyncio.sleep(0)
    return digest.hexdigest()
