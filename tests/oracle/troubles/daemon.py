"""What happens to the daemon itself, and to its clock, and what else works on its archive."""

import asyncio
import os
import signal
from contextlib import suppress
from random import Random

from archiver.simulator.official import write_exports
from tests.oracle.programs import PROGRAM, ROOT, surroundings
from tests.oracle.trial import Trial
from tests.oracle.troubles.trouble import Trouble
from tests.oracle.troubles.world import change, readable_one

DAY_SECONDS = 86_400


async def kill(trial: Trial, chance: Random) -> None:
    """Kill the daemon without warning, and start it again."""
    daemon = chance.choice(trial.daemons)
    daemon.kill()
    await asyncio.sleep(chance.choice((0, 0, chance.uniform(0, 1))))
    daemon.start()


async def kill_process(trial: Trial, chance: Random) -> None:
    """Kill one of the further processes of the daemons; if there are none, a daemon."""
    processes = [pid for daemon in trial.daemons for pid in daemon.further_processes()]
    if not processes:
        await kill(trial, chance)
        return
    with suppress(ProcessLookupError):
        os.kill(chance.choice(processes), signal.SIGKILL)


async def kill_at_start(trial: Trial, chance: Random) -> None:
    """Kill the daemon several times while it starts."""
    daemon = chance.choice(trial.daemons)
    for _ in range(3):
        daemon.kill()
        daemon.start()
        await asyncio.sleep(chance.uniform(0.3, 1.2))


async def start_second(trial: Trial, chance: Random) -> None:
    """Start a second daemon on the same database, for a share of the flows or for all of them."""
    trial.start_daemon(shares=chance.random() < 0.5)
    await trial.until(lambda: len(trial.flowdock.streams.connections) > 1)


async def import_export(trial: Trial, chance: Random) -> None:
    """Import an outdated official export while the daemon runs; sometimes kill the import.

    Unlike the daemon, a command does not wait for the database but fails; it is then run again.
    """
    world = trial.flowdock.world
    export = trial.home / f"export-{chance.getrandbits(32):08x}"
    write_exports(world, export)
    for _ in range(20):
        change(world, await readable_one(trial, chance), chance)
    is_killed = chance.random() < 0.5
    with (trial.home / "import.log").open("ab") as log:
        while True:
            importing = await asyncio.create_subprocess_exec(
                *PROGRAM,
                "import",
                str(export),
                env=surroundings(trial.settings()),
                stdout=log,
                stderr=log,
                cwd=ROOT,
            )
            if is_killed:
                await asyncio.sleep(chance.uniform(0.3, 1.2))
                with suppress(ProcessLookupError):
                    importing.kill()
            # Status 1: something was rejected, as it is, too, when it comes from the service.
            if await importing.wait() in {0, 1} or is_killed:
                return
            await asyncio.sleep(0.2)


def jumping(days: float) -> Trouble:
    """The wall clock of the daemon's machine jumps by *days*, and in half the cases back."""

    async def jump(trial: Trial, chance: Random) -> None:
        trial.jump(days * DAY_SECONDS)
        await asyncio.sleep(chance.uniform(0.5, 1.5))
        if chance.random() < 0.5:
            trial.jump(0)

    return Trouble(name=f"clock of the daemon {'ahead' if days > 0 else 'back'}", inflict=jump)


async def jump_service(trial: Trial, chance: Random) -> None:
    """The clock of the service jumps a day ahead."""
    trial.clock.ahead_ms += DAY_SECONDS * 1000
    await asyncio.sleep(0)


KILL = Trouble(name="daemon killed", inflict=kill)

TROUBLES = (
    KILL,
    Trouble(name="process of the daemon killed", inflict=kill_process),
    Trouble(name="daemon killed while it starts", inflict=kill_at_start),
    Trouble(name="two daemons", inflict=start_second),
    Trouble(name="old export imported", inflict=import_export),
    jumping(1),
    jumping(-1),
    Trouble(name="clock of the service ahead", inflict=jump_service),
)
