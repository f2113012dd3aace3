"""A long life: hours of a company's traffic in fast forward, with faults and kills all along.

One simulated minute takes a second. By day more is said than at night; every few minutes something
goes wrong, drawn from the judge's catalogue; the daemon is killed now and then, but in the last
third, so that one life of it is long enough to tell whether its memory grows. In the end the
archive must be the truth, ``archiver verify`` must prove it, and ``archiver rebuild --check`` must
find no row that differs from what the journal says.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.oracle.judging import IN_DOUBT, Judgment, judge_trial, suffer
from tests.oracle.memory import Memory, Sample
from tests.oracle.postgres import Postgres
from tests.oracle.programs import run_once
from tests.oracle.scenario import CATALOGUE
from tests.oracle.trial import Size, Trial, begin
from tests.oracle.troubles.daemon import KILL
from tests.oracle.troubles.trouble import Trouble

PACE = 60.0
"""Simulated seconds in a second."""

HOUR_SECONDS = 3600.0
SIZE = Size(
    flows=6,
    users=10,
    history=2000,
    rate=0.5,
    seconds=0.0,
    replay="all",
    stream_format="event-stream",
)
BY_HOUR = (1, 1, 1, 1, 1, 2, 4, 8, 14, 18, 18, 16, 10, 16, 18, 18, 16, 12, 8, 5, 4, 3, 2, 1)
"""How much is said in each hour of a day, in proportion."""

BUSY_RATE = 40.0
"""Operations a real second in the busiest hour."""

CALM_SECONDS = (2.0, 14.0)
"""Real seconds between one trouble and the next, at least and at most."""

KILL_EVERY = 6
"""Of the troubles before the last third, one in so many is a kill, beside those of the draw."""

UNFIT = frozenset(
    {
        "two daemons",
        "clock of the daemon ahead",
        "clock of the daemon back",
        "clock of the service ahead",
    }
)
"""Here the clocks run fast as they are, and one daemon's memory is measured."""

UNJUDGED = UNFIT | {
    "daemon killed",
    "daemon killed while it starts",
    "401 for a page",
    "401 for a stream",
    "event of 10 MB",
}
"""What would hide whether memory grows: not in the last third."""

CALM_FROM = 2 / 3
JUDGED_FROM = 0.7
"""Of the hours: by then what the last kill cost is made up for."""

PATIENCE_SECONDS = 300.0


@dataclass(slots=True, kw_only=True)
class Day:
    """How far it has come, and what was seen of it."""

    hours: float
    tell: Callable[[str], None]
    memory: Memory
    began: float = field(default_factory=time.monotonic)
    troubles: int = 0
    starts: int = 0
    """Of the daemon."""
    verified: str = "not reached"
    rebuilt: str = "not reached"

    @property
    def seconds(self) -> float:
        """How much of it has gone by, in simulated seconds."""
        return (time.monotonic() - self.began) * PACE

    @property
    def hour(self) -> float:
        """The same in hours."""
        return self.seconds / HOUR_SECONDS

    def as_json(self) -> dict[str, Any]:
        """What was seen."""
        return {
            "hours": self.hours,
            "troubles": self.troubles,
            "starts": self.starts,
            "verify": self.verified,
            "rebuild": self.rebuilt,
            "memory": self.memory.as_json(),
        }


async def live_through(
    seed: int, hours: float, home: Path, postgres: Postgres, tell: Callable[[str], None]
) -> tuple[Judgment, Day]:
    """Live through so many simulated hours, and judge what became of the archive."""
    async with begin(seed, SIZE, home, postgres, has_small_disk=False) as trial:
        day = Day(hours=hours, tell=tell, memory=Memory(judged_from=hours * JUDGED_FROM))
        judgment = await judge_trial(
            trial,
            f"{hours:g} simulated hours",
            live(trial, day),
            patience_seconds=PATIENCE_SECONDS,
            conclude=lambda _: conclude(trial, day),
        )
    if day.memory.grows:
        judgment.failures.append(f"the daemon's memory grows: {day.memory.describe()}")
    return judgment, day


async def live(trial: Trial, day: Day) -> None:
    """Let the hours go by, one simulated minute a second."""
    trial.clock.run_at(PACE)
    trial.start_daemon()
    await trial.flowdock.connected()
    day.began = time.monotonic()
    helpers = [
        asyncio.create_task(keep_time(trial)),
        asyncio.create_task(measure(trial, day)),
    ]
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(talk(trial, day))
            group.create_task(go_wrong(trial, day))
    finally:
        trial.flowdock.stop_live()
        for helper in helpers:
            helper.cancel()
        await asyncio.wait(helpers)
        trial.clock.run_at(1.0)


async def keep_time(trial: Trial) -> None:
    """Have the clock of the daemon's machine go as fast as that of the service."""
    while True:
        trial.jump(trial.clock() / 1000 - time.time())
        await asyncio.sleep(1)


async def measure(trial: Trial, day: Day) -> None:
    """Look at the daemon's memory, once a second."""
    while True:
        daemon = trial.daemons[0]
        day.starts = daemon.starts
        with suppress(OSError):
            sample = Sample(life=daemon.starts, hour=day.hour, bytes=daemon.resident_bytes())
            day.memory.samples.append(sample)
        await asyncio.sleep(1)


async def talk(trial: Trial, day: Day) -> None:
    """Let people talk, more by day than by night; tell what has become of each hour."""
    peak = max(BY_HOUR)
    for hour in range(-(-round(day.hours * 60) // 60)):
        # A short run begins in the morning: there is something to be seen.
        share = BY_HOUR[(hour + (8 if day.hours < len(BY_HOUR) else 0)) % len(BY_HOUR)] / peak
        trial.flowdock.go_live(seed=trial.seed * 1000 + hour, rate=BUSY_RATE * share)
        left = min(day.hours, hour + 1) * HOUR_SECONDS - day.seconds
        await asyncio.sleep(max(0.0, left / PACE))
        published = trial.flowdock.world.log.published
        rss = day.memory.samples[-1].bytes / 2**20 if day.memory.samples else 0.0
        day.tell(
            f"{hour + 1:>4} h  {published:>8,} events  {day.troubles:>4} troubles  "
            f"{day.starts:>3} starts  {rss:6.1f} MiB"
        )


async def go_wrong(trial: Trial, day: Day) -> None:
    """Let one thing after the other go wrong."""
    chance = trial.chance_of("day")
    while True:
        await asyncio.sleep(chance.uniform(*CALM_SECONDS))
        if day.hour >= day.hours:
            return
        trouble = choose(chance, is_judged=day.hour > day.hours * CALM_FROM)
        try:
            await suffer(trial, trouble, number=day.troubles, moment=0.0)
        except RuntimeError as error:
            trial.failures.append(str(error))
        day.troubles += 1


def choose(chance: Random, *, is_judged: bool) -> Trouble:
    """What goes wrong next."""
    possible = [
        one
        for one in CATALOGUE
        if one.name not in (UNJUDGED if is_judged else UNFIT)
        and not (one.is_long or one.needs_small_disk)
    ]
    kill = not is_judged and chance.randrange(KILL_EVERY) == 0
    return KILL if kill else chance.choice(possible)


async def conclude(trial: Trial, day: Day) -> None:
    """Have the archive verified and rebuilt by the archiver itself, with no daemon beside it.

    Raises:
        AssertionError: a command is not content.
    """
    for daemon in trial.daemons:
        daemon.kill()
    day.tell("the archive is the truth; archiver verify …")
    ran = await asyncio.to_thread(run_once, "verify", settings=trial.settings())
    if ran.returncode == IN_DOUBT:
        # What the daemon had begun to doubt when it was killed was listed again by this run.
        ran = await asyncio.to_thread(run_once, "verify", settings=trial.settings())
    day.verified = {0: "proven", 1: "differences", 2: "doubt"}.get(ran.returncode, "failed")
    assert ran.returncode == 0, f"verify ends with {ran.returncode}: {ran.stdout}{ran.stderr}"
    day.tell("archiver rebuild --check …")
    ran = await asyncio.to_thread(run_once, "rebuild", "--check", settings=trial.settings())
    day.rebuilt = {0: "no difference", 1: "differences"}.get(ran.returncode, "failed")
    assert ran.returncode == 0, f"rebuild ends with {ran.returncode}: {ran.stdout}{ran.stderr}"
