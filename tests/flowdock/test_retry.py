"""What is retried, and when. The event loop's clock jumps to the next timer."""

import asyncio
import random
from datetime import UTC, datetime
from itertools import pairwise

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from archiver.flowdock.refusals import (
    AnswerTooLong,
    BadAnswer,
    FlowRefused,
    Garbled,
    HeadTooLong,
    Redirected,
    ShardRefused,
    StatusRefused,
    TokenRefused,
)
from archiver.flowdock.retry import Backoff, Delays, Gate, is_transient, retry_after, retrying
from tests.jumping import run

NOW = datetime(2015, 10, 21, 7, 28, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        *[(StatusRefused("/user", status), True) for status in (408, 409, 425, 429, 500, 503, 599)],
        *[(StatusRefused("/user", status), False) for status in (400, 402, 405, 410, 414, 431)],
        (BadAnswer("/user", b"<html>"), True),
        (aiohttp.ServerDisconnectedError(), True),
        (aiohttp.ClientOSError(), True),
        (Garbled("/user"), True),
        (TimeoutError(), True),
        (aiohttp.InvalidURL("x"), False),
        (TokenRefused(), False),
        (FlowRefused("acme/main", 404), False),
        (ShardRefused(403), False),
        (HeadTooLong(400, flows=200), False),
        (Redirected("/user", status=302, setting="ARCHIVER_API_URL"), False),
        (AnswerTooLong("/user", 1), False),
        (ValueError(), False),
        (asyncio.CancelledError(), False),
    ],
    ids=repr,
)
def test_transient_is_what_may_succeed_later(exc: BaseException, expected: bool) -> None:
    assert is_transient(exc) is expected


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "120"}, 120.0),
        ({"Retry-After": " 5 "}, 5.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:27:00 GMT"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2015 09:28:30 +0200"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:30 -0000"}, 30.0),
        (
            {
                "Retry-After": "Wed, 21 Oct 2015 09:00:07 GMT",
                "Date": "Wed, 21 Oct 2015 09:00:00 GMT",
            },
            7.0,
        ),
        ({"Retry-After": "86400"}, 3600.0),
        ({"Retry-After": "9" * 5000}, 3600.0),
        ({"Retry-After": "Wed, 21 Oct 9999 07:28:30 GMT"}, 3600.0),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "1.5"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "٣"}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=NOW) == seconds


@given(st.text())
def test_no_retry_after_raises(value: str) -> None:
    seconds = retry_after({"Retry-After": value}, now=NOW)

    assert seconds is None or 0 <= seconds <= 3600


def test_delays_grow_as_those_of_flowdocks_own_client() -> None:
    delays = Delays()

    assert [delays.after_error(n) for n in (1, 2, 3, 50, 1000)] == pytest.approx(
        [0.2, 0.4, 0.6, 10, 10]
    )
    assert [delays.after_refusal(n) for n in (1, 2, 3, 6, 7, 5000)] == [2, 4, 8, 64, 120, 120]


@given(st.lists(st.sampled_from(["error", "refusal", "end", "break"])), st.randoms())
def test_backing_off_grows_until_a_connection_lasts(
    happenings: list[str], chance: random.Random
) -> None:
    delays = Delays()
    backoff = Backoff(delays, chance)
    errors = refusals = breaks = 0
    for happening in happenings:
        match happening:
            case "error":
                errors += 1
                delay, most = backoff.after_error(), delays.after_error(errors)
            case "refusal":
                refusals += 1
                delay, most = backoff.after_refusal(), delays.after_refusal(refusals)
            case "end":
                errors = refusals = breaks = 0
                delay, most = backoff.after_end(60), 0.0
            case _:
                errors = refusals = 0
                breaks += 1
                delay, most = backoff.after_end(0.1), delays.after_error(breaks)
        assert most / 2 <= delay <= most


def test_a_stream_that_ends_at_once_again_and_again_is_not_asked_in_a_tight_loop() -> None:
    backoff = Backoff(Delays(), random.Random(1))

    assert sum(backoff.after_end(0.0) for _ in range(100)) > 250


async def elapsed(gate: Gate, requests: int) -> list[float]:
    """When each of so many requests passes, if all are made at once and take no time."""
    loop = asyncio.get_running_loop()
    passed = {}

    async def pass_through(number: int) -> None:
        async with gate.request():
            passed[number] = loop.time()

    await asyncio.gather(*map(pass_through, range(requests)))
    assert list(passed) == list(range(requests))  # first come, first served
    return list(passed.values())


def test_requests_pass_in_order_at_the_rate() -> None:
    gate_times = run(elapsed(Gate(requests_per_second=4, concurrency=10), 5))

    assert gate_times == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])


def test_no_more_requests_than_allowed_are_under_way_at_once() -> None:
    async def main() -> int:
        gate = Gate(requests_per_second=1e9, concurrency=3)
        under_way, most = 0, 0

        async def request() -> None:
            nonlocal under_way, most
            async with gate.request():
                under_way += 1
                most = max(most, under_way)
                await asyncio.sleep(1)
                under_way -= 1

        await asyncio.gather(*(request() for _ in range(10)))
        return most

    assert run(main()) == 3


def test_all_requests_wait_while_the_host_asks_for_it() -> None:
    async def main() -> list[float]:
        gate = Gate(requests_per_second=1e9, concurrency=10)
        gate.hold(30)
        asyncio.get_running_loop().call_later(29, gate.hold, 11)
        gate.hold(5)
        return await elapsed(gate, 3)

    assert run(main()) == pytest.approx([40, 40, 40])


def test_a_request_given_up_while_waiting_leaves_the_gate_open() -> None:
    async def main() -> float:
        gate = Gate(requests_per_second=1, concurrency=1)
        gate.hold(10)
        waiting = asyncio.create_task(gate.turn())
        in_line = asyncio.create_task(elapsed(gate, 1))
        await asyncio.sleep(1)
        waiting.cancel()
        return (await in_line)[0]

    assert run(main()) == pytest.approx(10)


@pytest.mark.parametrize(("patience", "attempts"), [(0, 1), (100, 6), (1000, 14)])
def test_asking_again_ends_with_patience_and_the_last_error(patience: float, attempts: int) -> None:
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        raise StatusRefused("/user", 500 + asked)

    async def main() -> None:
        started = asyncio.get_running_loop().time()
        with pytest.raises(StatusRefused, match=str(500 + attempts)):
            await retrying(patience, Delays(), _Full())(ask)
        assert asyncio.get_running_loop().time() - started <= patience

    run(main())
    assert asked == attempts


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (TimeoutError(), [0.2, 0.4, 0.6, 0.8, 1.0]),
        (StatusRefused("/user", 503), [2, 4]),
        (BadAnswer("/user", b""), [2, 4]),
    ],
    ids=repr,
)
def test_a_server_that_refuses_is_asked_less_often_than_one_that_is_not_reached(
    error: Exception, seconds: list[float]
) -> None:
    asked_at: list[float] = []

    async def ask() -> None:
        asked_at.append(asyncio.get_running_loop().time())
        raise error

    async def main() -> None:
        with pytest.raises(type(error)):
            await retrying(sum(seconds) + 1, Delays(), _Full())(ask)

    run(main())
    assert [after - at for at, after in pairwise(asked_at)] == pytest.approx(seconds)


class _Full(random.Random):
    """A random generator that always draws the longest delay."""

    @override
    def uniform(self, a: float, b: float) -> float:
        return b


def test_what_is_not_transient_is_asked_once() -> None:
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        raise TokenRefused

    async def main() -> None:
        await retrying(1000, Delays(), _Full())(ask)

    with pytest.raises(TokenRefused):
        run(main())
    assert asked == 1


def test_a_bad_answer_is_not_quoted():
    told = str(BadAnswer("/flows", b'[{"api_token": "f00d"'))
    assert told == "the answer to /flows is not the API's: JSON, 21 bytes"
