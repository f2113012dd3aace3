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


async def connected_again(connect: Any) -> None:
    while True:
        try:
            stream = await connect(STREAM)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
        else:
            assert await stream.read_head() == 200
            return


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


async def test_what_is_refused_again_while_it_opens_stays_closed_and_opens_later(flowdock, api):
    for turns in range(20):
        flowdock._begin_refusal("rest", 0.001)
        await asyncio.sleep(0.001)
        for _ in range(turns):
            await asyncio.sleep(0)
    while flowdock._closed_until:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert (await api("GET", MESSAGES))[0] == 200


async def test_connections_are_dropped_and_refused_for_a_while(flowdock, connect, api, leap):
    stream = await opened(flowdock, connect)
    flowdock.faults.add(Fault(kind="refuse", seconds=60))
    assert await stream.to_the_end() == "cut"
    with pytest.raises(ConnectionRefusedError):
        await connect(STREAM)
    assert (await api("GET", MESSAGES))[0] == 200
    assert flowdock.faults.fired == {"refuse": 1}
    leap(60)
    await connected_again(connect)


async def test_refusals_that_overlap_are_one_long_refusal(flowdock, connect, leap):
    stream = await opened(flowdock, connect)
    flowdock.faults.add(Fault(kind="refuse", name="first", seconds=100))
    assert await stream.to_the_end() == "cut"
    leap(50)
    flowdock.faults.add(Fault(kind="refuse", name="second", seconds=100))
    while flowdock.faults.fired != {"first": 1, "second": 1}:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    leap(60)
    await asyncio.sleep(0.01)
    with pytest.raises(ConnectionRefusedError):
        await connect(STREAM)
    leap(50)
    await connected_again(connect)


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
     {"kind": "repeat", "on": "rest"}, {"kind": "cut", "path": 5}, {"kind": "cut", "name": []},
     {"kind": "status", "retry_after": 5}, {"kind": "status", "body": 5},
     {"kind": "status", "status": 99_999}, {"kind": "repeat", "frames": 1.5},
     {"kind": "repeat", "frames": None}, {"kind": "cut", "after_events": True},
     {"kind": "silence", "seconds": float("nan")}],
)  # fmt: skip
def test_what_is_no_fault_is_refused(wrong):
    with pytest.raises(ValueError, match=r"^fault: "):
        from_json(wrong)


async def test_an_event_is_dropped_and_nothing_shows_it(flowdock, connect):
    stream = await opened(flowdock, connect)
    flowdock.faults.add(Fault(kind="drop", after_events=2))
    posted = [post(flowdock, text) for text in ("one", "two", "three")]
    await stream.until(lambda body: b"three" in body)
    assert b"two" not in stream.body
    assert [json.loads(frame)["id"] for frame in flowdock.faults.withheld] == [posted[1].id]
    assert flowdock.faults.fired == {"drop": 1}


async def test_an_event_is_overtaken_by_those_that_follow(flowdock, connect):
    stream = await opened(flowdock, connect)
    flowdock.faults.add(Fault(kind="reorder", after_events=2, frames=2))
    for text in ("one", "two", "three", "four", "five"):
        post(flowdock, text)
    await stream.until(lambda body: b"five" in body)
    told = [json.loads(line)["content"] for line in stream.body.split(b"\r\n") if line.strip()]
    assert told == ["one", "three", "four", "two", "five"]
    assert flowdock.faults.fired == {"reorder": 1}


async def test_an_event_held_back_comes_when_nothing_overtakes_it(flowdock, connect):
    stream = await opened(flowdock, connect)
    flowdock.faults.add(Fault(kind="reorder", frames=5))
    post(flowdock, "alone")
    await stream.until(lambda body: b"alone" in body)
    assert flowdock.faults.fired == {"reorder": 1}


@pytest.mark.parametrize(
    ("kind", "replayed"), [("replay_late", ["three"]), ("replay_early", ["one", "two", "three"])]
)
async def test_a_replay_begins_elsewhere(flowdock, connect, kind, replayed):
    stream = await connect(STREAM, Accept="text/event-stream")
    await stream.read_head()
    await flowdock.connected()
    post(flowdock, "one")
    body = await stream.until(lambda body: body.endswith(b"}\n\n"))
    last = body.partition(b"id: ")[2].partition(b"\n")[0].decode()
    await flowdock.disconnect_streams()
    for text in ("two", "three"):
        post(flowdock, text)
    flowdock.faults.add(Fault(kind=kind))
    again = await connect(STREAM, Accept="text/event-stream", Last_Event_ID=last)
    await again.read_head()
    await again.until(lambda body: b"three" in body)
    lines = again.body.split(b"\n")
    told = [json.loads(line[6:])["content"] for line in lines if line.startswith(b"data: ")]
    assert told == replayed
    assert flowdock.faults.fired == {kind: 1}


@pytest.mark.parametrize(("sort", "kept"), [("asc", slice(0, 3)), ("desc", slice(-3, None))])
async def test_a_page_ends_early_though_there_are_more(flowdock, api, sort, kept):
    whole = await api.get(MESSAGES, limit=10, sort=sort)
    flowdock.faults.add(Fault(kind="short", on="rest", frames=3))
    assert await api.get(MESSAGES, limit=10, sort=sort) == whole[kept]
    assert await api.get(MESSAGES, limit=10, sort=sort) == whole
    assert flowdock.faults.fired == {"short": 1}
    assert flowdock.faults.withheld == []


@pytest.mark.parametrize("frames", [2, 100])
async def test_a_page_leaves_messages_out_and_nothing_else_shows_it(flowdock, api, frames):
    _, usual, whole = await api("GET", MESSAGES, params={"limit": 10})
    flowdock.faults.add(Fault(kind="hollow", on="rest", frames=frames))
    _, head, left = await api("GET", MESSAGES, params={"limit": 10})
    assert {**head, "Content-Length": "", "Date": ""} == {**usual, "Content-Length": "", "Date": ""}
    assert left == ([*whole[:4], *whole[6:]] if frames == 2 else [])
    withheld = [json.loads(message) for message in flowdock.faults.withheld]
    assert sorted([*left, *withheld], key=lambda message: message["id"]) == whole
    assert flowdock.faults.fired == {"hollow": 1}


@pytest.mark.parametrize(("kind", "on"), [("short", "stream"), ("drop", "rest")])
def test_a_fault_stays_on_its_side(kind, on):
    with pytest.raises(ValueError, match=kind):
        Fault(kind=kind, on=on)


async def test_what_is_concealed_is_shown_to_nobody_until_it_is_revealed(flowdock, api):
    whole = await api.get(MESSAGES, limit=10)
    timeline = flowdock.world.flows[0].timeline
    timeline.conceal(whole[4]["id"])
    assert whole[4] not in await api.get(MESSAGES, limit=10)
    assert (await api("GET", f"{MESSAGES}/{whole[4]['id']}"))[0] == 404
    timeline.reveal()
    assert await api.get(MESSAGES, limit=10) == whole
