"""The server of the benchmarks: a Flowdock that costs nearly nothing, in a process of its own.

It answers with bytes that lie ready, so that what is measured is the archiver. What it is to say is
set by requests under ``/_feeder``: a *scene* (events to stream, or messages to list), and ``go``.
"""

import asyncio
import os
import sys
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import islice
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.bench import traffic
from tests.bench.traffic import Sent, encode

RECORDS_A_CHUNK = 16
"""What a busy server, or the proxy before it, has gathered by the time it writes."""
WRITE_BYTES = 64 * 1024
TICK_SECONDS = 0.002
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n"
Query = dict[str, str]


class Feeder:
    """What is to be said, and how far that has come."""

    def __init__(self) -> None:
        self._events: list[Sent] = []
        self._numbers: dict[str, int] = {}
        self._listed: dict[int, tuple[list[int], list[bytes]]] = {}
        self._begun = asyncio.Event()
        self._rate = 0.0
        self._connections = 0
        self._tasks: set[asyncio.Task[None] | None] = set()
        self._asked: list[str] = []
        self._first_asked_at = 0.0
        self._written: list[tuple[int, int, float]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        task = asyncio.current_task()
        self._tasks.add(task)  # the loop itself would let go of one that waits
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                target = urlsplit(head.split(b" ", 2)[1].decode())
                query = {name: values[-1] for name, values in parse_qs(target.query).items()}
                if target.path == "/flows" and ("filter" in query or "user" in query):
                    await self._stream(query.get("filter", ""), writer)
                    return
                body = self._answer(target.path, query)
                length = b"Content-Length: %d\r\n\r\n" % len(body)
                writer.write(_HEAD % b"application/json" + length + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    def _answer(self, path: str, query: Query) -> bytes:
        match path.split("/")[1:]:
            case ["user"]:
                return encode({"id": 1, "nick": "Bench"})
            case ["flows"]:
                return traffic.flow_objects(len(self._numbers))
            case ["flows", organization, flow, "messages"]:
                self._first_asked_at = self._first_asked_at or time.monotonic()
                self._asked.append(f"{path}?{urlencode(query)}")
                return self._page(self._numbers[f"{organization}/{flow}"], query)
            case ["_feeder", "scene"]:
                return self._set_scene({name: int(value) for name, value in query.items()})
            case ["_feeder", "go"]:
                self._rate = float(query["rate"])
                self._begun.set()
            case ["_feeder", "stats"]:
                return encode(
                    {
                        "connections": self._connections,
                        "requests": len(self._asked),
                        "first_asked_at": self._first_asked_at,
                    }
                )
            case ["_feeder", "asked"]:
                return encode(self._asked)
            case ["_feeder", "written"]:
                return encode(self._written)
            case _:
                pass
        return b"[]"

    def _set_scene(self, scene: dict[str, int]) -> bytes:
        """Prepare what is said from now on; returns the newest id of each flow."""
        flows, seed = scene["flows"], scene.get("seed", 1)
        self._begun = asyncio.Event()
        self._asked, self._written, self._first_asked_at = [], [], 0.0
        self._numbers = {traffic.path_of(number): number for number in range(flows)}
        told = {"flows": flows, "seed": seed, "after": scene.get("after", 0)}
        self._events = list(traffic.events(scene.get("events", 0), **told))
        if "large" in scene:
            size = scene["content_bytes"]
            self._events = list(traffic.large(scene["large"], flows=flows, content_bytes=size))
        self._listed = {}
        for number in range(flows if "messages" in scene else 0):
            listed = list(traffic.messages(scene["messages"], flow=number, seed=seed))
            self._listed[number] = [one.id for one in listed], [one.frame for one in listed]
        newest = {one.flow: one.id for one in self._events}
        newest |= {number: ids[-1] for number, (ids, _) in self._listed.items() if ids}
        return encode(newest)

    def _page(self, flow: int, query: Query) -> bytes:
        """One page of List Messages; ids are found by bisection."""
        ids, frames = self._listed.get(flow, ([], []))
        first = bisect_right(ids, int(query.get("since_id", 0)))
        last = bisect_left(ids, int(query.get("until_id", 2**63)))
        limit = int(query.get("limit", 30))
        if query.get("sort") == "asc":
            last = min(last, first + limit)
        else:
            first = max(first, last - limit)
        return b"[" + b",".join(frames[first:last]) + b"]"

    async def _stream(self, chosen: str, writer: asyncio.StreamWriter) -> None:
        """Say what the scene has for these flows, when it is time, and then keep silent."""
        flows = {self._numbers[path] for path in chosen.split(",") if path}
        writer.write(_HEAD % b"text/event-stream" + b"Transfer-Encoding: chunked\r\n\r\n")
        events = [event for event in self._events if event.flow in flows]
        blocks = list(_blocks(events))
        self._connections += 1
        try:
            await self._begun.wait()
            if self._rate:
                await self._at_a_rate(events, writer)
            else:
                for block in blocks:
                    writer.write(block)
                    await writer.drain()
            await writer.wait_closed()
        finally:
            self._connections -= 1

    async def _at_a_rate(self, events: list[Sent], writer: asyncio.StreamWriter) -> None:
        """Write each event at its time, which is that of its place among those of all flows.

        So all come in their order, however the flows are dealt out to connections.
        """
        flows = {event.flow for event in events}
        places = [place for place, event in enumerate(self._events) if event.flow in flows]
        began = time.monotonic()
        told = 0
        while told < len(events) and not writer.is_closing():
            due = bisect_right(places, (time.monotonic() - began) * self._rate)
            if due > told:
                writer.write(_chunk(events[told:due]))
                now = time.monotonic()
                self._written += [(one.flow, one.id, now) for one in events[told:due]]
                told = due
            await asyncio.sleep(TICK_SECONDS)


def _blocks(events: list[Sent]) -> Iterator[bytes]:
    """*events* in chunks of HTTP, as many at a time as are written together."""
    block = bytearray()
    waiting = iter(events)
    while some := list(islice(waiting, RECORDS_A_CHUNK)):
        block += _chunk(some)
        if len(block) >= WRITE_BYTES:
            yield bytes(block)
            block.clear()
    yield bytes(block)


def _chunk(events: list[Sent]) -> bytes:
    body = traffic.as_event_stream(events)
    return b"%x\r\n%b\r\n" % (len(body), body)


async def main() -> None:
    """Serve on a port of the system's choice, which is told in the first line; ends with stdin."""
    server = await asyncio.start_server(Feeder().serve, "127.0.0.1", 0, limit=2**20)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # there is nothing to save, and connections end with the process


if __name__ == "__main__":
    asyncio.run(main())
