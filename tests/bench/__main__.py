"""How fast the archiver is, held against limits that are measured in the same run.

Each bench starts what it needs and leaves nothing behind. On two cores that have nothing else to do
all of them take about 25 minutes. With --quick they take a minute or two: little is measured, and
but once; what needs more than that to say anything is measured only when it is named.
"""

import argparse
import subprocess
import sys
from time import monotonic
from types import ModuleType

from rich.console import Console

from tests.bench import (
    backfill,
    cost,
    decoding,
    document,
    exporting,
    flows,
    growth,
    ingest,
    latency,
    memory,
    peers,
    rebuilding,
    search,
    sizing,
)
from tests.bench.figures import Figure, table
from tests.bench.lab import open_lab
from tests.bench.options import Options

BENCHES: dict[str, ModuleType] = {
    "ingest": ingest,
    "decode": decoding,
    "latency": latency,
    "backfill": backfill,
    "flows": flows,
    "memory": memory,
    "growth": growth,
    "sizing": sizing,
    "rebuild": rebuilding,
    "search": search,
    "export": exporting,
    "peers": peers,
    "cost": cost,
}
"""Each has ``run(lab, options)``, which yields its figures."""

NAMED = ("sizing", "search", "export")
"""Those that are not part of a quick run unless they are named."""

WIDE = 200
"""Letters: as wide as the table may want to be."""
FAILURES = (AssertionError, OSError, subprocess.SubprocessError)
"""What a bench raises when what it measures does not do its work, or not in time."""


def main() -> int:
    """Measure what the command line asks for; 1 if a target was missed."""
    parser = argparse.ArgumentParser(
        prog="./run bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(BENCHES)}")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="little and once: a minute or two")
    size.add_argument(
        "--full",
        action="store_true",
        help="growth up to 20 million messages, search in 10 million, a million exported,"
        " sizing with 2,000 flows: takes hours",
    )
    parser.add_argument("--json", action="store_true", help="one object a line")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in BENCHES]:
        parser.error(f"no bench {unknown[0]!r}; there are: {', '.join(BENCHES)}")
    options = Options(quick=asked.quick, full=asked.full)
    began = monotonic()
    names = asked.names or [name for name in BENCHES if not (asked.quick and name in NAMED)]
    figures, failed = measure(names, options, as_json=asked.json, write=asked.write)
    if not asked.json:
        # Into a file or a pipe, no figure is cut off to fit a width that nobody has.
        Console(width=None if sys.stdout.isatty() else WIDE).print(table(figures))
    if left_out := [name for name in NAMED if not asked.names and name not in names]:
        told = f"left out, as too much for a quick run unless named: {', '.join(left_out)}"
        print(told, file=sys.stderr)
    print(f"{monotonic() - began:.0f} s in all", file=sys.stderr)
    return 0 if not failed and all(one.holds for one in figures) else 1


def measure(
    names: list[str], options: Options, *, as_json: bool, write: bool
) -> tuple[list[Figure], bool]:
    """Run these benches, one after the other; tells whether one could not be run as well."""
    figures: list[Figure] = []
    measured: list[str] = []
    failed = False
    with open_lab() as lab:
        for name in names:
            began = monotonic()
            if not as_json:
                print(f"{name} …", file=sys.stderr, flush=True)
            try:
                for figure in BENCHES[name].run(lab, options):
                    if as_json:
                        print(figure.as_json(), flush=True)
                    else:
                        print(f"  {figure}", file=sys.stderr, flush=True)
                    figures.append(figure)
            except KeyboardInterrupt:
                failed = True
                print("interrupted: what follows was measured before", file=sys.stderr, flush=True)
                break
            except FAILURES as error:
                failed = True
                told = [f"{name} failed: {error!r}", *getattr(error, "__notes__", ())]
                print(*told, sep="\n", file=sys.stderr, flush=True)
            if not as_json:
                print(f"  {monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            measured.append(name)
        if write:
            chosen = {name: BENCHES[name] for name in measured}
            hot = cost.hottest(lab)
            document.write(figures, hot, chosen, server=lab.version(), quick=options.quick)
    return figures, failed


if __name__ == "__main__":
    sys.exit(main())
