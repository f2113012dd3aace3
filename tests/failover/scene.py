"""A simulated Flowdock with traffic, daemons as processes, and checks of the archive."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from archiver.simulator import truth
from archiver.simulator.server import Simulator
from tests.oracle.claims import false_claims, own_places, snapshot
from tests.oracle.judging import remainder
from tests.oracle.programs import PROGRAM, Daemon
from tests.oracle.trial import slowness
from tests.truth import differences

FLOWS = 12
SLOTS = FLOWS + 1
"""What leases divide: each flow, and all private conversations as one."""
LOOK_SECONDS = 0.2
HEARD_LOOKS = 5
PATIENCE_SECONDS = 240.0
SHOWN = 12
SETTINGS = {
    "ARCHIVER_INGEST_SETTLING_SECONDS": "1",
    "ARCHIVER_BACKFILL_REQUESTS_PER_SECOND": "200",
    "ARCHIVER_BACKFILL_HEAD_SECONDS": "5",
    "ARCHIVER_AUDIT_REQUESTS_PER_SECOND": "100",
    "ARCHIVER_STREAM_SILENCE_SECONDS": "15",
    "ARCHIVER_DATA_DIR": "/nonexistent",
    "ARCHIVER_LOG_FORMAT": "json",
}


class Scene:
    """All parts of a trial; `database_url` is where the archive is at present."""

    def __init__(self, home: Path, flowdock: Simulator, database_url: str) -> None:
        self.home = home
        self.flowdock = flowdock
        self.database_url = database_url
        self.daemons: list[Daemon] = []
        self.failures: list[str] = []
        self.looks = 0
        """How often the claims were compared with what is held."""

    def start(
        self, name: str, *, url: str = "", elsewhere: bool = False, **settings: str
    ) -> Daemon:
        """Start a daemon; with *elsewhere*, in its own pid namespace, as if on another machine."""
        # When unshare is killed, the daemon is killed, too.
        apart = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
        daemon = Daemon(
            self.home,
            {**self._settings(url or self.database_url), "ARCHIVER_SHARING_NAME": name, **settings},
            program=(*(apart if elsewhere else ()), *PROGRAM, "run"),
            log=f"{name}.log",
        )
        self.daemons.append(daemon)
        return daemon

    def settings(self) -> Mapping[str, str]:
        """The settings for a command."""
        return self._settings(self.database_url)

    def followed(self) -> Counter[str]:
        """The number of streams for each flow, and for private conversations."""
        found: Counter[str] = Counter()
        for connection in self.flowdock.streams.connections:
            found.update(connection.flows)
            found["private"] += connection.private
        return +found

    async def is_shared(self, *shares: int) -> bool:
        """Tell whether each flow is on one stream and daemons hold *shares*, largest first."""
        return await self.is_held(*shares) and list(self.followed().values()) == [1] * SLOTS

    async def is_held(self, *shares: int) -> bool:
        """Tell whether the daemons hold these numbers of leases, largest first."""
        query = "SELECT count(*) FROM archive.leases GROUP BY daemon ORDER BY 1 DESC"
        return tuple(number for (number,) in await self.ask(query)) == shares

    async def is_heard(self) -> bool:
        """Tell whether new messages in every flow now arrive by a stream."""
        world = self.flowdock.world
        said = [(f.path, world.post(f, self.flowdock.me, "heard?").id) for f in world.flows]
        query = "SELECT flow, id FROM archive.events WHERE witness = 'stream' AND id = ANY(%s)"
        ids = [id_ for _, id_ in said]
        for _ in range(HEARD_LOOKS):
            await asyncio.sleep(LOOK_SECONDS)
            if set(said) <= set(await self.ask(query, ids)):
                return True
        return False

    async def ask(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows that a query of the archive returns."""

        def once() -> list[tuple[Any, ...]]:
            with psycopg.connect(self.database_url, connect_timeout=2) as connection:
                return connection.execute(query, parameters).fetchall()

        return await asyncio.to_thread(once)

    async def converge(self) -> float:
        """Wait until the archive matches the truth and claims all of it; returns how long it took.

        Raises:
            AssertionError: it did not in time; the message lists what differs.
        """
        began, left = time.monotonic(), ["nothing was compared"]
        while left and time.monotonic() - began < PATIENCE_SECONDS * slowness():
            await asyncio.sleep(LOOK_SECONDS)
            with suppress(psycopg.OperationalError):
                left = await self._differing()
        assert not left, "\n".join(["the archive is not the truth:", *left[:SHOWN]])
        return time.monotonic() - began

    async def watch(self) -> None:
        """Compare the claims with what is held, again and again, until cancelled."""
        while True:
            began = time.monotonic()
            with suppress(psycopg.OperationalError):
                claimed, held = await asyncio.to_thread(snapshot, self.database_url)
                self.looks += 1
                wrong = sorted(false_claims(self.flowdock, claimed, held))
                if wrong:
                    self.failures.append(f"claimed and not held: {wrong[:SHOWN]}")
                    return
            await asyncio.sleep(max(LOOK_SECONDS, 3 * (time.monotonic() - began)))

    async def _differing(self) -> list[str]:
        places = own_places(self.flowdock)
        heads = {
            flow: max((one.id for one in place.timeline), default=0)
            for flow, place in places.items()
        }
        left = await asyncio.to_thread(remainder, self.database_url, heads)
        if left:
            return left
        records = list(truth.records(self.flowdock.world.directory))
        me = str(self.flowdock.me.id)
        return await asyncio.to_thread(differences, self.database_url, records, me=me)

    def _settings(self, url: str) -> dict[str, str]:
        return SETTINGS | {
            "ARCHIVER_DATABASE_URL": url,
            "ARCHIVER_API_URL": self.flowdock.api_url,
            "ARCHIVER_STREAM_URL": self.flowdock.stream_url,
            "ARCHIVER_TOKEN": self.flowdock.token,
        }


@asynccontextmanager
async def scene(home: Path, database_url: str, *, rate: float) -> AsyncIterator[Scene]:
    """Set up a scene with traffic at *rate* events a second, and watch its claims.

    Raises:
        AssertionError: something was claimed that is not held.
    """
    make(home)
    async with Simulator.start(
        seed=7, flows=FLOWS, users=8, history=2000, listing_delay_seconds=0.2, keepalive_seconds=1
    ) as flowdock:
        it = Scene(home, flowdock, database_url)
        flowdock.go_live(seed=5, rate=rate)
        watching = asyncio.create_task(it.watch())
        try:
            yield it
            assert not it.failures, it.failures
            assert it.looks, "the claims were never looked at"
        except BaseException:
            for line in last_words(it):
                say(line)
            raise
        finally:
            watching.cancel()
            for daemon in it.daemons:
                daemon.kill()
                daemon.close()


def make(home: Path) -> Path:
    """Make the directory *home*, accessible only to us."""
    home.mkdir(mode=0o700)
    return home


async def until(holds: Callable[[], Awaitable[bool]], *, seconds: float = 120) -> float:
    """Wait until *holds*; returns how long it took; raises TimeoutError after *seconds*."""
    began = time.monotonic()
    while True:
        with suppress(psycopg.OperationalError):
            if await holds():
                return time.monotonic() - began
        if time.monotonic() - began > seconds * slowness():
            raise TimeoutError
        await asyncio.sleep(0.05)


def last_words(it: Scene) -> Iterator[str]:
    """The end of each daemon's log."""
    for daemon in it.daemons:
        yield f"{daemon.log.name}: {daemon.log.read_text(errors='replace')[-3000:]}"


def say(line: str) -> None:
    """Print *line* with the seconds since the start."""
    print(f"{time.monotonic() - BEGAN:7.1f} s  {line}", flush=True)


BEGAN = time.monotonic()
