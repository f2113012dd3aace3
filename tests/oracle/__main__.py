"""The judge: many scenarios of what can go wrong; after each, the archive must match the truth.

``./run oracle`` draws each scenario from its seed: a world, its traffic, faults of the wire, of the
flows, of the database and of the daemon, and the moments at which the daemon is killed. While a
scenario runs, the archive must never claim a range that it does not hold. At the end, every field
must be as the simulator says, there must be no gap or doubt, and every fault must have happened.
On a busy machine, its timeouts are longer.
"""

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

from tests.oracle.day import Day, live_through
from tests.oracle.judging import Judgment, judge
from tests.oracle.postgres import Postgres, run_postgres
from tests.oracle.scenario import CATALOGUE, draw
from tests.oracle.siege import besiege


def main() -> int:
    """Run the scenarios that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="./run oracle",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scenarios", type=int, default=len(CATALOGUE), help="how many")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first")
    parser.add_argument("--seed", type=int, help="this one alone, again")
    parser.add_argument("--kills", type=int, help="instead: one archive, so many kills under load")
    parser.add_argument(
        "--hours", type=float, help="instead: so many simulated hours of one archive, a minute each"
    )
    parser.add_argument(
        "--day", dest="hours", action="store_const", const=24.0, help="the same as --hours 24"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a scenario")
    parser.add_argument("--logs", type=Path, help="where to keep the logs of what failed")
    options = parser.parse_args()
    return asyncio.run(run(options))


async def run(options: argparse.Namespace) -> int:
    """Run and judge one scenario after the other; returns 1 if any failed."""
    this = asyncio.current_task()
    assert this
    # On SIGTERM, too, no daemon and no server may be left running.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    async with run_postgres() as (postgres, has_small_disk):
        if options.hours:
            return await run_day(options, postgres)
        judgments = []
        for seed in seeds(options):
            with tempfile.TemporaryDirectory(prefix="archiver-trial-") as path:
                home = Path(path)
                if options.kills:
                    judgment = await besiege(seed, options.kills, home, postgres)
                else:
                    scenario = draw(seed, has_small_disk=has_small_disk)
                    judgment = await judge(scenario, home, postgres, has_small_disk=has_small_disk)
                judgments.append(judgment)
                tell(judgment, home, options)
    if not options.json:
        summarize(judgments, has_small_disk=has_small_disk)
    return 1 if any(one.failures for one in judgments) else 0


def seeds(options: argparse.Namespace) -> range:
    """The seeds of the scenarios that the command line asks for."""
    if options.seed is not None:
        return range(options.seed, options.seed + 1)
    return range(options.first, options.first + (1 if options.kills else options.scenarios))


async def run_day(options: argparse.Namespace, postgres: Postgres) -> int:
    """Run many simulated hours on one archive; returns 1 if the judgment has failures."""
    seed = options.first if options.seed is None else options.seed
    say = partial(print, flush=True, file=sys.stderr if options.json else sys.stdout)
    with tempfile.TemporaryDirectory(prefix="archiver-day-") as path:
        judgment, day = await live_through(seed, options.hours, Path(path), postgres, say)
        if judgment.failures:
            judgment.home = keep(Path(path), seed, options)
    if options.json:
        print(json.dumps(judgment.as_json() | {"day": day.as_json()}))
    else:
        describe(judgment, day)
    return 1 if judgment.failures else 0


def keep(home: Path, seed: int, options: argparse.Namespace) -> str:
    """Copy the logs of a trial to where they are kept; returns that path."""
    kept: Path = options.logs or Path(tempfile.gettempdir())
    kept /= f"oracle-{seed}-{time.time_ns()}"
    shutil.copytree(home, kept, ignore=shutil.ignore_patterns("door-*"))
    return str(kept)


def tell(judgment: Judgment, home: Path, options: argparse.Namespace) -> None:
    """Print one judgment; keep the logs if it failed or was asked for by its seed."""
    if judgment.failures or options.seed is not None:
        judgment.home = keep(home, judgment.seed, options)
    if options.json:
        print(json.dumps(judgment.as_json()), flush=True)
        return
    verdict = "FAILED" if judgment.failures else "ok"
    print(
        f"{judgment.seed:>5} {verdict:<6} {judgment.seconds:5.1f} s, the truth after "
        f"{judgment.converged_seconds:4.1f} s, {judgment.messages} messages: {judgment.troubles}",
        flush=True,
    )
    for failure in judgment.failures:
        print(f"      {failure}")
    if judgment.failures:
        print(f"      again: ./run oracle --seed {judgment.seed}; its logs are in {judgment.home}")


def summarize(judgments: list[Judgment], *, has_small_disk: bool) -> None:
    """Print how often each fault happened, and the overall result."""
    show_firings(judgments, all_of_them=len(judgments) > 1)
    if not has_small_disk:
        print("no file system could be mounted, so the disk was never filled")
    failed = sum(bool(one.failures) for one in judgments)
    slowest = max(judgments, key=lambda one: one.converged_seconds)
    checks = sum(one.checks for one in judgments)
    deceived = sum(one.deceived for one in judgments)
    print(
        f"{len(judgments)} scenarios, {failed} failed; the truth after at most "
        f"{slowest.converged_seconds:.1f} s (seed {slowest.seed}); "
        f"claims looked at {checks} times; {deceived} were of what the service withheld"
    )


def show_firings(judgments: list[Judgment], *, all_of_them: bool) -> None:
    """Print how often each fault happened; with *all_of_them*, also those that never did."""
    fired = sum((one.fired for one in judgments), Counter[str]())
    catalogue = {trouble.name: 0 for trouble in CATALOGUE} if all_of_them else {}
    for name, count in (catalogue | fired).items():
        print(f"{count:>6}  {name}")


def describe(judgment: Judgment, day: Day) -> None:
    """Print the result of a run of simulated hours."""
    show_firings([judgment], all_of_them=False)
    told = {
        "simulated hours": f"{day.hours:g} in {judgment.seconds / 60:.1f} minutes",
        "messages": f"{judgment.messages:,}",
        "troubles": f"{day.troubles}, {day.starts} starts of the daemon",
        "claims looked at": f"{judgment.checks} times",
        "the truth after": f"{judgment.converged_seconds:.1f} s",
        "archiver verify": day.verified,
        "archiver rebuild --check": day.rebuilt,
        "memory": day.memory.describe(),
        "verdict": "FAILED" if judgment.failures else "ok",
    }
    width = max(map(len, told))
    for name, value in told.items():
        print(f"{name:<{width}}  {value}")
    for failure in judgment.failures:
        print(f"      {failure}")
    if judgment.failures:
        print(f"      its logs are in {judgment.home}")


if __name__ == "__main__":
    sys.exit(main())
