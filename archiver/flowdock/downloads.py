"""Downloads the files that are attached to messages.

A message names the path of a file. The API answers a GET of that path with a redirect to the host
that stores the bytes, which is valid for a short time. The token is for the API alone and is not
sent to that host.

Both the path and the redirect are untrusted input. So only paths of files are requested, whatever a
message says. And if the service is on the internet, no redirect to a private address is followed:
its author could otherwise have the archive fetch what only this machine can reach.

Files are requested without compression. Of a file that was compressed before it was uploaded,
storage may say that it was compressed for transfer; decompressing it would give another file. So a
body that is as long as the message says is taken as it is, and any other that is declared as
compressed is decompressed.
"""

import asyncio
import random
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from ipaddress import ip_address
from tempfile import SpooledTemporaryFile
from typing import IO, Self
from urllib.parse import quote, unquote

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import Struct
from typing_extensions import override
from yarl import URL

from archiver.errors import ArchiverError
from archiver.flowdock.refusals import AnswerTooLong, Garbled, StatusRefused, TokenRefused
from archiver.flowdock.retry import DELAYS, Delays, Gate, is_transient, retry_after, retrying
from archiver.flowdock.session import QUOTING, authorization, open_session
from archiver.flowdock.unpacking import PACKINGS, PIECE_BYTES, Unpacker

_FILE = re.compile(
    r"/(?:files|flows/[^/]+/[^/]+/files|private/[0-9]+/[0-9]+/files)/[^/].*", re.DOTALL
)
_ESCAPED = re.compile(r"%[0-9A-Fa-f]{2}")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS = 3
FILE = "the file"
"""What errors call a file: they are logged, and its name is text that somebody wrote."""
NOWHERE = f"{FILE} was answered with a redirect without a usable address"
PRIVATE = f"{FILE} was answered with a redirect into a private network"
PACKED = f"{FILE} arrived compressed, which was not requested"
NOT_IN_TIME = f"{FILE} did not arrive in time"
_HOLDS = frozenset({429, 503})
IDENTITY = "identity"
"""The Content-Encoding of what is not compressed."""


class NoFile(ArchiverError):
    """A file that cannot be requested, or whose answer is of no use; the text says why."""


class DownloadLimits(Struct, frozen=True, kw_only=True):
    """What a file may cost."""

    most_bytes: int
    """The greatest length of a file."""
    patience_seconds: float = 10.0
    """How long a file is retried before its error is raised; it is tried once while storage is
    away."""
    answer_seconds: float = 900.0
    """How long a download may take, in addition to the time for its bytes at the least speed."""
    least_bytes_per_second: float = 64 * 1024.0
    silence_seconds: float = 30.0
    """How long a download may go without any data."""


class Downloads:
    """Downloads the files that one account may read; to be used with ``async with``."""

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        gate: Gate,
        clock: Callable[[], datetime],
        chance: random.Random,
        limits: DownloadLimits,
        delays: Delays = DELAYS,
    ) -> None:
        self._base = URL(base_url.rstrip("/"))
        self._authorization = authorization(token)
        self._gate = gate
        self._clock = clock
        self._chance = chance
        self._limits = limits
        self._delays = delays
        self._order = asyncio.Lock()
        self._is_away = False
        self._fence = Fence(str(self._base.raw_host))
        self._session = open_session(self._fence)

    @property
    def most_bytes(self) -> int:
        """The greatest length of a file."""
        return self._limits.most_bytes

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()

    async def fetch(self, path: str, sink: IO[bytes], *, size_bytes: int | None) -> None:
        """Write the file at *path* into *sink*, from its start.

        *size_bytes* is the length that the service states; the caller verifies it.

        Raises:
            NoFile: *path* is not that of a file, or the answer is of no use.
            TokenRefused, StatusRefused, AnswerTooLong, Garbled: depending on the answer. Also
                aiohttp's errors or `TimeoutError` when no answer came in time.
        """
        asked = "/" + path.lstrip("/")
        # It must be a file's path both before and after unescaping: servers differ in which counts.
        segments = {*asked[1:].split("/"), *unquote(asked)[1:].split("/")}
        if not _FILE.fullmatch(asked) or segments & {"", ".", ".."}:
            raise NoFile("its path is not that of a Flowdock file")
        try:
            await self._fetch_patiently(quote(asked, safe="/"), sink, size_bytes)
        except StatusRefused as refused:
            # It is not documented whether the paths in messages are escaped already.
            if refused.status != 404 or not _ESCAPED.search(asked):
                raise
            await self._fetch_patiently(quote(asked, safe="/%"), sink, size_bytes)

    async def _fetch_patiently(self, path: str, sink: IO[bytes], size_bytes: int | None) -> None:
        """Call `_fetch_once`, and retry while errors are transient.

        After a file for which all retries have failed, each file is tried only once, until one is
        answered: there may be a hundred thousand, and none can be had while storage is away.
        """
        patience = 0.0 if self._is_away else self._limits.patience_seconds
        again = retrying(patience, self._delays, self._chance)
        try:
            await again(self._fetch_once, path, sink, size_bytes)
        except (ArchiverError, aiohttp.ClientError, TimeoutError) as error:
            self._is_away = is_transient(error)
            raise
        self._is_away = False

    async def _fetch_once(self, path: str, sink: IO[bytes], size_bytes: int | None) -> None:
        sink.seek(0)
        sink.truncate()
        url = URL(f"{self._base}{path}", encoded=True)
        for _ in range(MOST_REDIRECTS + 1):
            try:
                elsewhere = await self._ask(url, sink, size_bytes)
            except QUOTING:
                raise Garbled(FILE) from None
            except TimeoutError:
                raise TimeoutError(NOT_IN_TIME) from None  # aiohttp names the signed address
            except aiohttp.ClientConnectorCertificateError:
                raise  # it is a ValueError, too
            except ValueError:  # an invalid host, or a URL with a user in it
                raise NoFile(NOWHERE) from None
            if elsewhere is None:
                return
            url = elsewhere
        raise NoFile(f"{FILE} was answered with more than {MOST_REDIRECTS} redirects")

    async def _ask(self, url: URL, sink: IO[bytes], size_bytes: int | None) -> URL | None:
        """Call `_get`; for a request to the API, wait for the gate first.

        The request takes its turn in the API's rate, but does not occupy one of the gate's slots:
        should the API send the bytes itself, a large file would take minutes in which pages are
        needed. Only one file at a time waits for its turn: many would hold up the pages after them.
        """
        if url.origin() != self._base.origin():
            return await self._get(url, sink, size_bytes, is_api=False)
        async with self._order:
            await self._gate.turn()
        try:
            return await self._get(url, sink, size_bytes, is_api=True)
        except (aiohttp.ClientError, OSError) as error:
            self._gate.answered(error)
            raise

    async def _get(
        self, url: URL, sink: IO[bytes], size_bytes: int | None, *, is_api: bool
    ) -> URL | None:
        """Request *url* and write its body to *sink*; if it is redirected, return the target."""
        headers = {"Accept": "*/*", "Accept-Encoding": IDENTITY}
        if is_api:
            headers["Authorization"] = self._authorization
        async with self._session.get(
            url,
            headers=headers,
            timeout=self._timeout(size_bytes),
            allow_redirects=False,
            auto_decompress=False,
        ) as response:
            status = response.status
            if is_api:
                self._gate.answered(status)
                if status in _HOLDS:
                    self._gate.hold(retry_after(response.headers, now=self._clock()) or 0.0)
                if status == 401:
                    raise TokenRefused
            if status in _REDIRECTS:
                return await self._followed(url, response.headers.get("Location", ""))
            if status != 200:
                raise StatusRefused(FILE, status)
            await self._take(response, sink, size_bytes)
        return None

    def _timeout(self, size_bytes: int | None) -> aiohttp.ClientTimeout:
        limits = self._limits
        most_bytes = min(limits.most_bytes, size_bytes or limits.most_bytes)
        return aiohttp.ClientTimeout(
            total=limits.answer_seconds + most_bytes / limits.least_bytes_per_second,
            sock_connect=limits.silence_seconds,
            sock_read=limits.silence_seconds,
        )

    async def _take(
        self, response: aiohttp.ClientResponse, sink: IO[bytes], size_bytes: int | None
    ) -> None:
        """Write the body of *response* to *sink*, decompressed if it must be."""
        packing = response.headers.get("Content-Encoding", IDENTITY).strip().lower()
        chunks: AsyncIterator[bytes] = response.content.iter_any()
        length = response.content_length
        with SpooledTemporaryFile(max_size=PIECE_BYTES) as held:
            if packing != IDENTITY and length is None and size_bytes is not None:
                # Only when all of it is here does its length show whether to decompress it.
                await self._write(response, chunks, held)
                chunks, length = _read(held), held.tell()
            is_the_file = length is not None and length == size_bytes
            if packing == IDENTITY or is_the_file:
                await self._write(response, chunks, sink)
            else:
                await self._unpack(response, packing, chunks, sink)

    async def _unpack(
        self,
        response: aiohttp.ClientResponse,
        packing: str,
        chunks: AsyncIterator[bytes],
        sink: IO[bytes],
    ) -> None:
        """Decompress the *chunks* of *response* into *sink*.

        Raises:
            NoFile: the compression is of an unknown kind. Also what `_write` raises.
        """
        if packing not in PACKINGS:
            raise NoFile(PACKED)
        unpacker = Unpacker(FILE)
        await self._write(response, chunks, sink, unpacker.feed)
        unpacker.end()

    async def _write(
        self,
        response: aiohttp.ClientResponse,
        chunks: AsyncIterator[bytes],
        sink: IO[bytes],
        unpack: Callable[[bytes], Iterable[bytes]] = lambda chunk: (chunk,),
    ) -> None:
        """Write what *unpack* makes of the *chunks* of *response* to *sink*.

        Raises:
            AnswerTooLong: it is longer than a file may be. Also what *unpack* raises.
        """
        length = 0
        async for chunk in chunks:
            for piece in unpack(chunk):
                length += len(piece)
                if length > self._limits.most_bytes:
                    response.close()
                    raise AnswerTooLong(FILE, self._limits.most_bytes)
                sink.write(piece)

    async def _followed(self, url: URL, location: str) -> URL:
        """The target of a redirect to *location* that answered *url*.

        Raises:
            NoFile: it is not a valid target, or no file of the service can be there.
        """
        try:
            target = url.join(URL(location, encoded=True))
            host = target.raw_host
        except ValueError:
            raise NoFile(NOWHERE) from None
        if not host or target.scheme not in {"https", self._base.scheme}:
            raise NoFile(NOWHERE)
        if not await self._fence.is_open(host):
            raise NoFile(PRIVATE)
        return target


async def _read(held: IO[bytes]) -> AsyncIterator[bytes]:
    """The contents of *held*, from the start."""
    held.seek(0)
    while piece := held.read(PIECE_BYTES):
        yield piece
        await asyncio.sleep(0)


class Fence(AbstractResolver):
    """Resolves host names; if the service is on the internet, refuses private addresses.

    aiohttp connects to the addresses that were checked here, so a name cannot change its address
    between the check and the use.
    """

    def __init__(self, home: str) -> None:
        self._home = home
        self._resolver = aiohttp.ThreadedResolver()
        self._is_home_open: bool | None = None

    async def is_open(self, host: str) -> bool:
        """Tell whether *host* may be contacted; if it is a name, `resolve` checks its addresses."""
        try:
            address = ip_address(host)
        except ValueError:
            return True
        return address.is_global or not await self._home_is_open()

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if host == self._home:
            return found
        are_open = all(ip_address(one["host"]).is_global for one in found)
        if not are_open and await self._home_is_open():
            raise NoFile(PRIVATE)
        return found

    @override
    async def close(self) -> None:
        await self._resolver.close()

    async def _home_is_open(self) -> bool:
        """Tell whether the API itself is on the internet."""
        if self._is_home_open is None:
            try:
                addresses = [ip_address(self._home)]
            except ValueError:
                found = await self._resolver.resolve(self._home, 0, socket.AF_UNSPEC)
                addresses = [ip_address(one["host"]) for one in found]
            self._is_home_open = any(address.is_global for address in addresses)
        return self._is_home_open
