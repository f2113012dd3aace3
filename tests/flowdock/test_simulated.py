"""The client against a whole simulated Flowdock, its faults included."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from archiver.domain.events import Noted, Posted, Rejected, Signal
from archiver.domain.model import PRIVATE
from archiver.flowdock.client import Client, Limits
from archiver.flowdock.decode import decode, decode_listed
from archiver.flowdock.refusals import FlowRefused, ShardRefused, TokenRefused
from archiver.flowdock.retry import Delays, Gate
from archiver.flowdock.shards import Shard, assign
from archiver.flowdock.stream import Closed, Frames, Opened, follow
from archiver.simulator.faults import Fault
from archiver.simulator.server import Simulator

QUICK = Delays(
    error_step_seconds=0.001,
    error_limit_seconds=0.01,
    refusal_start_seconds=0.001,
    refusal_limit_seconds=0.01,
)


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
async def flowdock() -> AsyncIterator[Simulator]:
    async with Simulator.start(seed=5, flows=3, history=150, listing_delay_seconds=0) as simulator:
        yield simulator


@pytest.fixture
def client(flowdock: Simulator, session: Any) -> Client:
    return Client(
        session,
        flowdock.api_url,
        flowdock.token,
        gate=Gate(requests_per_second=1e6, concurrency=4),
        clock=now,
        chance=random.Random(1),
        limits=Limits(patience_seconds=20),
        delays=QUICK,
    )


@pytest.fixture
def listen(flowdock: Simulator, session: Any) -> Callable[..., Any]:
    def open_stream(shard: Shard, *, token: str | None = None, **more: Any) -> Any:
        return follow(
            session,
            flowdock.stream_url,
            shard,
            token=token or flowdock.token,
            gate=Gate(requests_per_second=1e6, concurrency=1),
            clock=now,
            service_time=now,
            chance=random.Random(1),
            delays=QUICK,
            **more,
        )

    return open_stream


async def test_all_that_is_listed_is_read_as_messages(client: Client) -> None:
    me = await client.me()
    flows = await client.flows()
    people = await client.users()
    conversations = await client.conversations()

    assert len(flows) == 3
    assert me.id in {person.id for person in people}
    assert all(it.path.startswith(f"{PRIVATE}{me.id}/") for it in conversations)
    for flow in [*flows, *conversations]:
        since, ids = 0, []
        while (page := await client.page(flow.path, since=since, newest=False)).frames:
            events = [decode_listed(frame) for frame in page.frames]
            assert {type(event) for event in events} == {Posted}
            ids += [event.id for event in events if isinstance(event, Posted)]
            since = ids[-1]
        assert ids == sorted(set(ids))
        if ids:
            newest = await client.page(flow.path, newest=True, limit=1)
            shown = await client.show(flow.path, ids[-1])
            assert newest.frames == (shown,)
        assert await client.show(flow.path, since + 1) is None


async def test_what_is_not_allowed_is_told(client: Client, listen: Any) -> None:
    with pytest.raises(FlowRefused):
        await client.page("acme/no-such-flow", newest=True)
    with pytest.raises(ShardRefused):
        await anext(listen(Shard(flows=("acme/no-such-flow",))))
    with pytest.raises(TokenRefused):
        await anext(listen(Shard(private=True), token="wrong"))


@pytest.mark.parametrize("stream_format", ["event-stream", "json"])
async def test_all_that_is_streamed_is_read_and_nothing_is_rejected(
    flowdock: Simulator, client: Client, listen: Any, stream_format: Literal["event-stream", "json"]
) -> None:
    [shard] = assign([flow.path for flow in await client.flows()], private=True)
    kinds: Counter[type] = Counter()
    playing = asyncio.create_task(play(flowdock, events=400))
    stream = listen(shard, stream_format=stream_format, silence_seconds=0.3)
    async with aclosing(stream) as occurrences:
        async for occurrence in occurrences:
            if isinstance(occurrence, Frames):
                kinds.update(type(decode(frame)) for frame in occurrence.frames)
            if isinstance(occurrence, Closed) and playing.done():
                break

    assert kinds[Posted] > 100
    assert kinds[Signal] > 10
    assert not kinds[Rejected]
    assert kinds[Noted] < 40


async def play(flowdock: Simulator, events: int) -> None:
    await flowdock.connected()
    await flowdock.play(seed=3, events=events)
    await flowdock.delivered()


async def test_with_positions_nothing_is_missed_however_often_it_is_cut(
    flowdock: Simulator, client: Client, listen: Any
) -> None:
    [shard] = assign([flow.path for flow in await client.flows()], private=False)
    flowdock.faults.add(Fault(kind="cut", after_events=7, times=3))
    flowdock.faults.add(Fault(kind="cut_inside_character", after_events=11))
    seen: set[tuple[str | None, int]] = set()
    connections, reasons = 0, []
    playing = asyncio.create_task(play(flowdock, events=300))
    async with aclosing(listen(shard, silence_seconds=0.3)) as occurrences:
        async for occurrence in occurrences:
            if isinstance(occurrence, Opened):
                connections = occurrence.connection
            elif isinstance(occurrence, Frames):
                events = map(decode, occurrence.frames)
                seen |= {(it.flow, it.id) for it in events if isinstance(it, Posted)}
            elif occurrence.connection is not None:  # on a busy machine an answer may be late
                reasons.append(occurrence.reason)
                if occurrence.reason == "silence" and playing.done():
                    break

    assert flowdock.faults.fired == {"cut": 3, "cut_inside_character": 1}
    assert connections == len(reasons) >= 5
    for flow in await client.flows():
        page = await client.page(flow.path, newest=True)
        listed = [decode_listed(frame) for frame in page.frames]
        first = min((number for place, number in seen if place == flow.id), default=0)
        missed = [
            event.id
            for event in listed
            if isinstance(event, Posted) and event.id >= first and (flow.id, event.id) not in seen
        ]
        assert missed == []
