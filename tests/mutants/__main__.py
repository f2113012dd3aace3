"""Test the tests: break our code in many small ways; for each, a test must fail.

Each mutant is a patch in ``tests/mutants`` with a fault that a tired engineer might write; its
header says what the fault is and which promise it breaks. It is applied in a copy of the tree, and
the tests that it names are run until one fails. If none does, all the others are run. A mutant that
survives is a missing test, and the exit status is 1. Tests must also pass in a copy where nothing
is broken: otherwise their failure would prove nothing.
"""

import argparse
import asyncio
import json
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path

from archiver.embedded import run_server
from tests.conftest import UNSAFE, swift_directory
from tests.mutants.copies import Copy, Unusable, make_copy
from tests.mutants.patches import Mutant, Rotten, mutants, mutated

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result of a mutant."""

    mutant: str
    fault: str
    breaks: str
    caught_by: str | None
    """The first test that failed; None for a mutant that survived all tests."""
    seconds: float


def main() -> int:
    """Run the mutants that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="./run mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="these, as 'fold-*'; may be repeated"
    )
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time; 2 unless told")
    parser.add_argument("--named", action="store_true", help="no tests but those a mutant names")
    parser.add_argument("--json", action="store_true", help="one JSON object a mutant")
    parser.add_argument("--list", action="store_true", help="only tell what there is")
    options = parser.parse_args()
    patterns = options.only or ["*"]
    chosen = [one for one in mutants() if any(fnmatch(one.name, only) for only in patterns)]
    if not chosen:
        parser.error("no mutant is named so: --list tells all")
    if options.list:
        for one in chosen:
            print(f"{one.name}\n    {one.fault}\n    breaks: {one.breaks}")
        return 0
    try:
        return asyncio.run(run(chosen, options))
    except* (Rotten, Unusable) as errors:
        print(*errors.exceptions, sep="\n", file=sys.stderr)
    except* (asyncio.CancelledError, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    return 2


async def run(chosen: Sequence[Mutant], options: argparse.Namespace) -> int:
    """Run *chosen*, several at a time, and print each verdict; returns 1 if any survived."""
    this = asyncio.current_task()
    assert this
    # On SIGTERM, too, no server and no test may be left running.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    for mutant in chosen:
        mutated(mutant, ROOT)
    began = time.monotonic()
    verdicts = []
    with swift_directory() as home, run_server(home / "postgres", settings=UNSAFE) as server:
        copies = [make_copy(ROOT, home / f"copy{at}", server.url) for at in range(options.jobs)]
        proven = await prove(copies, chosen)
        if not options.json:
            told = f"{len(proven)} tests or files pass with nothing broken"
            print(f"{told}, {time.monotonic() - began:.0f} s", flush=True)
        async for verdict in judged(chosen, copies, proven, named=options.named):
            verdicts.append(verdict)
            tell(verdict, options)
    survived = [one.mutant for one in verdicts if one.caught_by is None]
    if not options.json:
        caught = len(verdicts) - len(survived)
        seconds = time.monotonic() - began
        print(
            f"{len(verdicts)} mutants, {caught} caught, {len(survived)} survived; {seconds:.0f} s"
        )
        for name in survived:
            print(f"  survived: {name}")
    return 1 if survived else 0


async def prove(copies: Sequence[Copy], chosen: Sequence[Mutant]) -> frozenset[str]:
    """Check that the first test of each mutant passes without faults; returns these tests."""
    first = sorted({mutant.tests[0] for mutant in chosen})
    todo = iter([first[at :: len(copies)] for at in range(len(copies))])

    async def work(copy: Copy) -> None:
        if (share := next(todo, None)) and (failed := await copy.test(share)):
            raise Unusable(f"with nothing broken this fails, so no mutant is judged: {failed}")

    async with asyncio.TaskGroup() as group:
        for copy in copies:
            group.create_task(work(copy))
    return frozenset(first)


async def judged(
    chosen: Sequence[Mutant], copies: Sequence[Copy], proven: frozenset[str], *, named: bool
) -> AsyncIterator[Verdict]:
    """Yield the verdicts as they come."""
    todo = iter(chosen)
    done: asyncio.Queue[Verdict] = asyncio.Queue()

    async def work(copy: Copy) -> None:
        for mutant in todo:
            done.put_nowait(await judge(mutant, copy, proven, named=named))

    async with asyncio.TaskGroup() as group:
        for copy in copies:
            group.create_task(work(copy))
        for _ in chosen:
            yield await done.get()


async def judge(mutant: Mutant, copy: Copy, proven: frozenset[str], *, named: bool) -> Verdict:
    """Break *copy* as *mutant* says, and find a test that fails."""
    began = time.monotonic()
    caught_by = None
    stages: list[Sequence[str]] = [mutant.tests[:1], mutant.tests[1:]]
    if not named:
        stages.append(["tests"])
    for stage in filter(None, stages):
        with copy.broken(mutated(mutant, copy.root)):
            caught_by = await copy.test(stage)
        if caught_by is not None:
            break
    if caught_by is not None:
        file, _, _ = test = caught_by.partition("::")
        function = "".join(test).partition("[")[0]
        if proven.isdisjoint({file, function}) and await copy.test([function]):
            raise Unusable(f"with nothing broken this fails, so it notices nothing: {caught_by}")
    return Verdict(
        mutant=mutant.name,
        fault=mutant.fault,
        breaks=mutant.breaks,
        caught_by=caught_by,
        seconds=round(time.monotonic() - began, 1),
    )


def tell(verdict: Verdict, options: argparse.Namespace) -> None:
    """Print one verdict: on one line, or on two where the terminal is narrow."""
    if options.json:
        print(json.dumps(asdict(verdict)), flush=True)
        return
    word = "SURVIVED" if verdict.caught_by is None else "caught"
    line = f"{word:<8} {verdict.seconds:6.1f} s  {verdict.mutant:<37}"
    by = verdict.fault if verdict.caught_by is None else verdict.caught_by
    is_wide = len(line) + len(by) < shutil.get_terminal_size().columns
    print(f"{line} {by}" if is_wide else f"{line.rstrip()}\n{' ' * 19}{by}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
