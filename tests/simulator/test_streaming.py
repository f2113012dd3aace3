import asyncio
import json
from base64 import b64encode
from typing import Any

import pytest

from archiver.simulator import membership
from archiver.simulator.log import event_id
from archiver.simulator.server import Simulator

EVENT_STREAM = "text/event-stream"


def objects(body: bytes) -> list[dict[str, Any]]:
    """The events of a JSON stream so far."""
    return [json.loads(frame) for frame in body.split(b"\r\n") if frame.strip()]


def data(body: bytes) -> list[dict[str, Any]]:
    """The events of an event-stream so far."""
    return [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: ")]


def whole(count: int):
    return lambda body: body.count(b"\r\n") >= count


async def test_a_json_frame_is_one_object_and_cr_lf(flowdock, connect):
    stream = await connect("/flows?filter=acme/main")
    assert await stream.read_head() == 200
    await flowdock.connected()
    posted = flowdock.world.post(flowdock.world.flows[0], flowdock.me, "line\none ä")

    body = await stream.until(whole(1))

    assert body.startswith(b"\n{")
    assert body.endswith(b"}\r\n")
    assert body.count(b"\r") == 1
    assert "ä".encode() in body
    (event,) = objects(body)
    assert (event["id"], event["content"]) == (posted.id, "line\none ä")
    assert event["flow"] == flowdock.world.flows[0].id
    assert event["user"] == str(flowdock.me.id)
    assert "edited" not in event


async def test_the_head_of_a_stream_is_as_the_service_sent_it(flowdock, connect):
    stream = await connect("/flows?filter=acme/main")
    await stream.read_head()
    assert b"Server: Florence\r\n" in stream.head
    assert b"Cache-Control: no-cache\r\n" in stream.head
    assert b"Content-Type: application/json\r\n" in stream.head
    assert b"Transfer-Encoding: chunked\r\n" in stream.head
    assert b"Flowdock-User: 1\r\n" in stream.head
    assert b"Date:" not in stream.head
    assert b"Access-Control" not in stream.head


async def test_a_page_from_elsewhere_may_listen_in_a_browser(flowdock, connect):
    token = flowdock.me.access_token
    page = {"Accept": "text/event-stream", "Origin": "https://chat.example"}
    stream = await connect(f"/flows?filter=acme/main&access_token={token}", **page)
    assert await stream.read_head() == 200
    assert b"Access-Control-Allow-Origin: *\r\n" in stream.head


@pytest.mark.parametrize("by_header", [True, False])
async def test_an_event_stream_frame_is_an_opaque_id_and_one_line_of_data(
    flowdock, connect, by_header
):
    if by_header:
        stream = await connect("/flows?filter=acme/main", Accept=EVENT_STREAM)
    else:
        stream = await connect(f"/flows?filter=acme/main&accept={EVENT_STREAM}")
    await stream.read_head()
    assert b"Content-Type: text/event-stream\r\n" in stream.head
    await flowdock.connected()
    flowdock.world.post(flowdock.world.flows[0], flowdock.me, "two\nlines")

    body = await stream.until(lambda body: body.endswith(b"\n\n"))

    keepalive, identity, payload, *rest = body.split(b"\n")
    assert keepalive == b":"
    assert identity.startswith(b"id: ")
    assert not identity[4:].isdigit()
    with pytest.raises(ValueError, match="could not convert"):
        float(identity[4:])
    assert payload.startswith(b"data: {")
    assert rest == [b"", b""]
    assert json.loads(payload[6:])["content"] == "two\nlines"


@pytest.mark.parametrize(("accept", "sign"), [("application/json", b"\n"), (EVENT_STREAM, b":\n")])
async def test_a_quiet_stream_is_kept_alive(connect, accept, sign):
    async with Simulator.start(keepalive_seconds=0.01) as quiet:
        stream = await connect("/flows?filter=acme/main", of=quiet, Accept=accept)
        assert await stream.read_head() == 200
        body = await stream.until(lambda body: len(body) >= 5 * len(sign))
        assert body == sign * (len(body) // len(sign))


async def test_a_filter_names_flows_by_address_or_id_and_no_other_is_streamed(flowdock, connect):
    main, development, operations = flowdock.world.flows
    stream = await connect(f"/flows?filter={main.id}%2C{development.path}")
    assert await stream.read_head() == 200
    await flowdock.connected()
    for flow in (operations, main, operations, development):
        flowdock.world.post(flow, flowdock.me, flow.slug)
    events = objects(await stream.until(whole(2)))
    assert [event["content"] for event in events] == ["main", "development"]


async def test_a_single_flow_has_an_address_of_its_own(flowdock, connect):
    stream = await connect("/flows/acme/main")
    assert await stream.read_head() == 200
    await flowdock.connected()
    flowdock.world.post(flowdock.world.flows[0], flowdock.me, "here")
    assert objects(await stream.until(whole(1)))[0]["content"] == "here"


async def test_private_messages_come_with_user_1_alone(flowdock, connect):
    world, me = flowdock.world, flowdock.me
    with_user = await connect("/flows?user=1")
    without = await connect("/flows?filter=acme/main")
    await with_user.read_head()
    await without.read_head()
    await flowdock.connected(2)
    talk = world.directory.conversation(me, world.users[1])
    strangers = world.directory.conversation(world.users[1], world.users[2])
    world.post(strangers, world.users[1], "not for us")
    posted = world.post(talk, world.users[1], "for your eyes only")
    world.post(world.flows[0], me, "for all")

    (private,) = objects(await with_user.until(whole(1)))
    (public,) = objects(await without.until(whole(1)))

    assert private["to"] == str(me.id)
    assert "flow" not in private
    assert private["id"] == posted.id > 9_000_000_000
    assert public["content"] == "for all"


async def test_neither_filter_nor_user_is_refused(flowdock, connect):
    stream = await connect("/flows?active=idle")
    assert await stream.read_head() == 400


@pytest.mark.parametrize(
    ("mode", "status"), [("organization", 403), ("invitation", 404), ("none", 404)]
)
async def test_one_flow_out_of_reach_refuses_the_whole_stream(flowdock, connect, mode, status):
    if mode != "none":
        acme = flowdock.world.directory.organizations["acme"]
        flowdock.world.directory.add_flow(acme, slug="lost", name="Lost", access_mode=mode)
    stream = await connect("/flows?filter=acme/main,acme/lost")
    assert await stream.read_head() == status
    assert flowdock.streams.connections == set()


async def test_a_stream_needs_credentials(flowdock, connect):
    stream = await connect("/flows?filter=acme/main", Authorization="Basic bm9ib2R5Og==")
    assert await stream.read_head() == 401


@pytest.mark.parametrize(("head_bytes", "status"), [(8192, 200), (8193, 400)])
async def test_a_request_head_over_8_kib_is_answered_with_400(
    flowdock, connect, head_bytes, status
):
    probe = await connect("/flows?filter=acme/main&x=", Accept="*/*")
    await probe.read_head()
    host = flowdock.stream_url.removeprefix("http://").split(":")[0]
    secret = b64encode(f"{flowdock.token}:".encode()).decode()
    bare = (
        f"GET /flows?filter=acme/main&x= HTTP/1.1\r\nHost: {host}\r\n"
        f"Authorization: Basic {secret}\r\nAccept: */*\r\n\r\n"
    )
    padding = "x" * (head_bytes - len(bare))
    stream = await connect(f"/flows?filter=acme/main&x={padding}", Accept="*/*")
    assert await stream.read_head() == status


async def test_activity_is_streamed_takes_an_id_and_is_never_listed(flowdock, connect, api):
    flow = flowdock.world.flows[0]
    head = flow.timeline.head
    watching = await connect("/flows?filter=acme/main")
    await watching.read_head()
    await flowdock.connected(1)
    active = await connect("/flows?filter=acme/main&active=true", user=flowdock.world.users[0])
    await active.read_head()

    (event,) = objects(await watching.until(whole(1)))

    assert (event["event"], event["id"], event["persist"]) == ("activity.user", head + 1, False)
    assert flow.timeline.head == head + 1
    assert await api.get("/flows/acme/main/messages", since_id=head) == []


async def test_presence_comes_to_who_asks_for_it(flowdock, connect):
    stream = await connect("/flows?filter=acme/main&presence=1")
    await stream.read_head()
    await flowdock.connected()
    membership.show_presence(flowdock.world, flowdock.world.users[1], 2000000)
    (event,) = objects(await stream.until(whole(1)))
    assert event["content"]["state"] == 2000000
    assert event.keys() == {"event", "content", "user_id"}


@pytest.mark.parametrize(("active", "state"), [("true", 2000000), ("idle", 1000000)])
async def test_a_stream_shows_its_user_until_the_last_of_them_ends(
    flowdock, connect, active, state
):
    mine, user = flowdock.me, flowdock.world.users[1]
    watching = await connect("/flows?user=1&presence=1", user=mine)
    await watching.read_head()
    shown = []
    for path in (f"/flows?user=1&active={active}", "/flows?user=1&active=idle", "/flows?user=1"):
        shown.append(await connect(path, user=user))
        await shown[-1].read_head()
        await flowdock.connected(1 + len(shown))
    for stream in shown:
        stream.writer.transport.abort()
    told = objects(await watching.until(whole(3)))

    states = [(event["user_id"], event["content"]["state"]) for event in told]
    assert states == [(user.id, state), (user.id, 1000000), (user.id, 0)]


async def test_only_an_active_stream_is_activity_of_its_user(flowdock, connect, api):
    async def last_activity() -> Any:
        users = (await api.get("/flows/acme/main"))["users"]
        return next(user["last_activity"] for user in users if user["id"] == flowdock.me.id)

    before = await last_activity()
    for number, query in enumerate(("", "&active=idle"), start=1):
        stream = await connect(f"/flows?filter=acme/main{query}")
        await stream.read_head()
        await flowdock.connected(number)
        assert await last_activity() == before
    stream = await connect("/flows?filter=acme/main&active=true")
    await stream.read_head()
    await flowdock.connected(3)
    assert (await last_activity() or 0) > (before or 0)


async def test_joining_a_flow_is_told_to_the_own_stream_without_an_id(flowdock, connect):
    acme = flowdock.world.directory.organizations["acme"]
    stream = await connect("/flows?user=1")
    await stream.read_head()
    await flowdock.connected()
    flow = membership.found(flowdock.world, acme, "New one", flowdock.me)
    membership.leave(flowdock.world, flow, flowdock.me)
    added, removed = objects(await stream.until(whole(2)))
    assert (added["event"], removed["event"]) == ("flow-add", "flow-remove")
    assert added["content"]["id"] == flow.id
    assert added["user"] == flowdock.me.id
    assert "id" not in added


async def test_a_stream_brings_nothing_of_a_flow_that_was_left_until_it_is_joined_again(
    flowdock, connect
):
    flow, me = flowdock.world.flows[0], flowdock.me
    stream = await connect("/flows?filter=acme/main")
    await stream.read_head()
    await flowdock.connected()
    membership.leave(flowdock.world, flow, me)
    flowdock.world.post(flow, me, "unheard")
    joined = membership.join(flowdock.world, flow, me)
    told, left, again = objects(await stream.until(whole(3)))
    assert (told["content"]["type"], left["event"]) == ("block", "backend.user.block")
    assert again["id"] == joined.id


async def test_after_last_event_id_all_is_repeated_that_was_missed(flowdock, connect):
    flow, other = flowdock.world.flows[:2]
    stream = await connect("/flows/acme/main", Accept=EVENT_STREAM)
    await stream.read_head()
    await flowdock.connected()
    first = flowdock.world.post(flow, flowdock.me, "seen")
    body = await stream.until(lambda body: body.endswith(b"\n\n"))
    last = body.split(b"id: ")[1].split(b"\n")[0].decode()
    await flowdock.disconnect_streams()
    flowdock.world.edit(flow, first.id, "missed edit")
    flowdock.world.post(other, flowdock.me, "of another flow")
    flowdock.world.post(flow, flowdock.me, "missed")

    again = await connect("/flows/acme/main", Accept=EVENT_STREAM, Last_Event_ID=last)
    await again.read_head()
    replayed = data(await again.until(lambda body: body.count(b"\n\n") >= 2))

    assert [event["event"] for event in replayed] == ["message-edit", "message"]


async def test_replay_reaches_no_further_than_its_window(connect):
    async with Simulator.start(replay_window=3) as short:
        stream = await connect("/flows/acme/main", of=short, Accept=EVENT_STREAM)
        await stream.read_head()
        await short.connected()
        short.world.post(short.world.flows[0], short.me, "first")
        body = await stream.until(lambda body: body.endswith(b"\n\n"))
        last = body.split(b"id: ")[1].split(b"\n")[0].decode()
        for number in range(5):
            short.world.post(short.world.flows[0], short.me, str(number))
        again = await connect("/flows/acme/main", of=short, Accept=EVENT_STREAM, Last_Event_ID=last)
        await again.read_head()
        body = await again.until(lambda body: body.count(b"\n\n") >= 3)
        assert [event["content"] for event in data(body)] == ["2", "3", "4"]


@pytest.mark.parametrize(
    ("replay", "last"),
    [("none", None), ("all", "unheard-of"), ("all", "12"), ("all", event_id(2**70))],
)
async def test_without_replay_or_with_an_unknown_id_only_new_events_come(connect, replay, last):
    async with Simulator.start(replay=replay) as forgetful:
        stream = await connect("/flows/acme/main", of=forgetful, Accept=EVENT_STREAM)
        await stream.read_head()
        await forgetful.connected()
        flow = forgetful.world.flows[0]
        forgetful.world.post(flow, forgetful.me, "first")
        body = await stream.until(lambda body: body.endswith(b"\n\n"))
        last = last or body.split(b"id: ")[1].split(b"\n")[0].decode()
        forgetful.world.post(flow, forgetful.me, "missed")
        again = await connect(
            "/flows/acme/main", of=forgetful, Accept=EVENT_STREAM, Last_Event_ID=last
        )
        await again.read_head()
        await forgetful.connected(2)
        forgetful.world.post(flow, forgetful.me, "new")
        events = data(await again.until(lambda body: body.endswith(b"\n\n")))
        assert [event["content"] for event in events] == ["new"]


async def test_a_client_that_does_not_read_is_cut_off(connect):
    async with Simulator.start(max_lag_bytes=200_000) as flowdock:
        stream = await connect("/flows/acme/main", of=flowdock)
        await stream.read_head()
        await flowdock.connected()
        stream.reader._transport.pause_reading()
        while flowdock.streams.connections:
            flowdock.world.post(flowdock.world.flows[0], flowdock.me, "x" * 8000)
            await asyncio.sleep(0)
        assert flowdock.streams.lagged == 1


async def test_the_port_of_the_api_serves_streams_too(flowdock, connect, api):
    for path, accept in (
        ("/flows?filter=acme/main", "application/json"),
        ("/flows/acme/main", EVENT_STREAM),
    ):
        stream = await connect(path, port="api", Accept=accept)
        assert await stream.read_head() == 200
        assert b"Server: Florence" in stream.head
    assert len(await api.get("/flows")) == 3


async def test_poison_is_streamed_as_it_is(flowdock, connect):
    stream = await connect("/flows/acme/main")
    await stream.read_head()
    await flowdock.connected()
    flowdock.world.inject(flowdock.world.flows[0], b"\xff\xfe not json")
    assert await stream.until(whole(1)) == b"\n\xff\xfe not json\r\n"


async def test_what_is_still_being_written_is_not_delivered(flowdock, connect):
    stream = await connect("/flows?filter=acme/main")
    await stream.read_head()
    await stream.until(lambda body: body == b"\n")
    size = 15 * 2**20  # more than the sockets buffer if nobody reads
    flowdock.world.inject(flowdock.world.flows[0], b"x" * size)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await flowdock.delivered()
    delivered = asyncio.create_task(flowdock.delivered())
    await stream.until(lambda body: len(body) > size)
    await delivered
