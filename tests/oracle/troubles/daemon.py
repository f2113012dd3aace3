"""What befalls the daemon itself."""

import asyncio
import os
import signal
from contextlib import suppress
from random import Random

from tests.oracle.trial import Trial
from tests.oracle.troubles.trouble import Trouble

DAY_SECONDS = 86_400


async def kill(trial: Trial, chance: Random) -> None:
    """Kill the daemon without warning, and start it again."""
    daemon = chance.choice(trial.daemons)
    daemon.kill()
    await asyncio.sleep(chance.choice((0, 0, chance.uniform(0, 1))))
    daemon.start()


async def kill_process(trial: Trial, chance: Random) -> None:
    """Kill one of the further processes of a daemon; of a daemon that has none, the daemon."""
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
    """Let a second daemon work on the same database: on its share of the flows, or on all."""
    trial.start_daemon(shares=chance.random() < 0.5)
    await trial.until(lambda: len(trial.flowdock.streams.connections) > 1)


def jumping(days: float) -> Trouble:
    """The wall clock of the daemon's machine jumps."""

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
    jumping(1),
    jumping(-1),
    Trouble(name="clock of the service ahead", inflict=jump_service),
)
