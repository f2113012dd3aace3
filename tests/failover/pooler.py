"""PgBouncer in transaction mode: a client has a session of the server only for a transaction."""

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg

from archiver.embedded.binaries import choose_binaries, run_as_owner
from tests.failover.needs import program
from tests.failover.scene import SLOTS, Scene, make, say, scene, until
from tests.failover.takeover import EVEN
from tests.oracle.postgres import OWNER, Postgres
from tests.oracle.programs import run_once

LOAD_SECONDS = 8.0
CONFIGURATION = """
[databases]
* = host={server}
[pgbouncer]
unix_socket_dir = {home}
listen_port = 6432
auth_type = trust
auth_file = {home}/users
pool_mode = transaction
default_pool_size = 6
; Never the same session twice in a row, so that nothing works by luck.
server_round_robin = 1
logfile = {home}/pgbouncer.log
"""


async def pool(home: Path, postgres: Postgres, *, rate: float) -> None:
    """Let two daemons and all commands that read or write work through PgBouncer."""
    make(home)
    with postgres.database() as name:
        async with (
            pgbouncer(home / "pooler", postgres),
            scene(home / "scene", url_at(home / "pooler", name), rate=rate) as it,
        ):
            await told(it, "migrate", status=2, words="through a pooler")
            it.start("left")
            await until(lambda: it.is_shared(SLOTS))
            right = it.start("right")
            await until(lambda: it.is_shared(*EVEN))
            await asyncio.sleep(LOAD_SECONDS)
            right.kill()
            right.start()
            await until(it.is_heard)
            await told(it, "check", words="through a pooler")
            await told(it, "status", words="daemon left: captures")
            await told(it, "search", "the", words="")
            it.flowdock.stop_live()
            say(f"archive = truth after {await it.converge():.1f} s")
            await told(it, "verify", words="")
            await told(it, "rebuild", "--check", words="")
            await told(it, "export", str(home / "export"), words="")
        say(f"claims looked at {it.looks} times, all of what was held")


async def told(it: Scene, *command: str, words: str, status: int = 0) -> None:
    """Run a command, which must end with *status* and print these *words*."""
    ran = await asyncio.to_thread(run_once, *command, settings=it.settings())
    said = ran.stdout + ran.stderr
    assert (ran.returncode, words in said) == (status, True), f"{command}: {ran.returncode} {said}"
    say(f"archiver {' '.join(command[:1])} through PgBouncer: status {status}")


@asynccontextmanager
async def pgbouncer(home: Path, postgres: Postgres) -> AsyncIterator[None]:
    """Run PgBouncer for *postgres*, on a socket in *home*, while the block lasts."""
    process = start(make(home), postgres)
    try:
        await until(lambda: answers(home), seconds=20)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 20)


def start(home: Path, postgres: Postgres) -> subprocess.Popen[bytes]:
    """Start PgBouncer with a configuration in *home*."""
    (home / "users").write_text(f'"{OWNER}" ""\n')
    configuration = home / "pgbouncer.ini"
    configuration.write_text(CONFIGURATION.format(home=home, server=postgres.sockets))
    # PgBouncer, too, refuses to run as root.
    prefix = run_as_owner(home, choose_binaries(home)[0])
    binary = program("pgbouncer", package="pgbouncer")
    return subprocess.Popen([*prefix, binary, "-q", configuration], cwd="/")


async def answers(home: Path) -> bool:
    """Tell whether PgBouncer in *home* reaches the server; raises OperationalError if not."""
    psycopg.connect(url_at(home, "postgres"), connect_timeout=2).close()
    return True


def url_at(home: Path, database: str) -> str:
    """The URL of *database* through the PgBouncer in *home*."""
    return f"postgresql://{OWNER}@/{database}?host={home}&port=6432"
