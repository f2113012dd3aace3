"""Cut the power of a virtual machine: what was reported as archived must survive.

``./run powercut`` boots a virtual machine with the archiver's private Postgres, lets the daemon
archive into it under traffic, and cuts its power again and again. Each cut also loses whatever the
disk had not been told to flush. After each cut, every event that another session had seen in the
archive must be there, byte for byte; every range that was claimed must still be claimed, and held;
and the rows must be what the journal says. At the end, the archive must match the truth. As a
control, the same is then done once with fsync=off, and must lose something: otherwise the test
itself would be worthless.

It needs no root and no KVM, but some packages of Debian; it says which are missing.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.powercut.needs import NotInstalled, find_tools
from tests.powercut.trial import Cut, Trial


def main() -> int:
    """Cut the power as often as the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="./run powercut",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cuts", type=int, default=5, help="how many; each takes a minute or so")
    parser.add_argument("--rate", type=float, default=20.0, help="events a second")
    parser.add_argument("--seed", type=int, default=1, help="of the traffic and the moments")
    parser.add_argument("--kvm", action="store_true", help="use KVM, which is quicker")
    parser.add_argument("--json", action="store_true", help="one JSON object a cut, and a last one")
    options = parser.parse_args()
    if options.cuts < 1:
        parser.error("--cuts: without a cut nothing is shown")
    # On SIGTERM, too, no machine may be left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        tools = find_tools()
    except NotInstalled as error:
        print(error, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="archiver-powercut-") as path:
        say(f"making a machine ({tools.kernel.name})")
        home = Path(path)
        trial = Trial(home, tools, seed=options.seed, rate=options.rate, kvm=options.kvm)
        try:
            return judge(trial, options)
        except Exception:
            for log in ("console.log", "archiver.log", "simulator.log"):
                if (home / log).exists():
                    sys.stderr.write((home / log).read_text(errors="replace")[-3000:])
            raise
        finally:
            trial.close()


def judge(trial: Trial, options: argparse.Namespace) -> int:
    """Cut, compare and report; returns 1 if anything was lost, or if the control lost nothing."""
    cuts = []
    for cut in trial.cut_often(options.cuts, say):
        cuts.append(cut)
        tell(cut, f"cut {len(cuts)}", options)
    found = trial.differ_in_the_end()
    say("archive = truth" if not found else f"{len(found)} differences from the truth: {found[:5]}")
    control = trial.cut_without_fsync()
    tell(control, "control", options)
    total = {
        "cuts": len(cuts),
        "archived": sum(cut.fresh for cut in cuts),
        "lost": sum(cut.lost for cut in cuts),
        "differences": len(found),
        "control_events": control.events,
        "control_lost": control.lost,
    }
    if options.json:
        print(json.dumps(total), flush=True)
    say(
        "{cuts} power cuts, {archived} events archived between them, {lost} lost; "
        "without fsync {control_lost} of {control_events} lost by one".format_map(total)
    )
    if not control.lost:
        say("without fsync nothing was lost either, so this has proved nothing")
    failed = found or any(cut.failures for cut in cuts) or not control.lost
    return 1 if failed else 0


def tell(cut: Cut, name: str, options: argparse.Namespace) -> None:
    """Print the result of a cut."""
    if options.json:
        print(json.dumps(cut.as_json()), flush=True)
    say(
        f"{name} (fsync={'on' if cut.fsync else 'off'}): {cut.events} events acknowledged, "
        f"{cut.fresh} of them since the last boot, {cut.claims} ranges claimed: {cut.lost} lost "
        f"(back after {cut.boot_seconds:.0f} s)"
    )
    for failure in cut.failures:
        say(f"  {failure}")


def say(line: str) -> None:
    """Print progress, with the seconds since the start, to stderr; stdout is for programs."""
    print(f"{time.monotonic() - BEGAN:7.1f} s  {line}", file=sys.stderr, flush=True)


BEGAN = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
