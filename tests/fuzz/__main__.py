"""The fuzzer: coverage-guided inputs for framing and decoding, down to the strangest bytes.

Inputs are derived from those in ``tests/fuzz/seeds`` and from those that reached new code since.
Each must obey the laws of ``tests/fuzz/laws.py``: any cut of the bytes gives the same frames,
buffers are bounded, decoding never raises, and its results belong to the closed union and can be
stored as they came. An input that breaks a law is kept among the seeds, where the ordinary tests
repeat it, and the exit status is 1. If FILEs are given, only they are checked against the laws, to
look into what was found.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.coverage import coverage
from tests.fuzz.laws import check

ROOT = Path(__file__).parents[2]
SEEDS = ROOT / "tests" / "fuzz" / "seeds"
TELL_SECONDS = 5.0
LIMITS = ("-timeout=10", "-rss_limit_mb=2048", "-max_len=16384")
"""An input that takes more time or memory than this is a finding as well."""
_STATUS = re.compile(r"#(\d+)\s.*cov: (\d+) ft: (\d+)")


@dataclass(slots=True)
class Outcome:
    """The result of a run of the fuzzer."""

    seconds: float = 0.0
    inputs: int = 0
    branches: int = 0
    """How many places in the bytecode were reached, as the fuzzer counts them."""
    corpus: int = 0
    """How many inputs reached something new, including seeds."""
    coverage: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By module: how many lines of its functions the corpus reached, and how many there are."""
    exceptions: int = 0
    kept: str | None = None
    """The path of the input that broke a law."""


def main() -> int:
    """Fuzz as the command line asks."""
    parser = argparse.ArgumentParser(
        prog="./run fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=int, default=90, help="how long; 90 unless told")
    parser.add_argument("--seed", type=int, default=0, help="of the fuzzer's chance")
    parser.add_argument("--json", action="store_true", help="tell the outcome as JSON")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="these alone")
    options = parser.parse_args()
    if options.files:
        return replay(options.files)
    if find_spec("atheris") is None:
        print("atheris, which makes the inputs, has no build for this platform", file=sys.stderr)
        return 2
    return asyncio.run(run(options))


def replay(files: list[Path]) -> int:
    """Check the contents of *files* against the laws."""
    broken = 0
    for file in files:
        try:
            check(file.read_bytes())
        except Exception:  # noqa: BLE001  (any breaks a law)
            broken += 1
            print(f"{file}:\n{traceback.format_exc()}")
    print(f"{len(files)} inputs, {broken} broke a law")
    return 1 if broken else 0


async def run(options: argparse.Namespace) -> int:
    """Fuzz, and print the outcome; returns 1 if a law was broken."""
    with tempfile.TemporaryDirectory(prefix="archiver-fuzz-") as scratch:
        outcome = await fuzz(options, Path(scratch))
    if options.json:
        print(json.dumps(asdict(outcome)))
    else:
        tell(outcome)
        if outcome.kept:
            replay([ROOT / outcome.kept])
    return 1 if outcome.exceptions else 0


async def fuzz(options: argparse.Namespace, scratch: Path) -> Outcome:
    """Run the fuzzer in a process of its own, and gather what it found."""
    corpus, findings = scratch / "corpus", scratch / "findings"
    corpus.mkdir()
    findings.mkdir()
    outcome = Outcome()
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fuzz.target",
        f"-max_total_time={options.seconds}", f"-seed={options.seed or time.time_ns() % 2**31}",
        *LIMITS, "-print_final_stats=1", f"-artifact_prefix={findings}/", corpus, SEEDS,
        cwd=ROOT, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        said = await listen(process, outcome, quiet=options.json)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    outcome.seconds = round(time.monotonic() - began, 1)
    inputs = [file.read_bytes() for place in (SEEDS, corpus) for file in sorted(place.iterdir())]
    outcome.corpus = len(inputs)
    outcome.exceptions = max(len(list(findings.iterdir())), process.returncode != 0)
    for file in findings.iterdir():
        kept = SEEDS / f"found-{file.name.partition('-')[2][:12]}.bytes"
        shutil.copyfile(file, kept)
        outcome.kept = os.fspath(kept.relative_to(ROOT))
    if not outcome.exceptions:
        outcome.coverage = coverage(inputs)
    elif not any(file.name.startswith("crash-") for file in findings.iterdir()):
        # Too slow, too large, or a failure of the fuzzer itself: only its output can tell.
        print("\n".join(said[-40:]), file=sys.stderr)
    return outcome


async def listen(
    process: asyncio.subprocess.Process, outcome: Outcome, *, quiet: bool
) -> list[str]:
    """Read the fuzzer's output until it ends; print progress unless *quiet*."""
    assert process.stderr
    said: list[str] = []
    told_at = time.monotonic()
    async for line in process.stderr:
        text = line.decode(errors="replace").rstrip()
        if match := _STATUS.match(text):
            outcome.inputs, outcome.branches = int(match[1]), int(match[2])
            if not quiet and time.monotonic() - told_at >= TELL_SECONDS:
                told_at = time.monotonic()
                print(f"{outcome.inputs:>9,} inputs, {outcome.branches} places reached", flush=True)
        else:
            said.append(text)
        if text.startswith("stat::number_of_executed_units:"):
            outcome.inputs = int(text.rpartition(" ")[2])
    await process.wait()
    return said


def tell(outcome: Outcome) -> None:
    """Print an outcome for people."""
    for module, (reached, all_) in outcome.coverage.items():
        print(f"{module:<10} {reached:>4} of {all_:>4} lines")
    print(
        f"{outcome.inputs:,} inputs tried in {outcome.seconds:.0f} s, "
        f"{outcome.corpus} reached something new; "
        f"{outcome.branches} places reached; {outcome.exceptions} exceptions"
    )
    if outcome.kept:
        print(f"the input that broke a law is kept; again: ./run fuzz {outcome.kept}")


if __name__ == "__main__":
    sys.exit(main())
