import asyncio
import json
from typing import Any

import pytest

from archiver.simulator.entities import Message
from archiver.simulator.faults import Fault, from_json
from archiver.simulator.server import Simulator

STREAM = "/flows/acme/main"
MESSAGES = "/flows/acme/main/messages"


async def opened(flowdock: Simulator, connect: Any) -> Any:
    stream = await connect(STREAM)
    assert await stream.read_head() == 200
    await flowdock.connected()
    return stream


def post(flowdock: Simulator, text: str = "hello") -> Message:
    return flowdock.world.post(flowdock.world.flows[0], flowdock.me, text)


@pytest.mark.parametrize(
    ("how", "ending"), [("abort", "cut"), ("reset", "reset"), ("end", "ended")]
)
async def test_a_stream_is_cut_after_exactly_so_many_bytes(flowdock, connect, how, ending):
    stream = await opened(flowdock, connect)
    await stream.until(lambda body: body == b"\n")
    flowdock.faults.add(Fault(kind="cut", after_bytes=1000, how=how))
    while flowdock.streams.connections:
        post(flowdock)
        await asyncio.sleep(0)
    assert await stream.to_the_end() == ending
    if how != "reset":
        assert len(stream.body) == len(b"\n") + 1000
    assert flowdock.faults.fired == {"cut": 1}


async def test_a_stream_is_cut_after_so_many_events(flowdock, connect):
    flowdock.faults.add(Fault(kind="cut", name="third", after_events=3))
    stream = await opened(flowdock, connect)
    for _ in range(5):
        post(flowdock)
    assert await stream.to_the_end() == "cut"
    assert stream.body.count(b"\r\n") == 3
    assert flowdock.faults.fired == {"third": 1}


async def test_a_stream_is_cut_inside_a_character(flowdock, connect):
    flowdock.faults.add(Fault(kind="cut_inside_character", after_events=2))
    stream = await opened(flowdock, connect)
    for text in ("日本", "plain", "日本"):
        post(flowdock, text)
    assert await stream.to_the_end() == "cut"
    assert stream.body.count(b"\r\n") == 2
    with pytest.raises(UnicodeDecodeError, match="unexpected end of data"):
        stream.body.decode()
    assert flowdock.faults.fired == {"cut_inside_character": 1}


async def test_each_connection_is_cut_until_the_times_are_over(flowdock, connect):
    flowdock.faults.add(Fault(kind="cut", after_events=1, times=2))
    for _ in range(2):
        stream = await opened(flowdock, connect)
        post(flowdock)
        assert await stream.to_the_end() == "cut"
    stream = await opened(flowdock, connect)
    post(flowdock)
    post(flowdock)
    await stream.until(lambda body: body.count(b"\r\n") == 2)
    assert flowdock.faults.fired == {"cut": 2}


async def test_silence_holds_everything_back_and_then_gives_it(flowdock, connect):
    flowdock.faults.add(Fault(kind="silence", after_events=1, seconds=0.1))
    stream = await opened(flowdock, connect)
    began = asyncio.get_running_loop().time()
    post(flowdock)
    post(flowdock)
    await stream.until(lambda body: body.count(b"\r\n") == 2)
    assert asyncio.get_running_loop().time() - began >= 0.1
    assert flowdock.faults.fired == {"silence": 1}


async def test_silence_for_ever_stays_connected_and_loses_what_happens(flowdock, connect):
    flowdock.faults.add(Fault(kind="silence", after_events=1))
    stream = await opened(flowdock, connect)
    for _ in range(10):
        post(flowdock)
    await stream.until(lambda body: body.count(b"\r\n") == 1)
    await flowdock.delivered()
    assert len(flowdock.streams.connections) == 1
    await flowdock.disconnect_streams()
    assert await stream.to_the_end() == "cut"
    assert stream.body.count(b"\r\n") == 1


async def test_events_are_repeated(flowdock, connect):
    flowdock.faults.add(Fault(kind="repeat", frames=2, after_events=3))
    stream = await opened(flowdock, connect)
    posted = [post(flowdock).id for _ in range(4)]
    body = await stream.until(lambda body: body.count(b"\r\n") == 6)
    told = [json.loads(frame)["id"] for frame in body.split(b"\r\n") if frame]
    assert told == [*posted[:3], *posted[1:3], posted[3]]
    assert flowdock.faults.fired == {"repeat": 1}


@pytest.mark.parametrize("side", ["stream", "rest"])
async def test_a_request_is_answered_with_a_status(flowdock, connect, side):
    flowdock.faults.add(
        Fault(kind="status", on=side, status=429, retry_after="7", body="<h1>Slow</h1>")
    )
    paths = {"stream": (STREAM, "stream"), "rest": (MESSAGES, "api")}
    path, port = paths[side]
    refused = await connect(path, port=port)
    assert await refused.read_head() == 429
    assert b"Retry-After: 7\r\n" in refused.head
    assert b"text/html" in refused.head
    assert flowdock.faults.fired == {"status": 1}
    again = await connect(path, port=port)
    assert await again.read_head() == 200


async def test_a_fault_waits_for_its_path_and_its_turn(flowdock, api):
    flowdock.faults.add(Fault(kind="status", on="rest", path="*/messages", after_requests=1))
    assert (await api("GET", "/flows"))[0] == 200
    assert [(await api("GET", MESSAGES))[0] for _ in range(3)] == [200, 503, 200]
    assert flowdock.faults.fired == {"status": 1}


async def test_an_answer_is_cut_short(flowdock, connect):
    flowdock.faults.add(Fault(kind="cut", on="rest", after_bytes=10))
    stream = await connect(MESSAGES, port="api")
    assert await stream.read_head() == 200
    assert b"Content-Length: " in stream.head
    assert len(await stream.reader.read()) == 10
    assert flowdock.faults.fired == {"cut": 1}


async def test_an_answer_is_held_back(flowdock, api):
    flowdock.faults.add(Fault(kind="silence", on="rest", seconds=0.1))
    began = asyncio.get_running_loop().time()
    assert (await api("GET", MESSAGES))[0] == 200
    assert asyncio.get_running_loop().time() - began >= 0.1
    assert flowdock.faults.fired == {"silence": 1}


async def test_connections_are_dropped_and_refused_for_a_while(flowdock, connect, api):
    stream = await opened(flowdock, connect)
    flowdock.faults.add(Fault(kind="refuse", seconds=0.2))
    assert await stream.to_the_end() == "cut"
    with pytest.raises(ConnectionRefusedError):
        await connect(STREAM)
    assert (await api("GET", MESSAGES))[0] == 200
    assert flowdock.faults.fired == {"refuse": 1}
    while True:
        try:
            stream = await connect(STREAM)
            break
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
    assert await stream.read_head() == 200


async def test_refusals_that_overlap_are_one_long_refusal(flowdock, connect):
    stream = await opened(flowdock, connect)
    flowdock.faults.add(Fault(kind="refuse", name="first", seconds=0.1))
    flowdock.faults.add(Fault(kind="refuse", name="second", seconds=0.3, after_seconds=0.05))
    assert await stream.to_the_end() == "cut"
    loop = asyncio.get_running_loop()
    cut_at = loop.time()
    while True:
        try:
            stream = await connect(STREAM)
            break
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
    assert loop.time() - cut_at > 0.25
    assert await stream.read_head() == 200
    assert flowdock.faults.fired == {"first": 1, "second": 1}


async def test_refusal_may_begin_after_an_event(flowdock, connect):
    flowdock.faults.add(Fault(kind="refuse", seconds=0.1, after_events=2))
    stream = await opened(flowdock, connect)
    post(flowdock)
    assert flowdock.faults.fired == {"refuse": 0}
    post(flowdock)
    assert await stream.to_the_end() == "cut"
    assert flowdock.faults.fired == {"refuse": 1}


async def test_a_fault_due_by_the_clock_fires_on_a_quiet_stream(flowdock, connect):
    stream = await opened(flowdock, connect)
    flowdock.faults.add(Fault(kind="cut", after_seconds=0.05))
    assert await stream.to_the_end() == "cut"
    assert flowdock.faults.fired == {"cut": 1}


async def test_cleared_faults_do_not_fire(flowdock, api):
    flowdock.faults.add(Fault(kind="status", on="rest"))
    flowdock.faults.clear()
    assert (await api("GET", MESSAGES))[0] == 200
    assert flowdock.faults.fired == {"status": 0}


@pytest.mark.parametrize(
    "wrong",
    [{}, [], {"kind": "fire"}, {"kind": "cut", "on": "moon"}, {"kind": "cut", "when": 1},
     {"kind": "cut", "after_bytes": "x"}, {"kind": "refuse", "seconds": -1},
     {"kind": "repeat", "on": "rest"}],
)  # fmt: skip
def test_what_is_no_fault_is_refused(wrong):
    with pytest.raises(ValueError, match=r"^fault: "):
        from_json(wrong)
