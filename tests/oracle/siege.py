"""A siege: one archive, under load, whose daemon is killed at random moments again and again."""

import asyncio
from pathlib import Path

from tests.oracle.judging import Judgment, judge_trial, verify
from tests.oracle.postgres import Postgres
from tests.oracle.trial import Size, Trial, begin

SIZE = Size(
    flows=4,
    users=6,
    history=2000,
    rate=30.0,
    seconds=0.0,
    replay="none",
    stream_format="event-stream",
)
PATIENCE_SECONDS = 300.0


async def besiege(seed: int, kills: int, home: Path, postgres: Postgres) -> Judgment:
    """Kill the daemon *kills* times under constant traffic; then judge the archive."""
    async with begin(seed, SIZE, home, postgres, has_small_disk=False) as trial:
        killing = kill_often(trial, kills)
        what = f"{kills} kills under load"
        return await judge_trial(
            trial, what, killing, patience_seconds=PATIENCE_SECONDS, conclude=verify
        )


async def kill_often(trial: Trial, kills: int) -> None:
    """Kill the daemon at random moments: one time in four while it starts, else while it works."""
    chance = trial.chance_of("siege")
    trial.flowdock.go_live(seed=trial.seed, rate=SIZE.rate)
    daemon = trial.start_daemon()
    for _ in range(kills):
        if chance.random() < 0.25:
            await asyncio.sleep(chance.uniform(0, 1))
            trial.fired["daemon killed while it starts"] += 1
        else:
            await trial.flowdock.connected()
            await asyncio.sleep(chance.uniform(0, 1.5))
            trial.fired["daemon killed"] += 1
        daemon.kill()
        await trial.until(lambda: not trial.flowdock.streams.connections)
        daemon.start()
    trial.flowdock.stop_live()
