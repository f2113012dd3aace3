"""What happens on a stream, whatever network and server do, with a real server."""

import asyncio
import errno
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.client_reqrep import ConnectionKey
from typing_extensions import override

from archiver.flowdock.breaks import reason_of, why_broken, why_unconnected
from archiver.flowdock.framing import EventStreamFramer
from archiver.flowdock.refusals import HeadTooLong, Redirected, ShardRefused, TokenRefused
from archiver.flowdock.retry import Gate
from archiver.flowdock.shards import Shard
from archiver.flowdock.stream import Closed, Frames, Opened, follow
from tests.flowdock.conftest import QUICK

TOKEN = "s3cret-t0ken"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
SHARD = Shard(flows=("acme/main", "acme/dev"), private=True)
SERVICE_TIME = datetime(2023, 5, 1, tzinfo=UTC)


class Recording(Gate):
    """A gate that only records for how long it was asked to hold."""

    held: tuple[float, ...] = ()

    @override
    def hold(self, seconds: float) -> None:
        self.held += (seconds,)


def stream(
    *chunks: bytes, then: str = "end", content_type: str = "text/event-stream", **headers: str
) -> Answer:
    """A stream of *chunks*, one packet each, that ends, hangs or is cut *then*."""

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": content_type, **headers})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0.005)
        if then == "hang":
            await asyncio.Event().wait()
        if then == "cut":
            assert request.transport is not None
            request.transport.abort()
        return response

    return reply


def status(code: int, **headers: str) -> Answer:
    async def reply(_request: web.Request) -> web.Response:
        return web.Response(
            status=code, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )

    return reply


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def never(_request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


HANG = stream(then="hang")


@pytest.fixture
def listen(server: Any, session: Any, clock: Any) -> Callable[..., Any]:
    def open_stream(
        *answers: Answer, shard: Shard = SHARD, gate: Gate | None = None, **more: Any
    ) -> Any:
        server.reply(*answers)
        return follow(
            session,
            server.url,
            shard,
            token=TOKEN,
            gate=gate or Recording(requests_per_second=1e6, concurrency=1),
            clock=clock,
            service_time=lambda: SERVICE_TIME,
            chance=random.Random(1),
            delays=QUICK,
            **more,
        )

    return open_stream


async def until_closed(stream: Any, times: int = 1) -> list[Any]:
    """The occurrences until so many connections, or attempts to connect, are over."""
    seen: list[Any] = []
    async with aclosing(stream) as occurrences:
        async for occurrence in occurrences:
            seen.append(occurrence)
            if isinstance(occurrence, Closed):
                times -= 1
                if not times:
                    break
    return seen


def frames_in(seen: list[Any]) -> list[bytes]:
    return [frame for it in seen if isinstance(it, Frames) for frame in it.frames]


def reasons_in(seen: list[Any]) -> list[str]:
    return [it.reason for it in seen if isinstance(it, Closed)]


async def test_a_connection_opens_brings_frames_and_closes(listen: Any) -> None:
    seen = await until_closed(listen(stream(b'data: {"id":1}\n\n', b'data: {"id":2}\n\n')))

    assert [type(it) for it in seen] == [Opened, Frames, Frames, Closed]
    opened, first, second, closed = seen
    assert (opened.connection, closed.connection, closed.reason) == (1, 1, "ended")
    assert first.received_at < second.received_at
    assert frames_in(seen) == [b'{"id":1}', b'{"id":2}']


@pytest.mark.parametrize(
    ("date", "answered_at"),
    [
        ("Tue, 02 May 2023 03:04:05 GMT", datetime(2023, 5, 2, 3, 4, 5, tzinfo=UTC)),
        ("Sun, 30 Apr 2023 22:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None),
        ("", None),
    ],
)
async def test_a_stream_that_tells_no_time_or_one_gone_by_was_opened_by_the_clock_of_the_service(
    listen: Any, date: str, answered_at: datetime | None
) -> None:
    opened, *_ = await until_closed(listen(stream(b"\n", Date=date)))
    assert opened.answered_at == (answered_at or SERVICE_TIME)


async def test_the_request_tells_the_shard_and_the_token_in_the_header(
    server: Any, listen: Any
) -> None:
    await until_closed(listen(stream()))

    [request] = server.requests
    assert request.rel_url.raw_path == "/flows"
    assert request.rel_url.raw_query_string == "filter=acme%2Fmain%2Cacme%2Fdev&user=1"
    assert request.headers["Authorization"].startswith("Basic ")
    assert request.headers["Accept"] == "text/event-stream"
    assert "Last-Event-ID" not in request.headers


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("text/event-stream", 'id: 1\ndata: {"a":"ä😀"}\n\n:\n\ndata: {"b":2}\n\n'),
        ("application/json", '\n{"a":"ä😀"}\r\n\n{"b":2}\r\n\n'),
        ("application/json; charset=utf-8", '{"a":"ä😀"}\r{"b":2}\r'),
    ],
)
async def test_any_cut_of_the_stream_gives_the_same_frames(
    listen: Any, content_type: str, content: str, size: int
) -> None:
    sent = content.encode()
    chunks = [sent[at : at + size] for at in range(0, len(sent), size)]
    seen = await until_closed(listen(stream(*chunks, content_type=content_type)))

    assert frames_in(seen) == ['{"a":"ä😀"}'.encode(), b'{"b":2}']


async def test_the_answer_decides_how_frames_are_cut(server: Any, listen: Any) -> None:
    answer = stream(b'{"id":1}\r\n', content_type="application/json")
    asked_for_json = await until_closed(listen(answer, stream_format="json"))
    asked_for_events = await until_closed(listen())

    assert frames_in(asked_for_json) == frames_in(asked_for_events) == [b'{"id":1}']
    accepted = [request.headers["Accept"] for request in server.requests]
    assert accepted == ["application/json", "text/event-stream"]


async def test_half_a_frame_is_dropped_with_its_connection(listen: Any) -> None:
    answers = [stream(b'data: {"half":', then="cut"), stream(b'data: {"id":2}\n\n')]
    seen = await until_closed(listen(*answers), times=2)

    assert frames_in(seen) == [b'{"id":2}']
    assert reasons_in(seen) == ["cut", "ended"]


async def test_a_new_connection_resumes_after_the_last_whole_event(
    server: Any, listen: Any
) -> None:
    first = stream(b"id: a/1\ndata: 1\n\n", b"id: a/2\ndata: ", then="cut")
    seen = await until_closed(listen(first, stream(), stream(b"id\ndata: 3\n\n")), times=4)

    positions = [request.headers.get("Last-Event-ID") for request in server.requests]
    assert positions == [None, "a/1", "a/1", None]
    assert [it.connection for it in seen if isinstance(it, Opened)] == [1, 2, 3, 4]


async def test_a_position_that_no_header_can_hold_is_not_sent(server: Any, listen: Any) -> None:
    await until_closed(listen(stream(b"id: a\x01b\ndata: 1\n\n")), times=2)

    assert "Last-Event-ID" not in server.requests[1].headers


async def test_a_position_that_the_server_refuses_is_given_up(server: Any, listen: Any) -> None:
    answers = [stream(b"id: 7\ndata: 1\n\n"), status(400), stream()]
    seen = await until_closed(listen(*answers), times=3)

    positions = [request.headers.get("Last-Event-ID") for request in server.requests]
    assert positions == [None, "7", None]
    assert reasons_in(seen) == ["ended", "status 400", "ended"]


async def test_a_position_outlives_what_passes(server: Any, listen: Any) -> None:
    answers = [stream(b"id: 7\ndata: 1\n\n"), status(503), status(429), hang_up, stream()]
    await until_closed(listen(*answers), times=5)

    positions = [request.headers.get("Last-Event-ID") for request in server.requests]
    assert positions[0] is None
    assert set(positions[1:]) == {"7"}


@pytest.mark.parametrize("begun", [b"", b'data: {"id":1}\n\n', b"data: half"])
async def test_silence_is_noticed(listen: Any, begun: bytes) -> None:
    chunks = [begun] if begun else []
    reasons: list[str] = []
    listening = listen(stream(*chunks, then="hang"), silence_seconds=0.05)
    async with asyncio.timeout(20), aclosing(listening) as occurrences:
        async for it in occurrences:
            # On a busy machine even the response may be late: then there was no connection.
            if isinstance(it, Closed) and it.connection is not None:
                reasons.append(it.reason)
            if len(reasons) == 2:
                break

    assert reasons == ["silence", "silence"]


@pytest.mark.parametrize(("then", "reason"), [("end", "ended"), ("hang", "silence")])
async def test_what_came_while_the_process_was_held_up_is_no_silence(
    listen: Any, leap: Any, then: str, reason: str
) -> None:
    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await asyncio.sleep(0.05)
        await response.write(b"data: 1\n\n")
        leap(40)
        await asyncio.sleep(0.05)
        if then == "hang":
            leap(40)
            await asyncio.Event().wait()
        return response

    seen = await until_closed(listen(reply, silence_seconds=30))
    assert frames_in(seen) == [b"1"]
    assert reasons_in(seen) == [reason]


async def test_silence_is_noticed_after_what_came_was_long_in_work(listen: Any, leap: Any) -> None:
    seen: list[Any] = []
    listening = listen(stream(b"data: 1\n\n", then="hang"), silence_seconds=30)
    async with aclosing(listening) as occurrences:
        async for it in occurrences:
            seen.append(it)
            if isinstance(it, Frames):
                leap(70)
                await asyncio.sleep(0.01)
                asyncio.get_running_loop().call_soon(leap, 40)  # once it waits for more
            if isinstance(it, Closed):
                break

    assert [type(it) for it in seen] == [Opened, Frames, Closed]
    assert reasons_in(seen) == ["silence"]


async def test_keep_alives_are_no_silence(
    listen: Any, leap: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = asyncio.Event()

    class Framer(EventStreamFramer):
        @override
        def feed(self, chunk: bytes) -> list[bytes]:
            came.set()
            return super().feed(chunk)

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(5):
            await response.write(b"\n")
            await came.wait()
            came.clear()
            leap(20)
            await asyncio.sleep(0.01)
        return response

    monkeypatch.setattr("archiver.flowdock.stream.EventStreamFramer", Framer)
    seen = await until_closed(listen(reply, silence_seconds=30))

    assert [type(it) for it in seen] == [Opened, Closed]
    assert reasons_in(seen) == ["ended"]


async def test_a_server_that_accepts_and_says_nothing_is_given_up(listen: Any) -> None:
    seen = await until_closed(listen(never, silence_seconds=0.05))

    (closed,) = seen
    assert (closed.connection, closed.reason) == (None, "no answer")


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (hang_up, "cut: ServerDisconnectedError"),
        (stream(b"<html>", content_type="text/html"), "text/html, not a stream"),
        *[(status(code), f"status {code}") for code in (409, 429, 500, 502, 503, 504, 204)],
    ],
)
async def test_what_is_no_stream_is_asked_again_and_feeds_no_frames(
    listen: Any, trouble: Answer, reason: str
) -> None:
    # aiohttp itself retries once when the server hangs up
    answers = [trouble] * 3 + [stream(b"data: 1\n\n", then="hang")]
    closed = []
    async with aclosing(listen(*answers)) as occurrences:
        async for occurrence in occurrences:
            if isinstance(occurrence, Frames):
                assert occurrence.frames == [b"1"]
                break
            if isinstance(occurrence, Closed):
                closed.append(occurrence)

    assert {it.reason for it in closed} <= {reason, "cut: ClientOSError"}
    assert {it.connection for it in closed} == {None}
    assert all(it.retry_in_seconds > 0 for it in closed)


async def test_a_server_that_is_not_there_is_tried_again(session: Any, clock: Any) -> None:
    gone = follow(
        session,
        "http://127.0.0.1:1",
        SHARD,
        token=TOKEN,
        gate=Recording(requests_per_second=1e6, concurrency=1),
        clock=clock,
        service_time=clock,
        chance=random.Random(1),
        delays=QUICK,
    )
    seen = await until_closed(gone, times=3)
    assert {it.url for it in seen} == {"http://127.0.0.1:1"}
    assert [it.connection for it in seen] == [None] * 3
    assert reasons_in(seen) == ["no connection: Connection refused"] * 3


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not"),
        (ssl.SSLError(1, "[SSL] wrong version number"), "[SSL] wrong version number"),
        (OSError("Multiple exceptions: [Errno 111], [Errno 101]"), "Multiple exceptions"),
    ],
)
def test_why_there_is_no_connection_is_told_as_the_system_says_it(
    error: OSError, told: str
) -> None:
    where = ConnectionKey("chat.example", 443, True, True, None, None, None)
    unconnected = aiohttp.ClientConnectorError(where, error)
    assert str(why_unconnected(unconnected)).startswith(told)
    assert reason_of(unconnected) == f"no connection: {why_unconnected(unconnected)}"
    assert why_unconnected(aiohttp.ServerDisconnectedError()) is None


def test_a_connection_that_is_not_made_in_time_is_told_without_its_address() -> None:
    late = aiohttp.ConnectionTimeoutError("Connection timeout to host https://chat.example/?a=1")
    assert reason_of(late) == "no connection: no answer in time"
    assert why_broken(late) == "no answer"


async def test_it_is_tried_again_when_the_pause_that_was_told_is_over(listen: Any) -> None:
    clock = asyncio.get_running_loop().time
    closed_at, told = 0.0, 0.0
    async with aclosing(listen(status(429, Retry_After="1"), HANG)) as occurrences:
        async for it in occurrences:
            if isinstance(it, Opened):
                break
            assert isinstance(it, Closed)
            closed_at, told = clock(), it.retry_in_seconds

    assert told == 1
    assert clock() - closed_at > 0.9


async def test_a_connection_waits_for_its_turn_and_what_was_answered_is_counted(
    listen: Any, leap: Any
) -> None:
    gate = Gate(requests_per_second=1e6, concurrency=1)
    gate.hold(60)
    listening = asyncio.create_task(until_closed(listen(stream(), status(500), gate=gate), times=2))
    await asyncio.sleep(0)
    leap(60)
    seen = await listening

    assert reasons_in(seen) == ["ended", "status 500"]
    assert gate.passed == 2
    assert gate.waited_seconds > 59
    assert gate.answers == {"200": 1, "500": 1}


@pytest.mark.parametrize("code", [429, 503])
async def test_the_host_is_obeyed_when_it_asks_to_wait(listen: Any, code: int) -> None:
    gate = Recording(requests_per_second=1e6, concurrency=1)
    [closed] = await until_closed(listen(status(code, Retry_After="7"), gate=gate))

    assert gate.held == (7.0,)
    assert closed.retry_in_seconds == 7.0


@pytest.mark.parametrize(("asked", "seconds"), [(b"3000", 3.0), (b"999999999", 3600.0)])
async def test_the_stream_may_ask_to_wait_itself_for_an_hour_at_most(
    listen: Any, asked: bytes, seconds: float
) -> None:
    seen = await until_closed(listen(stream(b"retry: " + asked + b"\n\n")))

    assert seen[-1].retry_in_seconds == seconds


@pytest.mark.parametrize(
    ("trouble", "error", "words"),
    [
        (status(401), TokenRefused, "refused the token"),
        (status(403), ShardRefused, "403"),
        (status(404), ShardRefused, "404"),
        (status(400), HeadTooLong, "2 flows"),
        (status(414), HeadTooLong, "414"),
        (status(431), HeadTooLong, "431"),
        (status(302, Location="http://127.0.0.1:1/"), Redirected, "ARCHIVER_STREAM_URL"),
    ],
)
async def test_what_asking_again_does_not_cure_is_raised(
    server: Any, listen: Any, trouble: Answer, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        await until_closed(listen(trouble))

    assert len(server.requests) == 1
    assert TOKEN not in repr(caught.value)


async def test_a_refused_head_with_one_flow_is_asked_again(listen: Any) -> None:
    shard = Shard(flows=("acme/main",))
    seen = await until_closed(listen(status(400), stream(), shard=shard), times=2)

    assert reasons_in(seen) == ["status 400", "ended"]


@asynccontextmanager
async def sockets(session: aiohttp.ClientSession) -> AsyncIterator[None]:
    """Assert that the block leaves no connection of *session* open."""
    yield
    await asyncio.sleep(0)
    connector = session.connector
    assert isinstance(connector, aiohttp.TCPConnector)
    assert not connector._acquired


@pytest.mark.parametrize(
    "answer", [HANG, never, status(503), stream(b"data: 1\n\n", then="hang"), hang_up]
)
@pytest.mark.parametrize("seconds", [0, 0.005, 0.03])
async def test_it_can_be_cancelled_at_any_moment(
    session: Any, listen: Any, answer: Answer, seconds: float
) -> None:
    async def consume() -> None:
        await until_closed(listen(answer), times=1_000_000)

    async with sockets(session):
        task = asyncio.create_task(consume())
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)


async def test_it_can_be_left_in_the_middle(session: Any, listen: Any) -> None:
    hanging = stream(b"data: 1\n\n", then="hang")
    async with sockets(session), aclosing(listen(hanging)) as occurrences:
        async for occurrence in occurrences:
            if isinstance(occurrence, Frames):
                break


async def test_a_slow_consumer_slows_the_server(listen: Any) -> None:
    written = 0

    async def pour(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        event = b"data: " + b"x" * 65_536 + b"\n\n"
        for _ in range(2_000):
            await response.write(event)
            written += len(event)
        return response

    async with aclosing(listen(pour)) as occurrences:
        assert isinstance(await anext(occurrences), Opened)
        before = -1
        while before != written:  # until the server can write no more
            before = written
            await asyncio.sleep(0.05)

    assert 0 < written < 20_000_000


async def test_a_frame_over_the_limit_comes_out_cut_and_is_told(listen: Any) -> None:
    long = b"data: " + b"x" * 1000 + b"\n\n"
    seen = await until_closed(listen(stream(long, b"data: 1\n\n"), frame_limit_bytes=10))

    assert frames_in(seen) == [b"x" * 10, b"1"]
    assert sum(it.truncated for it in seen if isinstance(it, Frames)) == 1
