"""The simulator as a whole: a world, its two ports, its traffic."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Literal

from aiohttp import web

from archiver.simulator import control, rest_flows, rest_messages, rest_people, rest_threads
from archiver.simulator.access import WORLD, Endpoint, authenticated, limit_head, speak_json
from archiver.simulator.entities import Clock, User
from archiver.simulator.faults import Side
from archiver.simulator.sabotage import sabotage
from archiver.simulator.schedule import Faults
from archiver.simulator.seeding import HISTORY_ENDS_AT, settle, write_history
from archiver.simulator.streaming import FAULTS, STREAMS_ONLY, Streams, is_stream, undated
from archiver.simulator.traffic import Traffic
from archiver.simulator.world import World

MAX_BODY_BYTES = 64 * 2**20


def wall_clock() -> int:
    """Return the time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Simulator:
    """A running Flowdock; `Simulator.start` makes one."""

    def __init__(
        self, world: World, me: User, faults: Faults, streams: Streams, group: asyncio.TaskGroup
    ) -> None:
        self.world = world
        self.faults = faults
        self.streams = streams
        self.me = me
        """The owner of `token`: the first user, who is in every flow."""
        self.token = me.token
        self.api_url = ""
        self.stream_url = ""
        self._group = group
        self._runners: dict[Side, web.AppRunner] = {}
        self._sites: dict[Side, web.TCPSite] = {}
        self._addresses: dict[Side, tuple[str, int]] = {}
        self._closed_until: dict[Side, float] = {}
        self._live: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        *,
        seed: int = 1,
        flows: int = 3,
        users: int = 5,
        history: int = 0,
        history_until: int = HISTORY_ENDS_AT,
        listing_delay_seconds: float = 1.0,
        keepalive_seconds: float = 25.0,
        replay: Literal["all", "none"] = "all",
        replay_window: int = 10_000,
        max_lag_bytes: int = 16 * 2**20,
        host: str = "127.0.0.1",
        port: int = 0,
        stream_port: int = 0,
        token: str | None = None,
        clock: Clock = wall_clock,
    ) -> "AsyncIterator[Simulator]":
        """Run a Flowdock while the context lasts; raises OSError when a port is taken."""
        delay = round(listing_delay_seconds * 1000)
        world = World(seed=seed, clock=clock, listing_delay_ms=delay, replay_window=replay_window)
        me = settle(world, flows=flows, users=users, token=token)
        write_history(world, seed=seed, messages=history, until=history_until)
        faults = Faults(now=time.monotonic)
        streams = Streams(
            world,
            faults,
            keepalive_seconds=keepalive_seconds,
            max_lag_bytes=max_lag_bytes,
            replays=replay == "all",
        )
        failure: BaseException | None = None
        async with asyncio.TaskGroup() as group:
            simulator = cls(world, me, faults, streams, group)
            faults.on_refuse.append(simulator._begin_refusal)
            try:
                await simulator._open(host, port, stream_port)
                yield simulator
            except BaseException as raised:  # noqa: BLE001 - raised again, outside of the group:
                failure = raised  # what a test raises shall not come out as a group of one
            finally:
                await simulator._close()
        if failure is not None:
            raise failure

    async def play(
        self, *, seed: int, events: int, rate: float = 0.0, at: int | None = None
    ) -> None:
        """Perform *events* operations, *rate* a second (0: as fast as the streams keep up).

        With *at*, the operations happen at that time (ms) and the seconds after it, whatever the
        clock says; then the same seed gives the same bytes.
        """
        traffic = Traffic(self.world, seed)
        began = time.monotonic()
        for number in range(events):
            if rate:
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            elif number % 20 == 0:
                await self._let_streams_follow()
            if at is None:
                traffic.step()
            else:
                moment = at + number * 1000
                with self.world.at(partial(int, moment)):
                    traffic.step()

    def go_live(self, *, seed: int, rate: float) -> None:
        """Perform operations at *rate* a second, until stopped."""
        self.stop_live()
        endless = 10**12
        playing = self.play(seed=seed, events=endless, rate=rate)
        self._live = self._begin(playing, "live traffic")

    def stop_live(self) -> None:
        """Stop what `go_live` began."""
        if self._live is not None:
            self._live.cancel()
            self._live = None

    async def disconnect_streams(self) -> None:
        """Cut all streams now, and wait until they are gone."""
        doomed = set(self.streams.connections)
        self.streams.abort_all()
        await self._until(lambda: not doomed & self.streams.connections)

    async def connected(self, streams: int = 1) -> None:
        """Wait until at least so many streams are open."""
        await self._until(lambda: len(self.streams.connections) >= streams)

    async def delivered(self) -> None:
        """Wait until all that was published has been written to the streams that are open.

        It does not wait for what a fault takes away, nor for clients to read the rest.
        """
        await self._until(self.streams.are_idle)

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():  # noqa: ASYNC110 - for tests, which need no better
            await asyncio.sleep(0.002)

    async def _let_streams_follow(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.sleep(0)
                await self._until(lambda: self.streams.backlog_bytes() < 2**20)

    async def _open(self, host: str, port: int, stream_port: int) -> None:
        asked: dict[Side, int] = {"rest": port, "stream": stream_port}
        for side, number in asked.items():
            runner = web.AppRunner(
                self._application(side),
                access_log=None,
                handler_cancellation=True,
                shutdown_timeout=0.2,
                max_line_size=2**20,
                max_field_size=2**20,
            )
            await runner.setup()
            self._runners[side] = runner
            self._addresses[side] = (host, number)
            await self._listen(side)
        self.api_url = "http://{}:{}".format(*self._addresses["rest"])
        self.stream_url = "http://{}:{}".format(*self._addresses["stream"])

    async def _listen(self, side: Side) -> None:
        site = web.TCPSite(self._runners[side], *self._addresses[side])
        await site.start()
        self._sites[side] = site
        host, _ = self._addresses[side]
        self._addresses[side] = (host, self._runners[side].addresses[-1][1])

    def _application(self, side: Side) -> web.Application:
        app = web.Application(
            middlewares=[limit_head, sabotage, speak_json], client_max_size=MAX_BODY_BYTES
        )
        app.on_response_prepare.append(undated)
        app[WORLD] = self.world
        app[FAULTS] = self.faults
        app[STREAMS_ONLY] = side == "stream"
        stream = authenticated(self.streams.serve)
        if side == "stream":
            app.router.add_get("/flows", stream, allow_head=False)
            app.router.add_get("/flows/{organization}/{flow}", stream, allow_head=False)
            return app
        app.router.add_get("/flows", _either(stream, rest_flows.list_flows))
        rest_flows.add_routes(app.router)
        app.router.add_get("/flows/{organization}/{flow}", _either(stream, rest_flows.get_flow))
        rest_people.add_routes(app.router)
        rest_messages.add_routes(app.router)
        rest_threads.add_routes(app.router)
        control.add_routes(app.router, self)
        return app

    def _begin_refusal(self, side: Side, seconds: float) -> None:
        self._begin(self._refuse(side, seconds), f"refuse {side}")

    def _begin(self, job: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = self._group.create_task(job, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _refuse(self, side: Side, seconds: float) -> None:
        """Close *side* for *seconds*; if it is closed already, until the later of both ends."""
        clock = asyncio.get_running_loop().time
        was_closed = side in self._closed_until
        self._closed_until[side] = max(clock() + seconds, self._closed_until.get(side, 0.0))
        if was_closed:
            return
        while self._closed_until[side] > clock():
            await self._sites[side].stop()
            self._abort(side)
            while (left := self._closed_until[side] - clock()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(left)
            await self._listen(side)  # meanwhile, it may have been closed for longer
        del self._closed_until[side]

    def _abort(self, side: Side) -> None:
        server = self._runners[side].server
        for connection in server.connections if server is not None else []:
            if connection.transport is not None:
                connection.transport.abort()

    async def _close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        for side, runner in self._runners.items():
            self._abort(side)
            await runner.cleanup()


def _either(stream: Endpoint, resource: Endpoint) -> Endpoint:
    async def serve(request: web.Request) -> web.StreamResponse:
        return await (stream if is_stream(request) else resource)(request)

    return serve
