"""A long run: hours of a company's traffic in fast forward, with faults and kills throughout.

One simulated minute takes a second. There is more traffic by day than at night; every few minutes
something goes wrong, drawn from the judge's catalogue. The daemon is killed now and then, except in
the last third, so that its last process lives long enough to tell whether its memory grows. At the
end, the archive must match the truth, ``archiver verify`` must prove it, and ``archiver rebuild
--check`` must find no row that differs from what the journal says.
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
"""Simulated seconds for each real second."""

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
"""The relative amount of traffic in each hour of a day."""

BUSY_RATE = 40.0
"""Operations per real second in the busiest hour."""

CALM_SECONDS = (2.0, 14.0)
"""Minimum and maximum of the real seconds between one trouble and the next."""

KILL_EVERY = 6
"""Before the last third, one trouble in this many is a kill, besides the kills that are drawn."""

UNFIT = frozenset(
    {
        "two daemons",
        "clock of the daemon ahead",
        "clock of the daemon back",
        "clock of the service ahead",
    }
)
"""Troubles that are never drawn: the clocks already run fast here, and the memory of one daemon is
measured."""

UNJUDGED = UNFIT | {
    "daemon killed",
    "daemon killed while it starts",
    "401 for a page",
    "401 for a stream",
    "event of 10 MB",
}
"""Troubles that are not drawn in the last third, since they would hide whether memory grows."""

CALM_FROM = 2 / 3
JUDGED_FROM = 0.7
"""The share of the hours after which memory is judged: by then, the daemon has caught up with what
it missed through the last kill."""

PATIENCE_SECONDS = 300.0


@dataclass(slots=True, kw_only=True)
class Day:
    """How far the simulated hours have come, and what was observed."""

    hours: float
    tell: Callable[[str], None]
    memory: Memory
    began: float = field(default_factory=time.monotonic)
    troubles: int = 0
    starts: int = 0
    """How often the daemon was started."""
    verified: str = "not reached"
    rebuilt: str = "not reached"

    @property
    def seconds(self) -> float:
        """How much time has passed, in simulated seconds."""
        return (time.monotonic() - self.began) * PACE

    @property
    def hour(self) -> float:
        """How much time has passed, in simulated hours."""
        return self.seconds / HOUR_SECONDS

    def as_json(self) -> dict[str, Any]:
        """What was observed, as it is printed with ``--json``."""
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
    """Run for this many simulated hours, then judge the archive."""
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
    """Run traffic and troubles until the hours are over, one simulated minute per second."""
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
    """Make the daemon's wall clock run as fast as the clock of the service."""
    while True:
        trial.jump(trial.clock() / 1000 - time.time())
        await asyncio.sleep(1)


async def measure(trial: Trial, day: Day) -> None:
    """Sample the daemon's memory once a second."""
    while True:
        daemon = trial.daemons[0]
        day.starts = daemon.starts
        with suppress(OSError):
            sample = Sample(life=daemon.starts, hour=day.hour, bytes=daemon.resident_bytes())
            day.memory.samples.append(sample)
        await asyncio.sleep(1)


async def talk(trial: Trial, day: Day) -> None:
    """Generate traffic, more by day than at night, and print a line after each hour."""
    peak = max(BY_HOUR)
    for hour in range(-(-round(day.hours * 60) // 60)):
        # A run shorter than a day begins in the morning, when there is traffic.
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
    """Inflict one trouble after the other until the hours are over."""
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
    """Draw the next trouble."""
    possible = [
        one
        for one in CATALOGUE
        if one.name not in (UNJUDGED if is_judged else UNFIT)
        and not (one.is_long or one.needs_small_disk)
    ]
    kill = not is_judged and chance.randrange(KILL_EVERY) == 0
    return KILL if kill else chance.choice(possible)


async def conclude(trial: Trial, day: Day) -> None:
    """Stop the daemons; run ``archiver verify`` and ``archiver rebuild --check``.

    Raises:
        AssertionError: one of the commands finds a difference or fails.
    """
    for daemon in trial.daemons:
        daemon.kill()
    day.tell("the archive is the truth; archiver verify …")
    ran = await asyncio.to_thread(run_once, "verify", settings=trial.settings())
    if ran.returncode == IN_DOUBT:
        # The killed daemon left doubts; this run has listed their ranges again, so the next one
        # must find none.
        ran = await asyncio.to_thread(run_once, "verify", settings=trial.settings())
    day.verified = {0: "proven", 1: "differences", 2: "doubt"}.get(ran.returncode, "failed")
    assert ran.returncode == 0, f"verify ends with {ran.returncode}: {ran.stdout}{ran.stderr}"
    day.tell("archiver rebuild --check …")
    ran = await asyncio.to_thread(run_once, "rebuild", "--check", settings=trial.settings())
    day.rebuilt = {0: "no difference", 1: "differences"}.get(ran.returncode, "failed")
    assert ran.returncode == 0, f"rebuild ends with {ran.returncode}: {ran.stdout}{ran.stderr}"
