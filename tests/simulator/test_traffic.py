import json
from collections import Counter

import pytest

from archiver.simulator.server import Simulator

AT = 1_700_000_000_000


async def told(seed: int, *, play: int = 7) -> tuple[str, list[bytes]]:
    """The truth after history and play, and every frame that was streamed."""
    frames: list[bytes] = []
    async with Simulator.start(seed=seed, history=300, clock=lambda: AT) as flowdock:
        flowdock.world.log.listeners.append(lambda event: frames.append(event.event_frame))
        await flowdock.play(seed=play, events=300, at=AT)
        return json.dumps(flowdock.world.truth()), frames


async def test_the_same_seed_gives_the_same_bytes():
    first, second = await told(7), await told(7)
    assert first == second
    assert len(first[1]) >= 300


async def test_another_seed_gives_another_world_and_other_traffic():
    assert (await told(7))[0] != (await told(8))[0]
    assert (await told(7))[1] != (await told(7, play=8))[1]


async def test_a_history_has_as_many_messages_as_asked_for_and_holes_between_their_ids():
    async with Simulator.start(seed=7, history=500) as flowdock:
        flows = flowdock.world.truth()["flows"].values()
        assert sum(len(flow["messages"]) for flow in flows) == 500
        assert all(flow["head"] > len(flow["messages"]) for flow in flows)
        times = [message["sent"] for flow in flows for message in flow["messages"]]
        assert max(times) - min(times) > 15 * 86_400_000


async def test_traffic_has_everything_that_happens_in_a_flow():
    seen: Counter[str] = Counter()
    async with Simulator.start(seed=7) as flowdock:

        def count(event):
            seen[json.loads(event.json_frame)["event"]] += 1

        flowdock.world.log.listeners.append(count)
        await flowdock.play(seed=7, events=3000)
    assert seen.keys() >= {
        "message", "comment", "file", "activity", "discussion", "mail", "vcs", "status", "line",
        "message-edit", "tag-change", "message-delete", "emoji-reaction", "message-change",
        "thread-change", "activity.user", "message-receive", "action",
    }  # fmt: skip
    assert seen["message"] / seen.total() > 0.6


@pytest.mark.parametrize("events", [2000])
async def test_texts_are_of_many_kinds(events):
    async with Simulator.start(seed=7, history=events) as flowdock:
        flows = flowdock.world.truth()["flows"].values()
        texts = "\n".join(
            message["content"]
            for flow in flows
            for message in flow["messages"]
            if isinstance(message["content"], str)
        )
    for part in (
        "日本",
        "утро",
        "الخ",
        "👩‍💻",
        "C++20",
        "foo_bar()",
        "https://",
        "\u2028",
        "\u0000",
    ):
        assert part in texts


async def test_the_truth_is_what_listing_shows(flowdock, api):
    await flowdock.play(seed=11, events=600)
    truth = flowdock.world.truth()
    assert sum(len(flow["gone"]) for flow in truth["flows"].values()) > 0
    for path, flow in truth["flows"].items():
        if path.startswith("private/"):
            _, one, other = path.split("/")
            if one != "1":
                continue
            address = f"/private/{other}/messages"
        else:
            address = f"/flows/{path}/messages"
        listed, since = [], 0
        while page := await api.get(address, since_id=since, sort="asc", limit=100):
            listed += page
            since = page[-1]["id"]
        keys = flow["messages"][0].keys() - {"kind", "deleted", "flow", "to", "emojiReactions"}
        assert [{key: message.get(key) for key in keys} for message in listed] == [
            {key: message[key] for key in keys} for message in flow["messages"]
        ]
        reactions = [message.get("emojiReactions", {}) for message in listed]
        assert reactions == [message["emojiReactions"] for message in flow["messages"]]
        assert since <= flow["head"]
        for message in flow["gone"]:
            assert (await api("GET", f"{address}/{message['id']}"))[0] == 404


async def test_what_happens_unheard_changes_the_truth_alone(flowdock, api):
    world, flow = flowdock.world, flowdock.world.flows[0]
    message = world.post(flow, flowdock.me, "hello")
    published = world.log.published
    with world.unheard():
        world.edit(flow, message.id, "behind the back")
    assert world.log.published == published
    (listed,) = await api.get("/flows/acme/main/messages", limit=1)
    assert listed["content"] == "behind the back"
