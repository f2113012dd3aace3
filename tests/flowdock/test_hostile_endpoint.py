"""A hostile endpoint: somebody who took Flowdock's place, or stands in between.

It gets no credentials that it should not have, and cannot take memory or time without limit.
"""

import asyncio
import gzip
import random
import ssl
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import cache
from itertools import cycle
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import web

from archiver.flowdock.client import UNANSWERED, Client, Limits
from archiver.flowdock.clock import host_time
from archiver.flowdock.refusals import AnswerTooLong, Garbled, Redirected
from archiver.flowdock.retry import Delays, Gate, is_transient
from archiver.flowdock.session import open_session
from archiver.flowdock.shards import Shard
from archiver.flowdock.stream import Closed, Frames, Occurrence, follow
from tests.flowdock.conftest import Server, serving

QUICK = Delays(error_step_seconds=0.001, refusal_start_seconds=0.001)
LIMIT_BYTES = 100_000
MOST_BYTES = 4_000_000
"""The most memory that an answer may take, buffers included, if `LIMIT_BYTES` are allowed."""
NOTHING = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

Speaks = Callable[[asyncio.StreamWriter], Awaitable[None]]


def client(session: aiohttp.ClientSession, url: str, clock: Any, **limits: Any) -> Client:
    return Client(
        session,
        url,
        "s3cret-t0ken",
        gate=Gate(requests_per_second=1e6, concurrency=10),
        clock=clock,
        chance=random.Random(1),
        limits=Limits(**{"patience_seconds": 0.0, "body_bytes": LIMIT_BYTES, **limits}),
        delays=QUICK,
    )


async def occurrences(
    session: aiohttp.ClientSession, url: str, clock: Any, *, silence_seconds: float = 2.0
) -> list[Occurrence]:
    """What happens on a stream until its first connection, or attempt to connect, is over."""
    seen: list[Occurrence] = []
    following = follow(
        session,
        url,
        Shard(flows=("acme/main",)),
        token="s3cret-t0ken",
        gate=Gate(requests_per_second=1e6, concurrency=1),
        clock=clock,
        service_time=clock,
        chance=random.Random(1),
        delays=QUICK,
        silence_seconds=silence_seconds,
        frame_limit_bytes=LIMIT_BYTES,
    )
    async with aclosing(following) as stream:
        async for occurrence in stream:
            seen.append(occurrence)
            if isinstance(occurrence, Closed):
                break
    return seen


@contextmanager
def little_memory() -> Iterator[None]:
    """Assert that the block takes no more than `MOST_BYTES` of memory at any time."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST_BYTES


@asynccontextmanager
async def speaking(speak: Speaks) -> AsyncIterator[str]:
    """The URL of a server that answers any request with what *speak* writes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await speak(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"


def endlessly(start: bytes, again: bytes, *, pause_seconds: float = 0.0) -> Speaks:
    """An answer that is *start*, and then *again* for as long as somebody listens."""

    async def speak(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        for piece in cycle([again]):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_seconds)

    return speak


SECRET = b'"api_token":"no-t0ken-to-tell"'
CHUNKED = NOTHING + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        NOTHING + b"X-Chat: " + SECRET + b"\r\n",
        NOTHING + SECRET + b"\r\n\r\n",
        NOTHING + b"Content-Length: " + SECRET + b"\r\n\r\n",
        NOTHING + b"Content-Length: 99\r\n\r\n" + SECRET,
        NOTHING + b"Content-Encoding: gzip\r\n\r\n" + SECRET,
        NOTHING + SECRET * 1000,
        CHUNKED + b"2\r\n[{\r\n" + SECRET + b"\r\n",
        SECRET + b"\r\n\r\n",
    ],
)
async def test_an_answer_that_is_torn_is_told_without_its_words(
    session: Any, clock: Any, answer: bytes
) -> None:
    """The error is stored with the gap, and shown to everybody who reads the archive."""

    async def speak(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    async with speaking(speak) as url:
        with pytest.raises(Garbled) as caught:
            await client(session, url, clock).page("acme/main", newest=True)
    assert "t0ken" not in repr(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirection_is_followed(
    server: Server, session: Any, clock: Any, status: int
) -> None:
    async with serving() as other:

        async def elsewhere(_request: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": f"{other.url}/taken"})

        server.reply(elsewhere)
        with pytest.raises(Redirected):
            await client(session, server.url, clock).flows()
        with pytest.raises(Redirected):
            await occurrences(session, server.url, clock)
        await host_time(session, server.url)

        assert [request.path for request in server.requests] == ["/flows", "/flows", "/"]
        assert "Authorization" not in server.requests[2].headers
        assert other.requests == []


async def test_neither_cookies_nor_passwords_of_the_environment_are_sent(
    server: Server, clock: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login root password of-another-place\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response([], headers={"Set-Cookie": "followed=1"})

    server.reply(answer)
    async with open_session() as session:
        for _ in range(2):
            await client(session, server.url, clock).flows()
        await host_time(session, server.url)
    assert "Authorization" not in server.requests[2].headers
    assert all("Cookie" not in request.headers for request in server.requests)


@asynccontextmanager
async def encrypted(name: str, authority: trustme.CA) -> AsyncIterator[tuple[Server, str]]:
    """A server with a certificate of *authority* for *name*, and its URL at 127.0.0.1."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response([])

    async with serving(context) as it:
        it.reply(answer)
        yield it, it.url.replace("http:", "https:")


async def test_who_cannot_prove_to_be_the_host_gets_no_request(session: Any, clock: Any) -> None:
    authority = trustme.CA()
    async with encrypted("127.0.0.1", authority) as (it, url):
        with pytest.raises(aiohttp.ClientConnectorCertificateError) as caught:
            await client(session, url, clock).flows()
        (closed,) = await occurrences(session, url, clock)
        assert isinstance(closed, Closed)
        assert closed.connection is None
        assert it.requests == []
    assert not is_transient(caught.value)
    assert isinstance(caught.value, UNANSWERED)


@pytest.mark.parametrize(("name", "is_right"), [("127.0.0.1", True), ("other.example", False)])
async def test_a_certificate_is_held_against_the_name_of_the_host(
    clock: Any, monkeypatch: pytest.MonkeyPatch, name: str, is_right: bool
) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    # aiohttp made its own context when it was imported; this one trusts our authority.
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", context)
    async with open_session() as session, encrypted(name, authority) as (it, url):
        if is_right:
            assert await client(session, url, clock).flows() == []
        else:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await client(session, url, clock).flows()
        assert len(it.requests) == is_right


def deflated(data: bytes) -> bytes:
    raw = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return raw.compress(data) + raw.flush()


@cache
def filler() -> bytes:
    return b"x" * 20_000_000


BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: gzip.compress(filler(), 1),
    "deflate": lambda: zlib.compress(filler(), 1),
    "raw deflate": lambda: deflated(filler()),
    "gzip of gzip": lambda: gzip.compress(gzip.compress(filler(), 1)),
    "members": lambda: gzip.compress(b"x" * 1000) * 20_000,
}


@pytest.mark.parametrize("kind", BOMBS)
async def test_what_is_compressed_bursts_at_the_limit(
    server: Server, session: Any, clock: Any, kind: str
) -> None:
    encoding = "deflate" if "deflate" in kind else "gzip"
    encoding += ", gzip" if kind == "gzip of gzip" else ""
    bomb = BOMBS[kind]()

    async def answer(_request: web.Request) -> web.Response:
        headers = {"Content-Encoding": encoding}
        return web.Response(body=bomb, headers=headers, content_type="application/json")

    server.reply(answer)
    with little_memory(), pytest.raises((AnswerTooLong, *UNANSWERED)):
        await client(session, server.url, clock).flows()
    assert len(server.requests) == 1


async def test_a_compressed_stream_is_cut_at_the_limit_of_a_frame(
    server: Server, session: Any, clock: Any
) -> None:
    bomb = gzip.compress(b"data: " + filler() + b"\n\ndata: 1\n\n", 1)

    async def answer(_request: web.Request) -> web.Response:
        headers = {"Content-Encoding": "gzip"}
        return web.Response(body=bomb, headers=headers, content_type="text/event-stream")

    server.reply(answer)
    with little_memory():
        seen = await occurrences(session, server.url, clock, silence_seconds=20)
    frames = [frame for one in seen if isinstance(one, Frames) for frame in one.frames]
    assert frames == [b"x" * LIMIT_BYTES, b"1"]


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "identity", "x"])
async def test_other_encodings_are_no_way_around_the_limit(
    server: Server, session: Any, clock: Any, encoding: str
) -> None:
    async def answer(_request: web.Request) -> web.Response:
        headers = {"Content-Encoding": encoding}
        body = b"(\xb5/\xfd\x04X" + b" " * 2 * LIMIT_BYTES
        return web.Response(body=body, headers=headers, content_type="application/json")

    server.reply(answer)
    with little_memory(), pytest.raises((AnswerTooLong, *UNANSWERED)):
        await client(session, server.url, clock).flows()


ENDLESS = {
    "a status line": endlessly(b"HTTP/1.1 200 ", b"O" * 1000),
    "a header": endlessly(NOTHING + b"X-More: ", b"x" * 1000),
    "headers": endlessly(NOTHING, b"X-More: 1\r\n" * 100),
    "interim answers": endlessly(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "a body": endlessly(NOTHING + b"\r\n", b" " * 1000),
    "an extension of a chunk": endlessly(
        NOTHING + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x" * 1000
    ),
    "trailers": endlessly(
        NOTHING + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n", b"X-More: 1\r\n" * 100
    ),
}


@pytest.mark.parametrize("kind", ENDLESS)
async def test_what_has_no_end_is_given_up(session: Any, clock: Any, kind: str) -> None:
    async with speaking(ENDLESS[kind]) as url:
        with little_memory(), pytest.raises((AnswerTooLong, *UNANSWERED)):
            await client(session, url, clock, answer_seconds=0.5).flows()
        if kind != "a body":  # a stream is an endless body
            with little_memory():
                seen = await occurrences(session, url, clock, silence_seconds=0.5)
            assert isinstance(seen[-1], Closed)
            assert not any(isinstance(one, Frames) for one in seen)


@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1 200 OK\r\nX-More: ", NOTHING + b"\r\n[", NOTHING + b"Content-Length: 999\r\n\r\n["],
    ids=["head", "body", "body of known length"],
)
async def test_what_drips_is_given_up(session: Any, clock: Any, start: bytes) -> None:
    async with speaking(endlessly(start, b" ", pause_seconds=0.01)) as url:
        with pytest.raises(TimeoutError):
            await client(session, url, clock, answer_seconds=0.1).flows()
        if b"\r\n\r\n" not in start:
            (closed,) = await occurrences(session, url, clock, silence_seconds=0.1)
            assert isinstance(closed, Closed)
            assert closed.reason == "no answer"
