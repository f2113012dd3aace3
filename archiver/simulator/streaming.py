"""The streams: who listens to what, and the bytes that each connection gets."""

import asyncio
import re
from collections import deque

from aiohttp import web

from archiver.simulator.access import Refused, asker, is_true, readable_flow
from archiver.simulator.connection import (
    Connection,
    drop,
    head,
    keep_silent,
    keepalive,
    next_frames,
)
from archiver.simulator.entities import User
from archiver.simulator.faults import Fault
from archiver.simulator.log import Published, StreamLog, cursor_of
from archiver.simulator.membership import OFFLINE, STATES, show_presence
from archiver.simulator.schedule import KEEPALIVES, Faults
from archiver.simulator.world import World

FAULTS = web.AppKey("faults", Faults)
STREAMS_ONLY = web.AppKey("streams_only", bool)

_STREAM_PATH = re.compile(r"/flows(/(?!all$|find$)[^/]+/[^/]+)?")


def is_stream(request: web.Request) -> bool:
    """Tell whether a request is for a stream, as far as its port and parameters tell.

    The port of the API serves streams as well: ``GET /flows`` with ``filter``, ``user``,
    ``accept`` or ``active``, or whose Accept header wants an event-stream.
    """
    if request.app[STREAMS_ONLY]:
        return True
    if request.method != "GET" or not _STREAM_PATH.fullmatch(request.path):
        return False
    if request.query.keys() & {"filter", "user", "accept", "active"}:
        return True
    return "text/event-stream" in request.headers.get("Accept", "")


async def undated(_request: web.Request, response: web.StreamResponse) -> None:
    """Remove Date from the headers of a stream, as the service's streams did not have it."""
    if not isinstance(response, web.Response):
        del response.headers["Date"]


class Streams:
    """All stream connections.

    Newlines (or comments) keep an idle one alive every *keepalive_seconds*. A client that lets more
    than *max_lag_bytes* pile up is cut off. *replays* says whether ``Last-Event-ID`` is honoured.
    """

    def __init__(
        self,
        world: World,
        faults: Faults,
        *,
        keepalive_seconds: float,
        max_lag_bytes: int,
        replays: bool,
    ) -> None:
        self.connections: set[Connection] = set()
        self.events_sent = 0
        self.lagged = 0
        """How many clients were cut off because they read too slowly."""
        self._by_flow: dict[str, set[Connection]] = {}
        self._elsewhere: set[Connection] = set()
        self._faults = faults
        self._keepalive_seconds = keepalive_seconds
        self._max_lag_bytes = max_lag_bytes
        self._replays = replays
        self._world = world
        self._directory = world.directory
        self._log: StreamLog = world.log
        world.log.listeners.append(self._deliver)
        faults.on_change.append(self.wake_all)

    def backlog_bytes(self) -> int:
        """Return the size of the longest queue that any connection has."""
        return max((connection.queued_bytes for connection in self.connections), default=0)

    def are_idle(self) -> bool:
        """Tell whether nothing waits to be written, nor is being written."""
        return not any(each.queue or each.is_writing for each in self.connections)

    def abort_all(self) -> None:
        """Cut every connection now."""
        for connection in list(self.connections):
            connection.abort()

    def wake_all(self) -> None:
        """Have every connection look at the faults again."""
        for connection in self.connections:
            connection.wake.set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer ``GET /flows`` and ``GET /flows/:organization/:flow`` with a stream."""
        connection = self._connect(request)
        response = web.StreamResponse(headers=head(connection))
        if "Origin" in request.headers:
            # The page "Streaming API" lets a browser listen, from any web page.
            response.headers["Access-Control-Allow-Origin"] = "*"
        await response.prepare(request)
        connection.transport = request.transport
        self._follow(connection)
        try:
            self._replay(request, connection)
            self._show(connection)
            await response.write(keepalive(connection))
            await self._write(connection, response)
        except ConnectionError:
            pass
        finally:
            self._leave(connection)
        return response

    def _connect(self, request: web.Request) -> Connection:
        query = request.query
        named = [name.strip() for name in query.get("filter", "").split(",") if name.strip()]
        if "flow" in request.match_info:
            named = ["{organization}/{flow}".format(**request.match_info)]
        private = is_true(query.get("user"))
        if not named and not private:
            raise Refused(400, "either filter or user must be given")
        kind = query.get("accept") or request.headers.get("Accept") or ""
        return Connection(
            path=request.path,
            user=asker(request),
            # If one flow cannot be read, the whole stream is refused.
            flows=[readable_flow(request, name) for name in named],
            private=private,
            presence=is_true(query.get("presence")),
            active=query.get("active", ""),
            event_stream="text/event-stream" in kind,
        )

    def _replay(self, request: web.Request, connection: Connection) -> None:
        last = request.headers.get("Last-Event-ID")
        cursor = cursor_of(last) if last and self._replays else None
        if cursor is not None and connection.event_stream:
            shift = self._faults.on_replay(connection.path, self._log.published - cursor)
            for event in self._log.since(max(0, cursor + shift)):
                if connection.concerns(event):
                    connection.offer(event)

    def _show(self, connection: Connection) -> None:
        """Show the user as active or idle, as the parameter ``active`` says (docs/streaming)."""
        state, user, world = STATES.get(connection.active), connection.user, self._world
        if state is None:
            return
        seen = {}
        if connection.active == "true":
            seen["last_activity"] = user.last_activity = world.clock()
        for flow in connection.flows:
            world.signal(world.directory.flow(flow), user, "activity.user", seen, persist=False)
        show_presence(world, user, state)

    def _hide(self, user: User) -> None:
        """Show *user* as offline, unless another stream of theirs is active or idle."""
        if not any(each.user is user and each.active in STATES for each in self.connections):
            show_presence(self._world, user, OFFLINE)

    async def _write(self, connection: Connection, response: web.StreamResponse) -> None:
        while True:
            try:
                async with asyncio.timeout(self._keepalive_seconds):
                    await connection.wake.wait()
            except TimeoutError:
                connection.queue.append(keepalive(connection))
            connection.wake.clear()
            frames = list(connection.queue)
            connection.queue.clear()
            connection.queued_bytes = 0
            connection.is_writing = True
            if not self._faults.concern_stream(connection.path):
                await response.write(b"".join(frames))
                self.events_sent += sum(frame not in KEEPALIVES for frame in frames)
            elif await self._write_badly(connection, response, frames):
                return
            connection.is_writing = False

    async def _write_badly(
        self, connection: Connection, response: web.StreamResponse, frames: list[bytes]
    ) -> bool:
        """Write *frames* as the faults demand; returns whether the response ends here."""
        waiting, held_back = deque(frames or [b""]), list[bytes]()
        while waiting:
            frame = waiting.popleft()
            if any(frame is one for one in held_back):
                await response.write(frame)
                continue
            verdict = self._faults.on_stream(connection, connection.path, frame)
            if isinstance(verdict.fault, Fault) and verdict.fault.kind == "reorder":
                waiting += await next_frames(connection, verdict.fault.frames - len(waiting))
                waiting.insert(verdict.fault.frames, frame)
                held_back.append(frame)
                continue
            if verdict.chunk:
                await response.write(verdict.chunk)
                self.events_sent += frame not in KEEPALIVES
            match verdict.fault:
                case Fault(kind="silence") as fault:
                    connection.is_writing = fault.seconds is not None
                    await keep_silent(connection, fault.seconds)
                case Fault(kind="cut" | "cut_inside_character") as fault:
                    await drop(connection.transport, fault.how)
                    return True
                case _:
                    pass
        return False

    def _deliver(self, event: Published) -> None:
        listening = self._elsewhere if event.flow is None else self._by_flow.get(event.flow, set())
        members = None if event.flow is None else self._directory.flows[event.flow].members
        for connection in list(listening):
            # Those who have left a flow get no more of it. Nobody knows whether the service did so;
            # it is the harder case for a client.
            if connection.concerns(event) if members is None else connection.user.id in members:
                connection.offer(event)
                if connection.queued_bytes > self._max_lag_bytes:
                    # The page "Streaming API" names lag of the client as a reason to disconnect.
                    self.lagged += 1
                    self._leave(connection)
                    connection.abort()

    def _follow(self, connection: Connection) -> None:
        self.connections.add(connection)
        for flow in connection.flows:
            self._by_flow.setdefault(flow, set()).add(connection)
        if connection.private or connection.presence:
            self._elsewhere.add(connection)

    def _leave(self, connection: Connection) -> None:
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        self._elsewhere.discard(connection)
        self._faults.forget(connection)
        for flow in connection.flows:
            self._by_flow[flow].discard(connection)
        if connection.active in STATES:
            self._hide(connection.user)
