"""What goes wrong with the Postgres that holds the archive."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from random import Random

import psycopg

from tests.oracle.trial import Trial, socket_of
from tests.oracle.troubles.trouble import Trouble

BALLAST_STEP = 2**20


@asynccontextmanager
async def turn(trial: Trial) -> AsyncIterator[psycopg.Connection]:
    """Hold the turn to trouble the database; yields a superuser connection to its server."""
    async with trial.database_turn:
        await trial.postgres.ready()
        admin = trial.postgres.admin()
        try:
            yield admin
        finally:
            admin.close()
        await trial.postgres.ready()


async def kill_in_commit(trial: Trial, chance: Random) -> None:
    """Kill a backend whose transaction is committed but whose client does not know it yet."""
    async with turn(trial) as admin:
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        admin.execute("SELECT pg_reload_conf()")
        held = (
            "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = %s LIMIT 1"
        )
        try:
            found: list[int] = []

            def is_held() -> bool:
                found[:] = [pid for (pid,) in admin.execute(held, [trial.database])]
                return bool(found)

            await trial.until(is_held)
            os.kill(found[0], signal.SIGKILL)
        finally:
            await release_commits(trial)


async def release_commits(trial: Trial) -> None:
    """Let commits finish again; retries, since a server that recovers from a kill drops clients."""
    for _ in range(50):
        await trial.postgres.ready()
        with suppress(psycopg.OperationalError), trial.postgres.admin() as admin:
            admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
            admin.execute("SELECT pg_reload_conf()")
            return
        await asyncio.sleep(0.05)
    raise TimeoutError("the server did not take its orders")


async def kill_server(trial: Trial, chance: Random) -> None:
    """Kill every process of the server; it is away for a moment."""
    async with trial.database_turn:
        await trial.postgres.kill()
        await asyncio.sleep(chance.uniform(0, 1))
        await trial.postgres.start()


async def restart_elsewhere(trial: Trial, chance: Random) -> None:
    """Shut the server down, and start it again at another address."""
    async with trial.database_turn:
        await trial.postgres.stop()
        old, new = trial.database_doors
        number = 1 if socket_of(trial.home, 2).exists() else 2
        if number == 1:
            old, new = new, old
        old.close()
        # Since Python 3.13, closing has already removed the socket.
        socket_of(trial.home, 3 - number).unlink(missing_ok=True)
        await asyncio.sleep(chance.uniform(0, 0.5))
        await trial.postgres.start()
        await new.open_socket(socket_of(trial.home, number))


async def terminate_backends(trial: Trial, chance: Random) -> None:
    """Terminate the daemon's sessions, as an administrator can."""
    async with turn(trial) as admin:
        end = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = %s AND starts_with(application_name, 'archiver')"
        )
        await trial.until(lambda: admin.execute(end, [trial.database]).rowcount > 0)


def stopped_for(least: float, most: float) -> Trouble:
    """All processes of the server are stopped for a while, so that it answers nothing."""

    async def freeze(trial: Trial, chance: Random) -> None:
        async with trial.database_turn:
            assert trial.postgres.tell_all(signal.SIGSTOP) > 0
            try:
                await asyncio.sleep(chance.uniform(least, most))
            finally:
                trial.postgres.tell_all(signal.SIGCONT)

    name = f"database stopped for {most:.0f} s"
    return Trouble(name=name, inflict=freeze, is_long=most > 10)


async def take_all_connections(trial: Trial, chance: Random) -> None:
    """Terminate the daemon's sessions and take all connections that the server has."""
    async with turn(trial) as admin:
        with ExitStack() as taken:
            end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            admin.execute(end, [trial.database])
            with suppress(psycopg.OperationalError):
                while True:
                    url = trial.postgres.url("postgres")
                    taken.enter_context(psycopg.connect(url, connect_timeout=5))
            await asyncio.sleep(chance.uniform(0.5, 2))


async def fill_disk(trial: Trial, chance: Random) -> None:
    """Fill the disk of the server; then free it again."""
    async with turn(trial) as admin:
        # The daemon may not notice at once: Postgres can write to recycled WAL files for a while.
        ballast = trial.postgres.home / "ballast"
        with ballast.open("wb", buffering=0) as heavy:
            with suppress(OSError):
                while True:
                    heavy.write(bytes(BALLAST_STEP))
            with suppress(OSError):
                while True:
                    heavy.write(bytes(4096))
        try:
            with suppress(psycopg.Error):
                admin.execute("CREATE TABLE filler AS SELECT repeat('x', 100000)")
                raise AssertionError("the disk is not full")
            await asyncio.sleep(chance.uniform(0.5, 2))
        finally:
            ballast.unlink()


async def slow_down(trial: Trial, chance: Random) -> None:
    """Delay each chunk of data to and from the server."""
    doors = trial.database_doors
    already = sum(door.delays for door in doors)
    try:
        for door in doors:
            door.latency_seconds = chance.uniform(0.02, 0.1)
        await asyncio.sleep(2)
        await trial.until(lambda: sum(door.delays for door in doors) > already + 10)
    finally:
        for door in doors:
            door.latency_seconds = 0.0


async def cut_off(trial: Trial, chance: Random) -> None:
    """Cut all connections to the server, whatever is being sent."""
    await trial.until(lambda: sum(door.cut() for door in trial.database_doors) > 0)


TROUBLES = (
    Trouble(name="database killed in a commit", inflict=kill_in_commit),
    Trouble(name="database killed", inflict=kill_server),
    Trouble(name="database restarted at another address", inflict=restart_elsewhere),
    Trouble(name="database ended the sessions", inflict=terminate_backends),
    stopped_for(1, 3),
    stopped_for(30, 30),
    Trouble(name="database out of connections", inflict=take_all_connections),
    Trouble(name="database out of disk", inflict=fill_disk, needs_small_disk=True),
    Trouble(name="database slow", inflict=slow_down),
    Trouble(name="database connections cut", inflict=cut_off),
)
