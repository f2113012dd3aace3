"""The judge: many scenarios of what may go wrong; after each, the archive must be the truth.

``./run oracle`` draws each scenario from its seed: a world, its traffic, faults of the wire, of the
flows, of the database and of the daemon, and the moments at which the daemon is killed. While it
runs, no range may be claimed that is not held; in the end, every field must be as the simulator
says, without gap or doubt, and every fault must have happened.
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
from pathlib import Path

from tests.oracle.judging import Judgment, judge
from tests.oracle.postgres import run_postgres
from tests.oracle.scenario import CATALOGUE, draw
from tests.oracle.siege import besiege


def main() -> int:
    """Judge what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="./run oracle",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scenarios", type=int, default=len(CATALOGUE), help="how many")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first")
    parser.add_argument("--seed", type=int, help="this one alone, again")
    parser.add_argument("--kills", type=int, help="instead: one archive, so many kills under load")
    parser.add_argument("--json", action="store_true", help="one JSON object a scenario")
    parser.add_argument("--logs", type=Path, help="where to keep the logs of what failed")
    options = parser.parse_args()
    return asyncio.run(run(options))


async def run(options: argparse.Namespace) -> int:
    """Judge scenario after scenario; 1 if any failed."""
    this = asyncio.current_task()
    assert this
    # However it ends, no daemon and no server may be left behind.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    first = options.first if options.seed is None else options.seed
    is_single = options.seed is not None or options.kills
    seeds = range(first, first + (1 if is_single else options.scenarios))
    judgments = []
    async with run_postgres() as (postgres, has_small_disk):
        for seed in seeds:
            home = Path(tempfile.mkdtemp(prefix="archiver-trial-"))
            if options.kills:
                judgment = await besiege(seed, options.kills, home, postgres)
            else:
                scenario = draw(seed, has_small_disk=has_small_disk)
                judgment = await judge(scenario, home, postgres, has_small_disk=has_small_disk)
            judgments.append(judgment)
            tell(judgment, home, options)
            shutil.rmtree(home)
    if not options.json:
        summarize(judgments, has_small_disk=has_small_disk)
    return 1 if any(one.failures for one in judgments) else 0


def tell(judgment: Judgment, home: Path, options: argparse.Namespace) -> None:
    """Print one judgment, and keep the logs of one that failed or was asked for by its seed."""
    if judgment.failures or options.seed is not None:
        kept = options.logs or Path(tempfile.gettempdir())
        kept /= f"oracle-{judgment.seed}-{time.time_ns()}"
        shutil.copytree(home, kept, ignore=shutil.ignore_patterns("door-*"))
        judgment.home = str(kept)
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
    """Print how often each fault happened, and what came of it all."""
    fired = sum((one.fired for one in judgments), Counter[str]())
    for trouble in CATALOGUE:
        print(f"{fired.pop(trouble.name, 0):>6}  {trouble.name}")
    for name, count in fired.items():
        print(f"{count:>6}  {name}")
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


if __name__ == "__main__":
    sys.exit(main())
