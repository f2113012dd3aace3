"""Where it is measured: a Postgres, databases with an empty archive, a feeder, the daemon."""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
import psycopg

from archiver.embedded import run_server
from archiver.embedded.binaries import choose_binaries
from tests.bench.processes import cpu_seconds, parent
from tests.conftest import created, named
from tests.oracle.programs import Daemon, migrate

UNHURRIED = {
    "ARCHIVER_TOKEN": "bench",
    "ARCHIVER_LOG_LEVEL": "warning",
    "ARCHIVER_PRIVATE": "false",
    "ARCHIVER_BACKFILL_REQUESTS_PER_SECOND": "10000",
    # The feeder of a stream lists nothing: what would be listed again there would seem to be gone.
    "ARCHIVER_AUDIT_REQUESTS_PER_SECOND": "0.001",
}
SETTLING_SECONDS = 1.0
"""Of the daemons that follow the feeder: so long after a stream was opened they look at heads."""
QUIET_SECONDS = 0.5

LAST_WORDS = 4000
"""Characters of a daemon's log that are shown when something fails."""


class Feeder:
    """The process of `tests.bench.feeder`, and what it can be told."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.bench.feeder"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def scene(self, **scene: int) -> dict[str, int]:
        """Prepare what it says; returns the newest id of each flow, by number."""
        newest: dict[str, int] = self.tell("scene", **scene)
        return newest

    def go(self, *, rate: float, events: int | None = None) -> float:
        """Have events said, all or so many more; returns when that began, by the monotonic clock.

        They are said as fast as that goes if *rate* is 0, else so many in a second.
        """
        said = {"rate": rate} if events is None else {"rate": rate, "events": events}
        began_at: float = self.tell("go", **said)["began_at"]
        return began_at

    def wait_until_followed(self) -> None:
        """Wait until all flows are followed, each head was looked at, and nobody asks any more."""

        def is_quiet() -> bool:
            stats = self.tell("stats")
            is_followed = stats["followed"] == stats["flows"] and not stats["unseen"]
            return is_followed and time.monotonic() - stats["asked_at"] > QUIET_SECONDS

        wait_for(is_quiet, seconds=120, every_seconds=0.05)

    def tell(self, path: str, **query: float) -> Any:
        """Ask it to do something, or how it is."""
        url = f"{self.url}/_feeder/{path}?{urlencode(query)}"
        with urllib.request.urlopen(url, timeout=600) as answer:
            return msgspec.json.decode(answer.read())

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


class Archive:
    """A database with an archive in it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sql = psycopg.connect(url, autocommit=True)

    def value(self, query: str, given: Sequence[object] | None = None) -> Any:
        """The one value that *query* tells."""
        row = self.sql.execute(query.encode(), given).fetchone()
        return row[0] if row else None

    @contextmanager
    def unindexed(self, *tables: str) -> Iterator[None]:
        """Drop the indexes of *tables*, and make them again at the end; what is unique stays."""
        found = self.sql.execute(_INDEXES, [list(tables)]).fetchall()
        for name, _ in found:
            self.sql.execute(f"DROP INDEX store.{name}".encode())
        yield
        self.sql.execute("SET maintenance_work_mem = '512MB'")
        for _, definition in found:
            self.sql.execute(definition)


_INDEXES = """
    SELECT i.relname, pg_get_indexdef(i.oid)
    FROM pg_index JOIN pg_class AS i ON i.oid = indexrelid JOIN pg_class AS t ON t.oid = indrelid
    WHERE t.relnamespace = 'store'::regnamespace AND t.relname = ANY(%s) AND NOT indisunique
"""


class Lab:
    """A server, and what is needed to measure on it; *template* is a migrated database there."""

    def __init__(self, home: Path, url: str, admin: psycopg.Connection, template: str) -> None:
        self.home = home
        self.programs, _ = choose_binaries(home)
        self._url = url
        self._admin = admin
        self._template = template

    @contextmanager
    def archive(self) -> Iterator[Archive]:
        """A new and empty archive; dropped at the end. What was written before is on the disk."""
        with created(self._admin, self._template) as name:
            self._admin.execute("CHECKPOINT")
            archive = Archive(named(self._url, name))
            try:
                yield archive
            finally:
                archive.sql.close()

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a database with nothing in it; dropped at the end."""
        with created(self._admin, "template0") as name:
            yield named(self._url, name)

    @contextmanager
    def feeder(self) -> Iterator[Feeder]:
        """A feeder, ended with the block."""
        feeder = Feeder()
        try:
            yield feeder
        finally:
            feeder.close()

    @contextmanager
    def daemon(
        self,
        archive: Archive,
        feeder: Feeder,
        settings: Mapping[str, str] | None = None,
        *,
        log: str = "archiver.log",
    ) -> Iterator[Daemon]:
        """``archiver run`` on *archive*, following *feeder*; killed at the end.

        What is raised meanwhile tells how it was doing.
        """
        given = {
            **UNHURRIED,
            "ARCHIVER_DATABASE_URL": archive.url,
            "ARCHIVER_API_URL": feeder.url,
            "ARCHIVER_STREAM_URL": feeder.url,
            "ARCHIVER_INGEST_SETTLING_SECONDS": str(SETTLING_SECONDS),
            **(settings or {}),
        }
        daemon = Daemon(self.home, given, log=log)
        try:
            yield daemon
        except Exception as failed:
            status = daemon.ended()
            how = "runs" if status is None else f"ended with status {status}"
            failed.add_note(f"the daemon of {log} {how}:\n{daemon.last_words()[-LAST_WORDS:]}")
            raise
        finally:
            if daemon.process.poll() is None:
                daemon.kill()
            daemon.close()

    def psql(self, archive: Archive, commands: str) -> float:
        """Let psql do *commands*; returns how many seconds it took."""
        began = time.monotonic()
        subprocess.run(
            [f"{self.programs}/psql", "-qX", "-v", "ON_ERROR_STOP=1", archive.url],
            input=commands,
            text=True,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.monotonic() - began

    def version(self) -> str:
        """The server's version."""
        row = self._admin.execute("SHOW server_version").fetchone()
        return str(row[0]) if row else "unknown"

    def postgres_seconds(self) -> float:
        """The processor time that the server's processes have taken so far; ended ones too."""
        return sum(map(cpu_seconds, self.server_pids()))

    def server_pids(self) -> list[int]:
        """All processes of the server."""
        server = parent(self._admin.info.backend_pid)
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        return [server, *map(int, children)]


@contextmanager
def open_lab() -> Iterator[Lab]:
    """A lab on a private server, or on that of ARCHIVER_TEST_DATABASE_URL; nothing remains."""
    given = os.environ.get("ARCHIVER_TEST_DATABASE_URL")
    with tempfile.TemporaryDirectory(prefix="archiver-bench-") as scratch, ExitStack() as stack:
        home = Path(scratch)
        url = given or stack.enter_context(run_server(home / "postgres")).url
        admin = stack.enter_context(psycopg.connect(url, autocommit=True))
        template = stack.enter_context(created(admin, "template0"))
        migrate(home, {"ARCHIVER_DATABASE_URL": named(url, template)})
        yield Lab(home, url, admin, template)


def wait_for(holds: Callable[[], bool], *, seconds: float, every_seconds: float = 0.02) -> None:
    """Wait until *holds*; TimeoutError past *seconds*."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(every_seconds)
