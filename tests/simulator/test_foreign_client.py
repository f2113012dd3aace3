"""A third-party client for the real service takes the simulator for it."""

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import flowdock as foreign  # type: ignore[import-untyped]
import pytest

from archiver.simulator.server import Simulator


@pytest.fixture
def client(flowdock: Simulator, monkeypatch):
    monkeypatch.setattr(foreign, "API", flowdock.api_url)
    monkeypatch.setattr(foreign, "STREAM", flowdock.stream_url)
    monkeypatch.delattr(foreign.get_uid, "cache", raising=False)
    return foreign.connect(token=flowdock.token)


@pytest.fixture
def main(client):
    return client(org="acme", flow="main")


async def test_it_sends_shows_edits_tags_and_deletes(main, flowdock):
    def talk() -> None:
        sent = main.send("hello @mike", tags=["#todo"])
        assert main.show(sent["id"])["tags"] == ["todo", ":user:2"]
        main.edit(sent["id"], content="changed")
        main.edit(sent["id"], tags=["ref", "@team", "ref"])
        shown = main.show(sent["id"])
        assert (shown["content"], shown["tags"]) == ("changed", ["ref", ":user:team"])
        main.delete(sent["id"])
        assert main.show(sent["id"])["content"] == ""

    await asyncio.to_thread(talk)


async def test_it_lists_with_every_condition(main, flowdock):
    def read() -> None:
        one = main.send("zebra one", tags=["red"])
        two = main.send("zebra two", tags=["blue"])
        first, second = one["id"], two["id"]
        pages = [
            main.list(limit=2),
            main.list(search="zebra"),
            main.list(search="zebra", skip=1),
            main.list(tags=["red", "blue"], tag_mode="or"),
            main.list(since_id=first - 1, until_id=second, event="message"),
            main.list(since_id=first - 1, sort="asc", limit=1),
        ]
        expected = [[first, second], [first, second], [first], [first, second], [first], [first]]
        assert [[message["id"] for message in page] for page in pages] == expected

    await asyncio.to_thread(read)


# The client leaves the files that it uploads for the garbage collector to close.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_it_uploads_downloads_and_removes_a_file(main, tmp_path):
    def exchange() -> None:
        file = tmp_path / "notes.bin"
        file.write_bytes(bytes(range(256)))
        sent = main.upload(file)
        gc.collect()
        assert main.download(sent["content"]["path"]) == bytes(range(256))
        main.delete(sent["id"])
        with pytest.raises(AssertionError, match="not found"):
            main.show(sent["id"])

    await asyncio.to_thread(exchange)


async def test_it_talks_in_threads_and_in_private(client, main):
    def talk() -> None:
        first = main.send("question")
        thread = main.thread(first["thread_id"])
        answer = thread.send("answer")
        assert [message["id"] for message in thread.list()] == [first["id"], answer["id"]]
        assert main.threads(limit=1)[0]["id"] == first["thread_id"]
        private = client(uid=client.get_uid(name="Mike"))
        sent = private.send("psst")
        private.edit(sent["id"], content="changed")
        assert private.list(limit=1)[0]["content"] == "changed"

    await asyncio.to_thread(talk)


async def test_an_integration_presents_itself(flowdock, main, monkeypatch):
    def present() -> None:
        builds = foreign.connect(flow_token=flowdock.world.flows[0].api_token)
        builds.present("b-1", {"name": "Robot"}, "built", thread={"title": "Build 1"})
        (activity,) = main.list(limit=1)
        assert (activity["event"], activity["thread"]["title"]) == ("activity", "Build 1")

    await asyncio.to_thread(present)


async def test_it_reads_the_event_stream(flowdock, main):
    read: list[dict[str, Any]] = []
    reading = threading.Thread(target=_read, args=(main.events, read), daemon=True)
    reading.start()
    await flowdock.connected()
    await flowdock.play(seed=7, events=60)
    flowdock.world.post(flowdock.world.flows[0], flowdock.me, "the end")
    await asyncio.to_thread(reading.join)

    main_flow = flowdock.world.flows[0]
    assert {event["flow"] for event in read} == {main_flow.id}
    stored = {event["id"] for event in read if main_flow.timeline.get(event["id"])}
    assert stored == {m.id for m in main_flow.timeline.oldest_first(read[0]["id"] - 1, None)}


def _read(events: Callable[[], Iterator[dict[str, Any]]], read: list[dict[str, Any]]) -> None:
    for event in events():
        read.append(event)
        if event["content"] == "the end":
            return
