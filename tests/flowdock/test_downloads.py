"""Where the contents of files are fetched from, and who is shown the token, with real servers."""

import asyncio
import gzip
import random
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, suppress
from functools import partial
from io import BytesIO
from typing import Any, ClassVar

import aiohttp
import pytest
import trustme
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from typing_extensions import override
from yarl import URL

from archiver.flowdock.breaks import reason_of
from archiver.flowdock.downloads import (
    DownloadLimits,
    Downloads,
    Fence,
    NoFile,
)
from archiver.flowdock.refusals import AnswerTooLong, Garbled, StatusRefused, TokenRefused
from archiver.flowdock.retry import Gate
from archiver.flowdock.session import authorization
from archiver.flowdock.unpacking import PIECE_BYTES, Unpacker
from tests.flowdock.conftest import QUICK, Server, serving

TOKEN = "s3cret-t0ken"
PATH = "/files/123/ec53/picture.png"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Fetch = Callable[..., Awaitable[bytes]]


def answer(
    body: bytes = b"", *, status: int = 200, location: str | None = None, packing: str | None = None
) -> Answer:
    async def reply(_request: web.Request) -> web.Response:
        headers = {} if location is None else {"Location": location}
        if packing is not None:
            headers["Content-Encoding"] = packing
        return web.Response(body=body, status=status, headers=headers)

    return reply


def without_length(body: bytes, packing: str) -> Answer:
    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Encoding": packing})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for at in range(0, len(body), 9):
            await response.write(body[at : at + 9])
        return response

    return reply


async def cut_short(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"part")
    assert request.transport is not None
    request.transport.close()
    return response


@pytest.fixture
async def storage() -> AsyncIterator[Server]:
    """Another host: the same address with another port."""
    async with serving() as it:
        yield it


@pytest.fixture
def fetch(server: Server, clock: Any) -> Fetch:
    async def fetched(
        path: str = PATH,
        *,
        held: bytes = b"",
        silence_seconds: float = 30.0,
        gate: Gate | None = None,
        size_bytes: int | None = None,
    ) -> bytes:
        opened = Downloads(
            server.url,
            TOKEN,
            gate=gate or Gate(requests_per_second=1e6, concurrency=10),
            clock=clock,
            chance=random.Random(1),
            limits=DownloadLimits(
                most_bytes=1000, patience_seconds=0.5, silence_seconds=silence_seconds
            ),
            delays=QUICK,
        )
        sink = BytesIO(held)
        async with opened as downloads:
            await downloads.fetch(path, sink, size_bytes=size_bytes)
        return sink.getvalue()

    return fetched


async def test_the_token_does_not_go_where_a_redirect_leads(server, storage, fetch):
    server.reply(answer(status=302, location=f"{storage.url}/bucket/key?X-Signature=a%2Fb%20c"))
    storage.reply(answer(b"bytes"))
    assert await fetch() == b"bytes"
    [asked], [given] = server.requests, storage.requests
    assert asked.headers["Authorization"] == authorization(TOKEN)
    assert "Authorization" not in given.headers
    assert "Cookie" not in given.headers
    # Otherwise contents might come packed or unpacked, and not as long as the message says.
    assert asked.headers["Accept-Encoding"] == given.headers["Accept-Encoding"] == "identity"
    assert given.rel_url.raw_path_qs == "/bucket/key?X-Signature=a%2Fb%20c"


async def test_no_file_hinders_requests_for_pages(server, clock):
    gate = Gate(requests_per_second=1e6, concurrency=1)
    limits = DownloadLimits(most_bytes=9)
    server.reply(answer(b"bytes"))
    async with gate.request():
        opened = Downloads(
            server.url, TOKEN, gate=gate, clock=clock, chance=random.Random(1), limits=limits
        )
        async with opened as downloads, asyncio.timeout(5):
            await downloads.fetch(PATH, BytesIO(), size_bytes=None)
    assert gate.passed == 2


async def test_many_files_wait_for_their_turn_as_one_does(server, clock, leap):
    async def page() -> int:
        async with gate.request():
            return gate.passed

    gate = Gate(requests_per_second=0.01, concurrency=1)
    limits = DownloadLimits(most_bytes=9, answer_seconds=1e6, silence_seconds=1e6)
    server.reply(*[answer(b"bytes")] * 4)
    opened = Downloads(
        server.url, TOKEN, gate=gate, clock=clock, chance=random.Random(1), limits=limits
    )
    async with opened as downloads, asyncio.TaskGroup() as group:
        fetches = [downloads.fetch(PATH, BytesIO(), size_bytes=None) for _ in range(4)]
        tasks = [group.create_task(fetch) for fetch in fetches]
        await asyncio.sleep(0)
        behind = group.create_task(page())  # behind the file under way and the one that waits
        await asyncio.sleep(0)
        while not all(task.done() for task in (*tasks, behind)):
            leap(100)
            await asyncio.sleep(0.001)
    assert gate.passed == 5
    assert behind.result() <= 3


@pytest.mark.parametrize("size_bytes", [40, None])
async def test_a_file_may_take_as_long_as_its_bytes_do_at_the_least_speed(
    server, clock, size_bytes
):
    async def slowly(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with suppress(aiohttp.ClientConnectionResetError):
            for _ in range(4):
                await response.write(b"ten bytes ")
                await asyncio.sleep(0.1)
        return response

    async def fetched(*, least_bytes_per_second: float) -> bytes:
        limits = DownloadLimits(
            most_bytes=40,
            patience_seconds=0,
            answer_seconds=0.1,
            least_bytes_per_second=least_bytes_per_second,
        )
        gate = Gate(requests_per_second=1e6, concurrency=1)
        opened = Downloads(
            server.url, TOKEN, gate=gate, clock=clock, chance=random.Random(1), limits=limits
        )
        sink = BytesIO()
        async with opened as downloads:
            await downloads.fetch(PATH, sink, size_bytes=size_bytes)
        return sink.getvalue()

    server.reply(slowly)
    assert await fetched(least_bytes_per_second=4) == b"ten bytes " * 4
    with pytest.raises(TimeoutError, match="did not arrive in time"):
        await fetched(least_bytes_per_second=4000)


async def test_a_redirect_to_the_api_itself_is_asked_as_the_api(server, fetch):
    server.reply(answer(status=307, location="/_storage/1"), answer(b"bytes"))
    assert await fetch() == b"bytes"
    assert [one.path for one in server.requests] == [PATH, "/_storage/1"]
    assert all(one.headers["Authorization"] for one in server.requests)


async def test_storage_that_is_slow_keeps_nobody_waiting(server, storage, fetch):
    async def slow(_request: web.Request) -> web.Response:
        async with asyncio.timeout(5), gate.request():
            return web.Response(body=b"bytes")

    gate = Gate(requests_per_second=1e6, concurrency=1)
    server.reply(answer(status=302, location=f"{storage.url}/x"))
    storage.reply(slow)
    assert await fetch(gate=gate) == b"bytes"
    assert gate.answers == {"302": 1}


# Test ids contain packed bytes, and must be the same in all processes that run tests.
pack = partial(gzip.compress, mtime=0)
PACKED = pack(b"bytes of a table")


async def test_what_was_stored_packed_is_kept_so(server, fetch):
    server.reply(answer(PACKED, packing="gzip"))
    assert await fetch(size_bytes=len(PACKED)) == PACKED
    server.reply(answer(b"whatever it is", packing="br"))
    assert await fetch(size_bytes=14) == b"whatever it is"


async def test_without_a_length_the_file_is_what_is_as_long_as_it_should_be(server, fetch):
    server.reply(without_length(PACKED, "gzip"))
    assert await fetch(size_bytes=len(PACKED)) == PACKED
    server.reply(without_length(PACKED, "gzip"))
    assert await fetch(size_bytes=16) == b"bytes of a table"
    server.reply(without_length(PACKED, "gzip"))
    assert await fetch() == b"bytes of a table"

    much = gzip.compress(bytes(2000))
    server.reply(without_length(much, "gzip"))
    assert await fetch(size_bytes=len(much)) == much
    server.reply(without_length(b"whatever it is", "br"))
    assert await fetch(size_bytes=14) == b"whatever it is"
    server.reply(without_length(b"whatever it is", "br"))
    with pytest.raises(NoFile, match="arrived compressed"):
        await fetch(size_bytes=15)
    server.reply(*[without_length(bytes(1001), "gzip")] * 99)
    with pytest.raises(AnswerTooLong, match="1000 bytes"):
        await fetch(size_bytes=16)


@pytest.mark.parametrize("size_bytes", [16, None])
@pytest.mark.parametrize(
    ("sent", "packing"),
    [
        (PACKED, "gzip"),
        (PACKED, "X-GZip"),
        (pack(b"bytes of ") + pack(b"a table"), "gzip"),
        (zlib.compress(b"bytes of a table"), "deflate"),
        (b"bytes of a table", "identity"),
    ],
)
async def test_what_is_packed_for_the_way_is_unpacked(server, fetch, sent, packing, size_bytes):
    server.reply(answer(sent, packing=packing))
    assert await fetch(size_bytes=size_bytes) == b"bytes of a table"


@pytest.mark.parametrize(
    ("sent", "packing", "error", "told"),
    [  # the last is too long once it is unpacked
        (PACKED[:-1], "gzip", Garbled, "incomplete or"),
        (b"", "gzip", Garbled, "incomplete or"),
        (b"no gzip at all", "gzip", Garbled, "incomplete or"),
        (b"bytes", "br", NoFile, "arrived compressed"),
        (pack(bytes(2000)), "gzip", AnswerTooLong, "1000 bytes"),
    ],
)
async def test_what_cannot_be_unpacked_is_no_file(server, fetch, sent, packing, error, told):
    server.reply(*[answer(sent, packing=packing)] * 99)
    with pytest.raises(error, match=told):
        await fetch()


@pytest.mark.parametrize("at_once", [1, 7, 100_000])
def test_little_is_in_memory_of_what_unpacks_to_much(at_once: int) -> None:
    content = bytes(3 * PIECE_BYTES) + bytes(range(256))
    sent = gzip.compress(content)
    unpacker = Unpacker("the file")
    pieces = [
        piece
        for at in range(0, len(sent), at_once)
        for piece in unpacker.feed(sent[at : at + at_once])
    ]
    unpacker.end()
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= PIECE_BYTES


async def test_a_second_answer_does_not_stand_behind_the_first(server, fetch):
    server.reply(cut_short, answer(b"whole"))
    assert await fetch(held=b"of another file, and longer") == b"whole"


async def test_while_storage_is_away_each_file_is_asked_for_once(server, clock, leap):
    async def away(_request: web.Request) -> web.Response:
        leap(25)
        return web.Response(status=503)

    there, gone = answer(b"bytes"), answer(status=404)
    limits = DownloadLimits(most_bytes=1000, patience_seconds=60)
    async with downloading(server.url, a_gate(), clock, limits) as downloads:
        server.reply(away)
        with pytest.raises(StatusRefused):
            await downloads.fetch(PATH, BytesIO(), size_bytes=5)
        assert len(server.requests) > 2
        for reply, is_patient in ((away, False), (away, False), (gone, False), (away, True)):
            server.requests, server.answers = [], [reply]
            with pytest.raises(StatusRefused):
                await downloads.fetch(PATH, BytesIO(), size_bytes=5)
            assert (len(server.requests) > 1) == is_patient
        server.requests, server.answers = [], [there]
        await downloads.fetch(PATH, BytesIO(), size_bytes=5)
        server.requests, server.answers = [], [away, there]
        await downloads.fetch(PATH, BytesIO(), size_bytes=5)


@pytest.mark.parametrize(
    "path",
    [
        "/user",
        "/flows/acme/main/messages",
        "/flows/acme/main/files",
        "/private/1/messages",
        "/files/../user",
        "/files/a/../../user",
        "/files/./x",
        "/files//x",
        "/files/1/k/%2e%2e%2f%2E%2e/%2e%2e/user",
        "/files/",
        "https://elsewhere.example/files/1/x",
        "//elsewhere.example/files/1/x",
        "",
    ],
)
async def test_nothing_but_files_is_asked_for(server, fetch, path):
    server.reply(answer(b"secret"))
    with pytest.raises(NoFile):
        await fetch(path)
    assert server.requests == []


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/files/1/k/ a?b#c.png", "/files/1/k/%20a%3Fb%23c.png"),
        ("/files/1/k/a\nb.png", "/files/1/k/a%0Ab.png"),
        ("files/1/k/発.pdf", "/files/1/k/%E7%99%BA.pdf"),
        ("/flows/acme/main/files/1/x", "/flows/acme/main/files/1/x"),
        ("/private/1/2/files/k/100%.txt", "/private/1/2/files/k/100%25.txt"),
    ],
)
async def test_a_path_is_asked_for_as_it_is_written(server, fetch, path, asked):
    server.reply(answer(b"bytes"))
    assert await fetch(path) == b"bytes"
    assert [one.rel_url.raw_path_qs for one in server.requests] == [asked]


async def test_a_path_that_is_escaped_already_is_asked_for_so_next(server, fetch):
    server.reply(answer(status=404), answer(b"bytes"))
    assert await fetch("/files/1/k/a%20b.png") == b"bytes"
    assert [one.rel_url.raw_path for one in server.requests] == [
        "/files/1/k/a%2520b.png",
        "/files/1/k/a%20b.png",
    ]


@pytest.mark.parametrize(("path", "status"), [(PATH, 404), ("/files/1/k/a%20b.png", 403)])
async def test_what_is_not_given_is_not_asked_for_otherwise(server, fetch, path, status):
    server.reply(answer(status=status))
    with pytest.raises(StatusRefused):
        await fetch(path)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "location", ["", "ftp://elsewhere.example/x", "file:///etc/passwd", "http://", "http://[::1"]
)
async def test_a_redirect_that_leads_nowhere_is_told(server, fetch, location):
    server.reply(answer(status=302, location=location))
    with pytest.raises(NoFile, match=r"redirect"):
        await fetch()


@pytest.mark.parametrize(
    "host", ["a..b", "a" * 64, ".", "user:secret@{}", "user%3Ax:secret@{}", "127.1"]
)
async def test_a_redirect_to_a_host_that_cannot_be_is_told(server, fetch, host):
    itself = server.url.removeprefix("http://")
    server.reply(answer(status=302, location=f"http://{host.format(itself)}/x"))
    with pytest.raises(NoFile, match="without a usable address"):
        await fetch()


async def test_a_host_without_a_valid_certificate_is_told(server, fetch):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with serving(context) as unproven:
        itself = unproven.url.replace("http:", "https:")
        server.reply(answer(status=302, location=f"{itself}/x?X-Signature=s3cret"))
        with pytest.raises(aiohttp.ClientConnectorCertificateError) as told:
            await fetch()
    assert unproven.requests == []
    assert "certificate verify failed" in reason_of(told.value)
    assert "s3cret" not in reason_of(told.value)


async def test_redirects_end(server, fetch):
    server.reply(answer(status=302, location="/again"))
    with pytest.raises(NoFile, match="more than 3 redirects"):
        await fetch()
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (answer(status=401), TokenRefused),
        (answer(status=404), StatusRefused),
        (answer(status=500), StatusRefused),
        (answer(b"x" * 1001), AnswerTooLong),
        (cut_short, Garbled),
    ],
)
async def test_what_is_no_file_is_told_without_its_name(server, fetch, reply, error):
    server.reply(reply)
    with pytest.raises(error) as told:
        await fetch()
    assert "picture" not in str(told.value)


async def lost_in_the_head(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(b"HTTP/1.1 302 Found\r\nLocation: /x?X-Signature=s3cret\r\n")
    request.transport.close()
    return web.Response()


async def test_an_answer_that_breaks_off_in_its_head_is_not_quoted(server, fetch):
    server.reply(lost_in_the_head)
    with pytest.raises(Garbled) as told:
        await fetch()
    assert "s3cret" not in str(told.value)


async def test_an_address_that_does_not_answer_is_not_quoted(server, fetch):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, ExitStack() as others:
        port = deaf.getsockname()[1]
        for _ in range(4):  # these fill the queue, and nobody else is answered
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))
        leads_to = f"http://127.0.0.1:{port}/x?X-Signature=s3cret"
        server.reply(answer(status=302, location=leads_to))
        with pytest.raises(TimeoutError, match="did not arrive in time") as told:
            await fetch(silence_seconds=0.2)
    assert "s3cret" not in str(told.value)


async def test_another_host_that_wants_a_token_says_nothing_of_ours(server, storage, fetch):
    server.reply(answer(status=302, location=f"{storage.url}/x"))
    storage.reply(answer(status=401))
    with pytest.raises(StatusRefused):
        await fetch()


async def test_no_service_on_the_internet_leads_into_a_private_network():
    fence = Fence("8.8.8.8")
    for host in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1"):
        assert not await fence.is_open(host)
    assert await fence.is_open("1.1.1.1")
    connector = aiohttp.TCPConnector(resolver=fence)
    async with aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises(NoFile, match="private network"):
            await session.get("http://localhost:9/x")


async def test_a_service_in_a_private_network_may_lead_about_in_it():
    fence = Fence("localhost")
    assert await fence.is_open("10.0.0.1")
    found = await fence.resolve("localhost", 9, socket.AF_INET)
    assert [one["host"] for one in found] == ["127.0.0.1"]


async def test_a_name_may_lead_there_only_from_a_service_that_is_there():
    assert await Fence("127.0.0.1").resolve("localhost", 9, socket.AF_INET)
    with pytest.raises(NoFile):
        await Fence("8.8.8.8").resolve("localhost", 9, socket.AF_INET)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed_whatever_its_kind(server, fetch, status):
    server.reply(answer(status=status, location="/_storage/1"), answer(b"bytes"))
    assert await fetch() == b"bytes"


@pytest.mark.parametrize("status", [204, 206, 300])
async def test_an_answer_with_another_status_is_no_file(server, fetch, status):
    server.reply(answer(b"part", status=status))
    with pytest.raises(StatusRefused):
        await fetch()


async def test_a_file_may_be_just_as_long_as_the_settings_allow(server, fetch):
    server.reply(answer(b"x" * 1000))
    assert len(await fetch()) == 1000


@pytest.mark.parametrize("told", [{"answer_seconds": 0.2}, {"silence_seconds": 0.2}])
async def test_nobody_waits_for_ever_for_a_file(server, clock, told):
    async def part(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"part")
        await given_up.wait()
        return response

    given_up = asyncio.Event()
    server.reply(part)
    limits = DownloadLimits(most_bytes=1000, patience_seconds=0, **told)
    async with downloading(server.url, a_gate(), clock, limits) as downloads, asyncio.timeout(5):
        with pytest.raises(TimeoutError):
            await downloads.fetch(PATH, BytesIO(), size_bytes=None)
    given_up.set()


@pytest.mark.parametrize("status", [429, 503])
async def test_the_api_is_left_alone_for_as_long_as_it_asks(server, storage, clock, status):
    async def busy(_request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": "100"})

    limits = DownloadLimits(most_bytes=1000, patience_seconds=0)
    server.reply(answer(status=302, location=f"{storage.url}/x"), busy)
    storage.reply(busy)
    gate = a_gate()
    for held in (False, True):  # what storage asks for does not hold the API's gate
        async with downloading(server.url, gate, clock, limits) as downloads:
            with pytest.raises(StatusRefused):
                await downloads.fetch(PATH, BytesIO(), size_bytes=None)
        assert (gate.held_seconds() > 90) is held


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("http://files.example/x", "usable address"),
        ("https://10.0.0.1/x", "private network"),
        ("https://[::ffff:127.0.0.1]/x", "private network"),
        ("https://169.254.169.254/latest/meta-data", "private network"),
    ],
)
async def test_no_service_on_the_internet_leads_to_where_others_listen(clock, location, said):
    api = "https://8.8.8.8"
    limits = DownloadLimits(most_bytes=1000)
    async with downloading(api, a_gate(), clock, limits) as downloads:
        with pytest.raises(NoFile, match=said):
            await downloads._followed(URL(f"{api}/x"), location)
        assert await downloads._followed(URL(f"{api}/x"), "https://1.1.1.1/x?a=%2F")


class Names(AbstractResolver):
    """Resolves some names to fixed addresses."""

    addresses: ClassVar = {
        "public": ["1.1.1.1"],
        "private": ["10.0.0.1"],
        "both": ["1.1.1.1", "10.0.0.1"],
    }

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=one, port=port, family=family, proto=0, flags=0)
            for one in self.addresses[host]
        ]

    @override
    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("home", "host", "is_refused"),
    [
        ("public", "both", True),
        ("public", "private", True),
        ("both", "private", True),
        ("both", "both", False),  # the API itself is there, and gets the token
        ("private", "both", False),
    ],
)
async def test_a_name_with_an_address_that_is_private_is_private(
    monkeypatch, home, host, is_refused
):
    monkeypatch.setattr(aiohttp, "ThreadedResolver", Names)
    fence = Fence(home)
    if is_refused:
        with pytest.raises(NoFile, match="private network"):
            await fence.resolve(host, 9, socket.AF_INET)
    else:
        assert len(await fence.resolve(host, 9, socket.AF_INET)) == len(Names.addresses[host])


def a_gate() -> Gate:
    return Gate(requests_per_second=1e6, concurrency=10)


def downloading(url: str, gate: Gate, clock: Any, limits: DownloadLimits) -> Downloads:
    chance = random.Random(1)
    return Downloads(url, TOKEN, gate=gate, clock=clock, chance=chance, limits=limits, delays=QUICK)
