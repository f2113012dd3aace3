"""Kill the primary under load and promote its standby: the archive must still match the truth.

With synchronous replication, nothing is lost. Without it, what had not been replicated is lost,
together with the claims that were written with it. The daemon must notice this; otherwise it would
claim the lost events again.
"""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg

from archiver.embedded.binaries import choose_binaries, environment
from tests.failover.scene import SLOTS, Scene, make, say, scene, until
from tests.oracle.postgres import Postgres, url_at

LOAD_SECONDS = 6.0
BEHIND_SECONDS = 3.0
"""For how long the standby receives nothing before the primary is killed."""

EVENTS = "SELECT flow, id FROM archive.events"
REPLICA = "SELECT state, sync_state FROM pg_stat_replication"


async def promote(home: Path, *, rate: float, is_synchronous: bool) -> None:
    """Let a daemon write to the primary, kill the primary, and promote the standby."""
    make(home)
    say(f"a primary and a standby, replication {'' if is_synchronous else 'a'}synchronous")
    async with pair(home) as (primary, standby, name):
        if is_synchronous:
            order(primary, "ALTER SYSTEM SET synchronous_standby_names = '*'")
            await until(lambda: replicates(primary, "sync"))
        url = f"{url_at(name, primary.sockets, standby.sockets)}&target_session_attrs=read-write"
        async with scene(home / "scene", url, rate=rate) as it:
            daemon = it.start("daemon")
            await until(lambda: it.is_shared(SLOTS))
            await until(it.is_heard)
            await asyncio.sleep(LOAD_SECONDS)
            if not is_synchronous:
                order(standby, "ALTER SYSTEM SET primary_conninfo = ''")
                await asyncio.sleep(BEHIND_SECONDS)
            lost = await fail_over(it, primary, standby)
            assert bool(lost) != is_synchronous, f"{lost} events lost"
            said = daemon.log.read_text(errors="replace")
            assert "starting afresh" in said, "the daemon did not notice"
            await asyncio.sleep(LOAD_SECONDS)
            it.flowdock.stop_live()
            say(f"archive = truth after {await it.converge():.1f} s")
            assert daemon.ended() is None, "the daemon has ended"
        say(f"claims looked at {it.looks} times, all of what was held")


async def fail_over(it: Scene, primary: Postgres, standby: Postgres) -> int:
    """Kill *primary* and promote *standby*; returns how many events were lost."""
    before = set(await it.ask(EVENTS))
    began = time.monotonic()
    await primary.kill()
    with standby.admin() as admin:
        admin.execute("SELECT pg_promote()")
    promoted = time.monotonic() - began
    after = set(await it.ask(EVENTS))
    await until(lambda: grew(it, len(after)))
    say(
        f"primary killed, standby promoted after {promoted:.1f} s, written to after "
        f"{time.monotonic() - began:.1f} s; of {len(before)} events {len(before - after)} were lost"
    )
    await until(it.is_heard)
    say(f"all flows are heard again after {time.monotonic() - began:.1f} s")
    return len(before - after)


async def grew(it: Scene, number: int) -> bool:
    """Tell whether there are more than *number* events."""
    return len(await it.ask(EVENTS)) > number


@asynccontextmanager
async def pair(home: Path) -> AsyncIterator[tuple[Postgres, Postgres, str]]:
    """Run a primary and its standby; yields both and the name of a migrated database."""
    places = (make(home / "one"), make(home / "two"))
    primary = Postgres(places[0])
    await primary.start()
    try:
        await primary.make_template()
        order(primary, "ALTER SYSTEM SET wal_keep_size = '256MB'")
        with primary.database() as name:
            copy_cluster(primary, places[1])
            standby = Postgres(places[1])
            await standby.start()
            try:
                await until(lambda: replicates(primary))
                yield primary, standby, name
            finally:
                await standby.stop()
    finally:
        await primary.stop()


def copy_cluster(primary: Postgres, home: Path) -> None:
    """Make a standby of *primary* in *home*."""
    binaries, _ = choose_binaries(home)
    command = [f"{binaries}/pg_basebackup", "-D", f"{home}/data", "-h", f"{primary.sockets}"]
    command += ["-U", "archiver", "-R", "-X", "stream", "-c", "fast"]
    subprocess.run(command, env=environment(), check=True)


async def replicates(primary: Postgres, how: str = "") -> bool:
    """Tell whether a standby streams from *primary*, and in the mode *how* if given."""
    with primary.admin() as admin:
        found = admin.execute(REPLICA).fetchall()
    return any(state == "streaming" and how in {"", sync} for state, sync in found)


def order(server: Postgres, statement: str) -> None:
    """Change a setting of *server* by *statement*, and reload its configuration."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
        admin.execute(statement)
        admin.execute("SELECT pg_reload_conf()")
