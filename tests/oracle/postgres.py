"""A private Postgres for the judge, to be killed, stopped, moved or run out of disk space."""

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import quote
from uuid import uuid4

import psycopg

from archiver.embedded.binaries import choose_binaries, environment, make_cluster, run_as_owner
from archiver.store import migrating
from archiver.store.engine import create_engine

OWNER = "archiver"
TEMPLATE = "judge_template"
SMALL_BYTES = 600 * 2**20
"""The size of the file system that can be filled up."""

SETTINGS = {
    "listen_addresses": "",
    "timezone": "UTC",
    "log_checkpoints": "off",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "min_wal_size": "32MB",
    "max_wal_size": "128MB",
    # Without fsync, a killed server still loses nothing; power cuts are tested in tests/powercut.
    "fsync": "off",
    "full_page_writes": "off",
}


class Postgres:
    """One cluster in *home*; see `run_postgres`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data = home / "data"
        self.sockets = home / "run"
        self.sockets.mkdir(mode=0o700)
        self._binaries, major = choose_binaries(home)
        self._prefix = run_as_owner(home, self._binaries)
        make_cluster(home, OWNER, self._binaries, major, self._prefix)
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """The URL of *database*, bypassing all doors."""
        return url_at(database, self.sockets)

    async def start(self) -> None:
        """Start the server and wait until it answers."""
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        options = SETTINGS | {"unix_socket_directories": str(self.sockets)}
        command = [*self._prefix, f"{self._binaries}/postgres", "-D", str(self.data)]
        command += [f"--{name}={value}" for name, value in options.items()]
        with (self.home / "postgres.log").open("ab") as log:
            self._process = self._spawn(command, log)
        await self.ready()

    async def ready(self, seconds: float = 60) -> None:
        """Wait until the server answers."""
        until = time.monotonic() + seconds
        while not await asyncio.to_thread(self._answers):
            assert self._process is None or self._process.poll() is None, self._said()
            assert time.monotonic() < until, self._said()
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Shut the server down cleanly, in Postgres's fast mode."""
        await self._end(signal.SIGINT)

    async def kill(self) -> None:
        """Kill the server and all its backends without warning."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await self._end(signal.SIGKILL)

    def tell_all(self, order: signal.Signals) -> int:
        """Send the signal *order* to every process of the server; returns how many got it."""
        told = 0
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, order)
                told += 1
        return told

    def pids(self) -> list[int]:
        """The processes of the server; each has the cluster as its working directory."""
        return at_work_in(self.data)

    def admin(self) -> psycopg.Connection:
        """A new superuser connection, in autocommit mode."""
        return psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=5)

    async def make_template(self) -> None:
        """Create the migrated database from which all others are cloned."""
        with self.admin() as admin:
            admin.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
        engine = create_engine(self.url(TEMPLATE))
        await migrating.migrate(engine)
        await engine.dispose()

    @contextmanager
    def database(self) -> Iterator[str]:
        """Create a migrated, empty database for the duration of the block; yields its name."""
        name = f"judge_{uuid4().hex[:12]}"
        with self.admin() as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
        try:
            yield name
        finally:
            with suppress(psycopg.OperationalError), self.admin() as admin:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def _end(self, order: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(order)
        await asyncio.to_thread(process.wait, 30)
        while self.pids():  # noqa: ASYNC110 - nobody tells of the end of another's child
            await asyncio.sleep(0.01)

    def _spawn(self, command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        # Not in a worker thread: the server gets a signal to end when the thread that spawned it
        # ends (setpriv --pdeathsig).
        return subprocess.Popen(
            command, stdout=log, stderr=log, env=environment(), cwd="/", start_new_session=True
        )

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _said(self) -> str:
        return (self.home / "postgres.log").read_text(errors="replace")[-2000:]


def url_at(database: str, *sockets: Path) -> str:
    """The URL of *database*; of several socket directories, the first with a server is used."""
    hosts = ",".join(quote(str(path)) for path in sockets)
    return f"postgresql://{OWNER}@/{database}?host={hosts}"


@asynccontextmanager
async def run_postgres() -> AsyncIterator[tuple[Postgres, bool]]:
    """Run a server with a template; yields it and whether its file system can be filled up."""
    with tempfile.TemporaryDirectory(prefix="archiver-judge-") as path:
        home = Path(path)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES},mode=0700", "judge", path]
        is_small = await asyncio.to_thread(succeeds, mount)
        postgres = Postgres(home)
        try:
            await postgres.start()
            await postgres.make_template()
            yield postgres, is_small
        finally:
            postgres.tell_all(signal.SIGCONT)
            await postgres.stop()
            if is_small:
                await asyncio.to_thread(succeeds, ["umount", path])


def succeeds(command: list[str]) -> bool:
    """Run *command*; tell whether it succeeded."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def at_work_in(directory: Path) -> list[int]:
    """The processes that have *directory* as their working directory."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if link.readlink() == directory:
                found.append(int(link.parent.name))
    return found
