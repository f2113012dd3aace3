"""What the REST client makes of answers from a real server on loopback."""

import asyncio
import gzip
import json
import random
import traceback
from base64 import b64decode
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from typing_extensions import override

from archiver.domain.model import Flow, FlowId, User, UserId
from archiver.flowdock.client import Client, Limits
from archiver.flowdock.clock import since_boot
from archiver.flowdock.envelope import MAX_NAME_LENGTH
from archiver.flowdock.refusals import (
    AnswerTooLong,
    BadAnswer,
    FlowRefused,
    Garbled,
    Redirected,
    StatusRefused,
    TokenRefused,
)
from archiver.flowdock.retry import Gate
from tests.flowdock.conftest import QUICK

TOKEN = "s3cret-t0ken"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answer(
    body: Any = b"[]", *, status: int = 200, headers: dict[str, str] | None = None
) -> Answer:
    """An answer with *body* as JSON, or with *body* itself if it is bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def reply(_request: web.Request) -> web.Response:
        return web.Response(
            body=content, status=status, headers=headers, content_type="application/json"
        )

    return reply


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def cut_short(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'[{"id":1}')
    assert request.transport is not None
    request.transport.close()
    return response


async def never(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


@pytest.fixture
def make(server: Any, session: Any, clock: Any) -> Callable[..., Client]:
    def client(
        *,
        url: str = "",
        patience_seconds: float = 20,
        gate: Gate | None = None,
        stopwatch: Callable[[], float] = since_boot,
        **limits: Any,
    ) -> Client:
        return Client(
            session,
            url or server.url,
            TOKEN,
            gate=gate or Gate(requests_per_second=1e6, concurrency=10),
            clock=clock,
            chance=random.Random(1),
            limits=Limits(patience_seconds=patience_seconds, **limits),
            delays=QUICK,
            stopwatch=stopwatch,
        )

    return client


async def test_a_page_holds_the_elements_as_they_stand_and_what_was_asked(
    server: Any, make: Any
) -> None:
    server.reply(answer(b'[ {"id": 3,\n"x":1.50} ,{"id":4}]'))
    page = await make().page("acme/main dev", since=2, until=9, newest=False, limit=50)

    assert page.frames == (b'{"id": 3,\n"x":1.50}', b'{"id":4}')
    assert (page.path, page.since, page.until, page.newest, page.limit) == (
        *("acme/main dev", 2, 9),
        *(False, 50),
    )
    assert page.requested_at == datetime.fromtimestamp(1_400_000_000, UTC)
    assert page.answered_at > page.requested_at
    [request] = server.requests
    assert request.rel_url.raw_path == "/flows/acme/main%20dev/messages"
    assert dict(request.query) == {
        "limit": "50",
        "since_id": "2",
        "until_id": "9",
        "sort": "asc",
    }


async def test_the_time_of_the_service_is_what_its_last_success_told(
    server: Any, make: Any
) -> None:
    passed = count()
    client = make(stopwatch=lambda: float(next(passed)))
    ours = client.service_time()
    dates = ("Tue, 02 May 2023 03:04:05 GMT", "Fri, 31 Dec 9999 23:59:59 GMT")
    server.reply(*[answer(headers={"Date": date}) for date in dates])
    for _ in dates:
        await client.users()
    told = datetime(2023, 5, 2, 3, 4, 5, tzinfo=UTC)
    assert (ours.year, client.service_time() - told) == (2014, timedelta(seconds=2))

    server.reply(answer(status=400, headers={"Date": "Tue, 02 May 2023 01:00:00 GMT"}))
    with pytest.raises(StatusRefused):
        await client.users()
    assert client.service_time() - told == timedelta(seconds=4)


async def test_setting_our_clock_does_not_change_the_time_of_the_service(
    server: Any, session: Any
) -> None:
    ours = [datetime(2026, 1, 1, tzinfo=UTC)]
    client = Client(
        session,
        server.url,
        TOKEN,
        gate=Gate(requests_per_second=1e6, concurrency=10),
        clock=lambda: ours[0],
        chance=random.Random(1),
    )
    server.reply(answer(headers={"Date": "Tue, 02 May 2023 03:04:05 GMT"}))
    await client.users()
    ours[0] -= timedelta(hours=1)

    late = client.service_time() - datetime(2023, 5, 2, 3, 4, 5, tzinfo=UTC)
    assert timedelta(0) <= late < timedelta(minutes=1)


async def test_the_newest_page_is_asked_for_without_sort_and_private_ones_by_the_other(
    server: Any, make: Any
) -> None:
    server.reply(answer())
    await make().page("private/31/32", newest=True)

    [request] = server.requests
    assert request.path == "/private/32/messages"
    assert dict(request.query) == {"limit": "100"}


async def test_a_page_with_what_msgspec_refuses_is_still_split(server: Any, make: Any) -> None:
    elements = (b'{"id":1,"content":"\\ud800"}', b'{"id":2,"x":1e999}', b'{"id":3}')
    server.reply(answer(b"[" + b", ".join(elements) + b"]"))

    assert (await make().page("a/b", newest=True)).frames == elements


async def test_the_token_is_the_user_name_and_stands_in_the_header_alone(
    server: Any, make: Any
) -> None:
    server.reply(answer())
    await make().flows()

    [request] = server.requests
    scheme, _, credentials = request.headers["Authorization"].partition(" ")
    assert (scheme, b64decode(credentials)) == ("Basic", f"{TOKEN}:".encode())
    assert TOKEN not in str(request.rel_url)


async def test_flows_are_read_without_their_secrets(
    server: Any, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    organization = {"id": 8, "name": "Acme Inc.", "parameterized_name": "acme"}
    listed = {
        "id": "6f4a1c9e",
        "name": "Main flow",
        "parameterized_name": "main",
        "organization": organization,
        "url": "https://api.flowdock.com/flows/acme/main",
        "access_mode": "link",
        "api_token": "secret-1",
        "join_url": "secret-2",
    }
    named = listed | {"id": "7", "url": None, "joined": False, "disabled": True}
    old = {"id": "acme/old", "organization": "Acme"}
    bad: list[Any] = [{"id": "9"}, {"url": "x"}, None, 5, listed | {"id": None}]
    bad += [{"id": "8", "url": f"https://x/flows/{path}"} for path in ("a/..", "a/b/c", "a/%2e")]
    server.reply(answer([listed, named, old, *bad]))

    flows = await make().flows()
    assert flows == [
        Flow(id=FlowId("6f4a1c9e"), path="acme/main", organization="Acme Inc.", name="Main flow",
             access_mode="link"),
        Flow(id=FlowId("7"), path="acme/main", organization="Acme Inc.", name="Main flow",
             access_mode="link", joined=False, disabled=True),
        Flow(id=FlowId("acme/old"), path="acme/old", organization="Acme"),
    ]  # fmt: skip
    assert "secret" not in repr(flows)
    (told,) = caplog.records
    assert (told.message, told.__dict__["items"]) == (
        "some listed items cannot be read: left out",
        len(bad),
    )


async def test_people_and_conversations_are_read(server: Any, make: Any) -> None:
    ada = {"id": 31, "nick": "Ada", "name": "Ada L.", "email": "a@b.example", "avatar": "x"}
    server.reply(
        answer(ada, headers={"Flowdock-User": "31"}),
        answer([ada, {"id": 32, "disabled": True}, {"id": 33, "disabled": False}, {"nick": "x"}]),
        answer([{"id": 32, "name": "@Bo", "users": [ada]}, {"id": "../x"}, {}]),
    )
    client = make()

    me = User(id=UserId("31"), nick="Ada", name="Ada L.", email="a@b.example")
    assert await client.me() == me
    assert client.user_id == "31"
    assert await client.users() == [
        me,
        User(id=UserId("32"), disabled=True),
        User(id=UserId("33"), disabled=False),
    ]
    assert me.disabled is None
    assert await client.conversations() == [
        Flow(id=FlowId("private/31/32"), path="private/31/32", name="@Bo")
    ]
    assert [request.path for request in server.requests] == ["/user", "/users", "/private"]


async def test_an_answer_that_names_its_user_by_too_long_an_id_names_nobody(
    server: Any, make: Any
) -> None:
    too_long = {"Flowdock-User": "3" * (MAX_NAME_LENGTH + 1)}  # no index can hold much more
    server.reply(answer({"id": 31}), answer([{"id": 32}], headers=too_long))
    client = make()

    await client.me()
    await client.users()
    assert client.user_id == "31"


async def test_a_message_is_shown_as_it_stands_or_is_none(server: Any, make: Any) -> None:
    server.reply(
        answer(b' {"id": 5} '),
        answer({"message": "not found"}, status=404),
        answer(b"<html>", status=404),
        answer(b'{"id":5}'),
        answer({}, status=403),
    )
    client = make()

    assert await client.show("acme/main", 5) == b'{"id": 5}'
    assert await client.show("acme/main", 5) is None
    assert await client.show("acme/main", 5) == b'{"id":5}'  # a proxy's 404 is retried
    with pytest.raises(FlowRefused):
        await client.show("acme/main", 5)
    assert server.requests[0].path == "/flows/acme/main/messages/5"


async def test_the_flow_at_a_path_is_told_by_its_id_or_refused(server: Any, make: Any) -> None:
    described = {
        "id": "uuid",
        "parameterized_name": "b",
        "organization": {"parameterized_name": "a"},
    }
    server.reply(
        answer(described),
        answer(b"<html>", status=404),
        answer({}),
        answer(b"<html>forbidden</html>", status=403),
        answer({"message": "not found"}, status=404),
    )
    client = make()

    assert await client.flow_at("a/b") == "uuid"
    assert await client.flow_at("a/b") is None  # a proxy's 404 is retried
    for status in (403, 404):
        with pytest.raises(FlowRefused, match=f"a/b .{status}"):
            await client.flow_at("a/b")
    assert {request.path for request in server.requests} == {"/flows/a/b"}
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    "trouble",
    [
        *[answer(status=status) for status in (408, 409, 429, 500, 502, 503, 504)],
        answer(b"<html>welcome</html>"),
        answer(b'[{"id":1},{"id'),
        answer(b""),
        answer(b"<html>not found</html>", status=404),
        answer(b"", status=404),
        answer(b"not gzip", headers={"Content-Encoding": "gzip"}),
        hang_up,
        cut_short,
    ],
)
async def test_what_passes_is_asked_again(server: Any, make: Any, trouble: Answer) -> None:
    server.reply(trouble, trouble, answer([{"id": 1}]))

    assert (await make().page("a/b", newest=True)).frames == (b'{"id": 1}',)
    assert len(server.requests) >= 3


@pytest.mark.parametrize(
    ("trouble", "error", "words"),
    [
        (answer(status=401), TokenRefused, "refused the token"),
        (answer(status=403), FlowRefused, "a/b .403"),
        (answer({"message": "not found"}, status=404), FlowRefused, "a/b .404"),
        (answer(status=400), StatusRefused, "/flows/a/b/messages .*400"),
        (answer(status=302, headers={"Location": "/x"}), Redirected, "ARCHIVER_API_URL"),
        (answer(status=307, headers={"Location": "http://127.0.0.1:1/"}), Redirected, "307"),
    ],
)
async def test_what_does_not_pass_is_raised_at_once(
    server: Any, make: Any, trouble: Answer, error: type[Exception], words: str
) -> None:
    server.reply(trouble)

    with pytest.raises(error, match=words) as caught:
        await make().page("a/b", newest=True)
    assert len(server.requests) == 1
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert TOKEN not in told
    assert "Basic" not in told


@pytest.mark.parametrize(
    ("trouble", "error", "seconds"),
    [
        (answer(status=500), StatusRefused, 40),
        (answer(b"<html>"), BadAnswer, 40),
        (hang_up, Garbled, 25),  # aiohttp itself retries once
        (never, TimeoutError, 70),
    ],
)
async def test_patience_ends_with_the_last_error(
    server: Any, make: Any, leap: Any, trouble: Answer, error: type[Exception], seconds: float
) -> None:
    async def late(request: web.Request) -> web.StreamResponse:
        leap(seconds)
        return await trouble(request)

    server.reply(late)
    with pytest.raises(error):
        await make(patience_seconds=100, answer_seconds=60).flows()
    assert 1 < len(server.requests) < 6


async def test_a_server_that_is_not_there_is_an_error_of_the_connection(
    make: Any,
) -> None:
    with pytest.raises(aiohttp.ClientConnectorError):
        await make(url="http://127.0.0.1:1", patience_seconds=0.02).me()


@pytest.mark.parametrize(
    "body", [b"[" + b" " * 200_000 + b"]", gzip.compress(b" " * 200_000)], ids=["plain", "gzip"]
)
async def test_an_answer_over_the_limit_is_given_up(server: Any, make: Any, body: bytes) -> None:
    headers = {"Content-Encoding": "gzip"} if body[:1] != b"[" else None
    server.reply(answer(body, headers=headers))

    with pytest.raises(AnswerTooLong, match="100000 bytes"):
        await make(body_bytes=100_000).page("a/b", newest=True)
    assert len(server.requests) == 1


async def test_messages_may_be_large_one_by_one_and_not_together(server: Any, make: Any) -> None:
    body = b'[{"id": 3, "content": "' + b"x" * 10_000 + b'"}]'
    server.reply(answer(body))
    with pytest.raises(AnswerTooLong, match="5000 bytes"):
        await make(page_bytes=5_000).page("a/b", newest=True, limit=2)
    server.reply(answer(body))
    page = await make(page_bytes=5_000).page("a/b", newest=True, limit=1)
    assert page.frames == (body[1:-1],)


async def test_messages_that_do_not_come_in_time_together_may_come_one_by_one(
    server: Any, make: Any
) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"[{")
        return await never(request)

    slow = {"answer_seconds": 0.5, "patience_seconds": 0.0}
    server.reply(drip, drip, never)
    with pytest.raises(AnswerTooLong, match="2 bytes"):
        await make(**slow).page("a/b", newest=True, limit=2)
    with pytest.raises(TimeoutError):
        await make(**slow).page("a/b", newest=True, limit=1)
    with pytest.raises(TimeoutError):
        await make(**slow).page("a/b", newest=True, limit=2)
    assert len(server.requests) == 3


async def test_compressed_answers_are_read(server: Any, make: Any) -> None:
    server.reply(answer(gzip.compress(b'[{"id":1}]'), headers={"Content-Encoding": "gzip"}))

    assert (await make().page("a/b", newest=True)).frames == (b'{"id":1}',)
    assert server.requests[0].headers["Accept-Encoding"] == "gzip"


class Recording(Gate):
    """A gate that only records for how long it was asked to hold."""

    held: tuple[float, ...] = ()

    @override
    def hold(self, seconds: float) -> None:
        self.held += (seconds,)


@pytest.mark.parametrize("status", [429, 503])
async def test_the_host_is_obeyed_when_it_asks_to_wait(server: Any, make: Any, status: int) -> None:
    server.reply(answer(status=status, headers={"Retry-After": "7"}), answer())
    gate = Recording(requests_per_second=1e6, concurrency=1)
    await make(gate=gate).flows()

    assert gate.held == (7.0,)


@pytest.mark.parametrize(("asked", "told"), [("7", []), ("86400", [3600])])
async def test_a_host_that_asks_to_wait_for_long_is_told_of(
    server: Any, make: Any, caplog: pytest.LogCaptureFixture, asked: str, told: list[int]
) -> None:
    server.reply(answer(status=429, headers={"Retry-After": asked}), answer())
    await make(gate=Recording(requests_per_second=1e6, concurrency=1)).flows()

    assert [one.__dict__["in_seconds"] for one in caplog.records] == told


async def test_a_call_given_up_frees_its_slot(server: Any, make: Any) -> None:
    gate = Gate(requests_per_second=1e6, concurrency=1)
    asked = asyncio.Event()

    async def ask(request: web.Request) -> web.StreamResponse:
        asked.set()
        return await never(request)

    server.reply(ask, answer())
    given_up = asyncio.create_task(make(gate=gate).flows())
    await asked.wait()
    given_up.cancel()

    assert await make(gate=gate).flows() == []
    assert given_up.cancelled()
