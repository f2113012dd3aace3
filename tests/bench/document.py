"""What is written down of a run: docs/performance.md."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from tests.bench.cost import Hot
from tests.bench.figures import HEADERS, Figure, rows

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "docs" / "performance.md"


def write(
    figures: Sequence[Figure],
    hot: Sequence[Hot],
    benches: dict[str, ModuleType],
    *,
    server: str,
    quick: bool,
) -> None:
    """Write what was measured, on what, and how to do it again."""
    sections = [
        _head(server, quick=quick),
        _table(figures),
        _explained(benches),
        _profile(hot),
        _kept(),
    ]
    PLACE.write_text("\n\n".join(sections) + "\n")


def _head(server: str, *, quick: bool) -> str:
    command = "./run bench --quick --write" if quick else "./run bench --write"
    return f"""# Performance

Written by `{command}`; anyone can run it again, and nothing in the tables of this
run is filled in by hand. [What was measured](#what-was-measured) has the figures, [How each is
measured](#how-each-is-measured) what they are. [What it means](#what-it-means) sums up, with the
targets that are missed, and [Experiments](#experiments) is what was tried; both are kept by hand.

- A *value* is the median of its runs; `±` is half the distance from the least to the most.
- A *limit* is what bounds it, such as `\\copy` of the same rows, measured in the same run, or a
  fixed bound.
- A *ratio* is the median of each run's value divided by that run's own limit, so it differs from
  the quotient of the two columns. Ratios may be compared between machines, other figures may not.
- *Holds* says whether the *target* is met.

| | |
|---|---|
| when | {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, revision {_revision()} |
| processor | {os.cpu_count()} cores of {_processor()} |
| load before it began, of others | {_load()} |
| system | {platform.system()} {platform.release()}, Python {platform.python_version()} |
| server | PostgreSQL {server}, on the same machine, by a local socket |"""


def _table(figures: Sequence[Figure]) -> str:
    lines = [f"| {' | '.join(HEADERS)} |", "|---" * len(HEADERS) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows(figures)]
    return "## What was measured\n\n" + "\n".join(lines)


def _explained(benches: dict[str, ModuleType]) -> str:
    told = [
        f"### `./run bench {name}`\n\n{(one.__doc__ or '').strip()}"
        for name, one in benches.items()
    ]
    return "## How each is measured\n\n" + "\n\n".join(told)


def _profile(hot: Sequence[Hot]) -> str:
    lines = [f"| {one.share * 100:.1f} % | `{one.function}` |" for one in hot]
    return (
        "## The hot path\n\nThe ten functions that take the most time of their own, of decoding "
        "and writing 20,000 events\nin batches of 4,000; waiting for the server is left out.\n\n"
        "| share | function |\n|---|---|\n" + "\n".join(lines)
    )


def _kept() -> str:
    """What people wrote below the figures: it is kept as it stands."""
    mark = "## What it means"
    before = PLACE.read_text() if PLACE.exists() else ""
    return before[before.index(mark) :].strip() if mark in before else f"{mark}\n"


def _revision() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _load() -> str:
    return f"{LOAD[0]:.1f} in the last minute, {LOAD[2]:.1f} in the last fifteen"


LOAD = os.getloadavg()
"""When this began."""
