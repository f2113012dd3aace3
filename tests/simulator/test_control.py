import asyncio
import json
from typing import Any

import aiohttp
import pytest


async def lines(flowdock, path) -> list[dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(flowdock.api_url + path) as response,
    ):
        return [json.loads(line) async for line in response.content]


async def test_the_truth_told_outside_is_the_truth_inside(flowdock):
    told = await lines(flowdock, "/_simulator/truth")
    truth = flowdock.world.truth()
    messages = [record for record in told if record["kind"] == "message"]
    inside = [message for flow in truth["flows"].values() for message in flow["messages"]]
    assert messages == inside
    assert [record for record in told if record["kind"] == "user"] == truth["users"]


async def test_the_truth_of_one_flow_can_be_asked_for(flowdock):
    told = await lines(flowdock, "/_simulator/truth?flow=acme/main")
    assert {record["flow"] for record in told} == {"acme/main"}
    flow, *rest = told
    assert flow["head"] == flowdock.world.flows[0].timeline.head
    assert flow["stored"] == sum(record["kind"] == "message" for record in rest)


async def test_traffic_is_played_from_outside_and_counted(flowdock, api, connect):
    stream = await connect("/flows?filter=acme/main&user=1")
    await stream.read_head()
    await flowdock.connected()
    status, _, body = await api("POST", "/_simulator/play", json={"seed": 3, "events": 40})
    assert (status, body) == (200, {"played": 40})
    await flowdock.delivered()
    stats = await api.get("/_simulator/stats")
    assert stats["connections"] == 1
    assert stats["events_published"] >= stats["events_sent"] > 0


async def test_endless_traffic_is_begun_and_stopped_from_outside(flowdock, api, connect):
    stream = await connect("/flows?filter=acme/main,acme/development,acme/operations&user=1")
    await stream.read_head()
    await flowdock.connected()
    await api("POST", "/_simulator/play", json={"seed": 3, "rate": 1000})
    await stream.until(lambda body: body.count(b"\r\n") >= 5)
    await api("POST", "/_simulator/stop_traffic")
    published = flowdock.world.log.published
    await api.get("/flows")
    assert flowdock.world.log.published == published


async def test_faults_are_added_told_and_cleared_from_outside(flowdock, api):
    fault = {"kind": "status", "on": "rest", "path": "/user", "status": 500}
    status, _, body = await api("POST", "/_simulator/faults", json=fault)
    assert (status, body["fired"]) == (200, {"status": 0})
    assert (await api("GET", "/user"))[0] == 500
    told = await api.get("/_simulator/faults")
    assert told["fired"] == {"status": 1}
    assert told["faults"][0]["path"] == "/user"
    assert (await api("DELETE", "/_simulator/faults"))[2]["faults"] == []
    status, _, body = await api("POST", "/_simulator/faults", json={"faults": [{"kind": "x"}]})
    assert status == 400
    for wrong in (
        {"seed": "x", "events": 1},
        {"rate": "x"},
        {"events": -1},
        {"events": 1, "at": 10**20},
        {"events": 1, "at": -1},
    ):
        assert (await api("POST", "/_simulator/play", json=wrong))[0] == 400


@pytest.mark.parametrize(
    "wrong",
    ["", "{}", '{"seed": 3}', '{"events": 0}', '{"rate": 1, "at": 5}',
     *(f'{{"{name}": {value}, "events": 1}}' for name in ("rate", "at", "seed")
       for value in ("9" * 400 if name != "seed" else "true", "NaN", "Infinity", '"nan"', "[]",
                     "false", '""', "1e400")),
     *(f'{{"events": {value}, "rate": 1}}' for value in ("9" * 400, "[]", "{}", '""', 10**9)),
     '{"rate": -1}', '{"rate": "inf"}', '{"rate": 1e308}', '{"rate": []}'],
)  # fmt: skip
async def test_traffic_that_cannot_be_is_refused_and_changes_nothing(flowdock, api, wrong):
    head = {"Content-Type": "application/json"}
    published = flowdock.world.log.published
    status, _, body = await api("POST", "/_simulator/play", data=wrong, headers=head)
    assert (status, bool(body["message"])) == (400, True)
    await asyncio.sleep(0)
    assert flowdock.world.log.published == published
    assert (await api("POST", "/_simulator/play", json={"events": 1}))[0] == 200


@pytest.mark.parametrize(
    "wrong",
    ["", '{"faults": {}}', '{"faults": 3}',
     *(f'{{"kind": "refuse", "{name}": {"9" * 400}}}'
       for name in ("after_seconds", "seconds", "frames", "after_bytes", "times")),
     '{"kind": "refuse", "seconds": 1e300}', '{"kind": "repeat", "frames": 99999999999999999999}',
     '{"kind": "status", "retry_after": "1\\r\\nX: y"}', '{"kind": "status", "body": "\\ud800"}'],
)  # fmt: skip
async def test_a_fault_that_cannot_be_is_refused_and_changes_nothing(flowdock, api, wrong):
    head = {"Content-Type": "application/json"}
    status, _, body = await api("POST", "/_simulator/faults", data=wrong, headers=head)
    assert (status, list(body["errors"])) == (400, ["faults"])
    assert (await api.get("/_simulator/faults"))["faults"] == []
    assert await api.get("/user")


@pytest.mark.parametrize(
    ("method", "name"),
    [("POST", "faults"), ("POST", "play"), ("POST", "disconnect"), ("GET", "truth")],
)
async def test_no_page_in_a_browser_steers(flowdock, api, method, name):
    given = json.dumps({"seed": 1, "events": 1, "kind": "status", "status": 500, "on": "rest"})
    headers = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    status, _, _ = await api(method, f"/_simulator/{name}", data=given, headers=headers)
    assert status == 403
    assert await api.get("/_simulator/faults") == {"faults": [], "fired": {}}
    assert flowdock.world.log.published == 0


async def test_all_streams_are_cut_from_outside(flowdock, api, connect):
    stream = await connect("/flows?user=1")
    await stream.read_head()
    await flowdock.connected()
    await api("POST", "/_simulator/disconnect")
    assert await stream.to_the_end() == "cut"
