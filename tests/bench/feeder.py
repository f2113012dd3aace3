"""The server of the benchmarks: a Flowdock that costs nearly nothing, in a process of its own.

It answers with bytes that lie ready, so that what is measured is the archiver. What it is to say is
set by requests under ``/_feeder``: a *scene* (events to stream, or messages to list), and ``go``,
which has some or all of the events said.
"""

import asyncio
import os
import sys
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import suppress
from email.utils import formatdate
from itertools import islice
from urllib.parse import parse_qs, urlencode, urlsplit

from msgspec import Struct, field

from tests.bench import traffic
from tests.bench.scenes import Asked, Scene, prepare
from tests.bench.traffic import Sent, encode

RECORDS_A_CHUNK = 16
"""What a busy server, or the proxy before it, has gathered by the time it writes."""
WRITE_BYTES = 64 * 1024
TICK_SECONDS = 0.002
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n"
_DAY_BEFORE = formatdate(traffic.BEGAN_AT / 1000 - 24 * 3600, usegmt=True)
_DATE = f"Date: {_DAY_BEFORE}\r\n".encode()
"""The time by the clock that dates the events: before all of them, so that they are new."""
Query = dict[str, str]


class Go(Struct, frozen=True, kw_only=True):
    """That some of the events are to be said now, those from one place to another."""

    first: int
    last: int
    rate: float
    """Events in a second, of all streams together; 0 for as fast as they can be written."""
    began_at: float


class Play(Struct, kw_only=True):
    """A scene, and how far it has come."""

    scene: Scene
    goes: list[Go] = field(default_factory=list)
    streams: dict[asyncio.Queue[Go], set[int]] = field(default_factory=dict)
    """Of each open stream what it is to say, and the flows it was opened for."""
    unseen: set[int] = field(default_factory=set)
    """Flows that nobody asked for since they were last on a new stream."""
    asked: list[str] = field(default_factory=list)
    first_asked_at: float = 0.0
    asked_at: float = 0.0
    """When it was last asked for messages."""
    written: list[tuple[int, int, float]] = field(default_factory=list)

    def go(self, *, rate: float, events: int) -> Go:
        """Have that many more events said, or all that are left if fewer are."""
        first = self.goes[-1].last if self.goes else 0
        last = min(first + events, len(self.scene.events))
        self.goes.append(Go(first=first, last=last, rate=rate, began_at=time.monotonic()))
        for queue in self.streams:
            queue.put_nowait(self.goes[-1])
        return self.goes[-1]

    def stats(self) -> dict[str, float]:
        """How much is followed and was asked for."""
        return {
            "flows": len(self.scene.numbers),
            "followed": sum(map(len, self.streams.values())),
            "unseen": len(self.unseen),
            "requests": len(self.asked),
            "first_asked_at": self.first_asked_at,
            "asked_at": self.asked_at,
        }

    def page(self, flow: int, query: Query) -> bytes:
        """One page of List Messages; ids are found by bisection."""
        self.unseen.discard(flow)
        ids, frames = self.scene.listed.get(flow, ([], []))
        first = bisect_right(ids, int(query.get("since_id", 0)))
        last = bisect_left(ids, int(query.get("until_id", 2**63)))
        limit = int(query.get("limit", 30))
        if query.get("sort") == "asc":
            last = min(last, first + limit)
        else:
            first = max(first, last - limit)
        return b"[" + b",".join(frames[first:last]) + b"]"

    async def follow(
        self, flows: set[int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Say what the scene has for these flows, when it is time, until the connection ends."""
        writer.write(_HEAD % b"text/event-stream" + b"Transfer-Encoding: chunked\r\n\r\n")
        places = [place for place, one in enumerate(self.scene.events) if one.flow in flows]
        blocks = list(_blocks([self.scene.events[place] for place in places]))
        queue: asyncio.Queue[Go] = asyncio.Queue()
        for go in self.goes:
            queue.put_nowait(go)
        self.streams[queue] = flows
        self.unseen |= flows
        saying = asyncio.create_task(self._say(places, blocks, queue, writer))
        try:
            await reader.read()
        finally:
            saying.cancel()
            del self.streams[queue]

    async def _say(
        self,
        places: list[int],
        blocks: list[bytes],
        goes: asyncio.Queue[Go],
        writer: asyncio.StreamWriter,
    ) -> None:
        """Say the events of *places*, which are *blocks* if all are said at once."""
        with suppress(ConnectionError):
            while True:
                go = await goes.get()
                if go.rate:
                    await self._say_in_time(places, go, writer)
                    continue
                for block in blocks:
                    writer.write(block)
                    await writer.drain()

    async def _say_in_time(self, places: list[int], go: Go, writer: asyncio.StreamWriter) -> None:
        """Write each event at its time, which is that of its place among those of all flows.

        So all come in their order, however the flows are dealt out to connections.
        """
        told, last = bisect_left(places, go.first), bisect_left(places, go.last)
        while told < last:
            up_to = go.first + (time.monotonic() - go.began_at) * go.rate
            due = min(last, bisect_right(places, up_to))
            if due > told:
                events = [self.scene.events[place] for place in places[told:due]]
                writer.write(_chunk(events))
                now = time.monotonic()
                self.written += [(one.flow, one.id, now) for one in events]
                told = due
            await asyncio.sleep(TICK_SECONDS)


class Feeder:
    """Who answers."""

    def __init__(self) -> None:
        self._play = Play(scene=prepare(Asked(flows=0)))
        self._tasks: set[asyncio.Task[None] | None] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        task = asyncio.current_task()
        self._tasks.add(task)  # the loop itself would let go of one that waits
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                target = urlsplit(head.split(b" ", 2)[1].decode())
                query = {name: values[-1] for name, values in parse_qs(target.query).items()}
                if target.path == "/flows" and ("filter" in query or "user" in query):
                    paths = filter(None, query.get("filter", "").split(","))
                    flows = {self._play.scene.numbers[path] for path in paths}
                    await self._play.follow(flows, reader, writer)
                    return
                body = self._answer(target.path, query)
                length = b"Content-Length: %d\r\n\r\n" % len(body)
                writer.write(_HEAD % b"application/json" + _DATE + length + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    def _answer(self, path: str, query: Query) -> bytes:
        play = self._play
        match path.split("/")[1:]:
            case ["user"]:
                return encode({"id": 1, "nick": "Bench"})
            case ["flows"]:
                return traffic.flow_objects(len(play.scene.numbers))
            case ["flows", organization, flow]:
                return traffic.flow_object(play.scene.numbers[f"{organization}/{flow}"])
            case ["flows", organization, flow, "messages"]:
                play.asked_at = time.monotonic()
                play.first_asked_at = play.first_asked_at or play.asked_at
                play.asked.append(f"{path}?{urlencode(query)}")
                return play.page(play.scene.numbers[f"{organization}/{flow}"], query)
            case ["_feeder", "scene"]:
                # What was said and asked is of the play, and that is a new one.
                asked = Asked(**{name: int(value) for name, value in query.items()})
                scene = prepare(asked)
                self._play = Play(scene=scene)
                return encode(scene.newest)
            case ["_feeder", "go"]:
                events = int(query.get("events", len(play.scene.events)))
                return encode(play.go(rate=float(query["rate"]), events=events))
            case ["_feeder", "stats"]:
                return encode(play.stats())
            case ["_feeder", "asked"]:
                return encode(play.asked)
            case ["_feeder", "written"]:
                return encode(play.written)
            case _:
                pass
        return b"[]"


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
