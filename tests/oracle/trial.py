"""One trial: a simulated Flowdock, a database, and daemons, on which troubles are inflicted."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

from archiver.simulator.server import Simulator
from tests.oracle.doors import Door, door_to_port, door_to_socket
from tests.oracle.postgres import Postgres, url_at
from tests.oracle.programs import JUMPING, Daemon

KEEPALIVE_SECONDS = 0.25
SETTLING_SECONDS = 0.6
LISTING_DELAY_SECONDS = 0.15
SILENCE_SECONDS = 2.0
CYCLE_DAYS = 0.00002
"""Days from one audit of everything to the next: at the end, a moment without doubts is needed."""

SETTINGS = {
    "ARCHIVER_INGEST_SETTLING_SECONDS": str(SETTLING_SECONDS),
    "ARCHIVER_BACKFILL_REQUESTS_PER_SECOND": "300",
    "ARCHIVER_BACKFILL_HEAD_SECONDS": "1",
    "ARCHIVER_AUDIT_REQUESTS_PER_SECOND": "150",
    "ARCHIVER_DIRECTORY_REFRESH_SECONDS": "1",
    "ARCHIVER_INGEST_BUFFER_BYTES": "4194304",
}

EXCUSES = (
    "cannot reach the database",
    "cannot reach Flowdock at",
    "refused the token",
)
"""Errors with which the daemon may end by itself; it is then started again, as by a supervisor."""

EXCUSE_AT_FIRST = "archiver: error: the database went away"
"""Excused only if logged before anything else: once the daemon works, it waits for the database."""

UNEXPECTED_MOST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large the world of a trial is, how its streams behave, and how much traffic it has."""

    flows: int
    users: int
    history: int
    rate: float
    seconds: float
    replay: Literal["all", "none"]
    stream_format: str


def slowness() -> float:
    """The factor by which timeouts are longer than on an idle machine, from the load average."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class ServiceClock:
    """The clock of the simulated Flowdock, in milliseconds; it can be set ahead and run faster."""

    def __init__(self) -> None:
        self.ahead_ms = 0
        self._pace = 1.0
        self._since = time.time()
        self._shown = self._since

    def __call__(self) -> int:
        """The current time in milliseconds since 1970."""
        return round(self._seconds() * 1000) + self.ahead_ms

    def run_at(self, pace: float) -> None:
        """From now on, run *pace* times as fast as real time."""
        self._shown, self._since = self._seconds(), time.time()
        self._pace = pace

    def _seconds(self) -> float:
        return self._shown + (time.time() - self._since) * self._pace


@dataclass(slots=True, kw_only=True)
class Trial:
    """All parts of a trial, for troubles to act on."""

    seed: int
    home: Path
    flowdock: Simulator
    postgres: Postgres
    has_small_disk: bool
    database: str
    clock: "ServiceClock"
    stream_format: str
    stream_door: Door
    api_door: Door
    database_doors: tuple[Door, Door]
    daemons: list[Daemon] = field(default_factory=list)
    fired: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    database_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by a trouble that affects the database server: only one may do so at a time."""
    flow_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by a trouble that changes which flows exist, or what the service shows of them."""

    @property
    def database_url(self) -> str:
        """The URL of the database, bypassing all doors."""
        return self.postgres.url(self.database)

    @property
    def processes(self) -> int:
        """How many processes a daemon that shares the flows consists of."""
        return self.chance_of("processes").choice((1, 1, 2))

    @property
    def me(self) -> str:
        """The id of the user whose archive it is."""
        return str(self.flowdock.me.id)

    def chance_of(self, what: str) -> Random:
        """A random generator of its own for *what*, which depends on the seed alone."""
        return Random(f"{self.seed}/{what}")

    def start_daemon(self, *, shares: bool = True) -> Daemon:
        """Start one more daemon; with *shares* false, it works on all flows and shares none."""
        number = len(self.daemons) + 1
        daemon = Daemon(
            self.home,
            self.settings()
            | {
                "ARCHIVER_SHARING_ENABLED": str(shares).lower(),
                "ARCHIVER_SHARING_PROCESSES": str(self.processes if shares else 1),
            },
            program=(*JUMPING, "run"),
            log=f"archiver-{number}.log",
        )
        self.daemons.append(daemon)
        return daemon

    def settings(self) -> dict[str, str]:
        """The settings of the daemon."""
        sockets = (self.home / "door-1", self.home / "door-2")
        return SETTINGS | {
            "ARCHIVER_STREAM_SILENCE_SECONDS": f"{SILENCE_SECONDS * slowness():.1f}",
            "ARCHIVER_AUDIT_CYCLE_DAYS": f"{CYCLE_DAYS * slowness():.8f}",
            "ARCHIVER_DATABASE_URL": url_at(self.database, *sockets),
            "ARCHIVER_API_URL": self.api_door.address,
            "ARCHIVER_STREAM_URL": self.stream_door.address,
            "ARCHIVER_TOKEN": self.flowdock.token,
            "ARCHIVER_STREAM_FORMAT": self.stream_format,
            "ARCHIVER_DATA_DIR": str(self.home / "none"),
            "ARCHIVER_LOG_FORMAT": "json",
            "JUDGE_CLOCK": str(self.home / "clock"),
        }

    def jump(self, seconds: float) -> None:
        """Shift the daemon's wall clock from real time by *seconds*, which may be negative."""
        (self.home / "clock").write_text(str(seconds))

    async def supervise(self) -> None:
        """Restart daemons that end by themselves; record a failure if the reason is no excuse."""
        while True:
            await asyncio.sleep(0.1)
            for daemon in self.daemons:
                status = daemon.ended()
                if status is None:
                    continue
                said = daemon.last_words()
                is_early = said.startswith(EXCUSE_AT_FIRST)
                if not is_early and not any(excuse in said for excuse in EXCUSES):
                    self.failures.append(f"the daemon ended with status {status}: {said[-2000:]}")
                    if len(self.failures) > UNEXPECTED_MOST:
                        return
                self.fired["(the daemon ended and was started again)"] += 1
                await asyncio.sleep(0.3)
                daemon.start()

    async def until(self, holds: Callable[[], bool], *, seconds: float = 70) -> None:
        """Wait until *holds*; raises TimeoutError after *seconds*, or more on a busy machine."""
        began = time.monotonic()
        while not holds():
            await asyncio.sleep(0.01)
            if time.monotonic() - began > seconds * slowness():
                raise TimeoutError


@asynccontextmanager
async def begin(
    seed: int, size: Size, home: Path, postgres: Postgres, *, has_small_disk: bool
) -> AsyncIterator[Trial]:
    """Set up a trial, without a daemon yet; everything is shut down when the block ends."""
    async with AsyncExitStack() as stack:
        clock = ServiceClock()
        flowdock = await stack.enter_async_context(
            Simulator.start(
                seed=seed,
                flows=size.flows,
                users=size.users,
                history=size.history,
                listing_delay_seconds=LISTING_DELAY_SECONDS,
                keepalive_seconds=KEEPALIVE_SECONDS,
                replay=size.replay,
                clock=clock,
            )
        )
        trial = Trial(
            seed=seed,
            home=home,
            flowdock=flowdock,
            postgres=postgres,
            has_small_disk=has_small_disk,
            database=stack.enter_context(postgres.database()),
            clock=clock,
            stream_format=size.stream_format,
            stream_door=await stack.enter_async_context(door_to_port(flowdock.stream_url)),
            api_door=await stack.enter_async_context(door_to_port(flowdock.api_url)),
            database_doors=tuple_of_doors(postgres),
        )
        trial.jump(0)
        for number in (1, 2):
            (home / f"door-{number}").mkdir(mode=0o700)
        await trial.database_doors[0].open_socket(socket_of(home, 1))
        try:
            yield trial
        finally:
            for daemon in trial.daemons:
                daemon.kill()
                daemon.close()
            for door in trial.database_doors:
                door.close()


def tuple_of_doors(postgres: Postgres) -> tuple[Door, Door]:
    """Two doors to one server; only one is open at a time, so that its address can change."""
    path = postgres.sockets / ".s.PGSQL.5432"
    return door_to_socket(path), door_to_socket(path)


def socket_of(home: Path, number: int) -> Path:
    """The path of the socket on which the door *number* listens."""
    return home / f"door-{number}" / ".s.PGSQL.5432"
