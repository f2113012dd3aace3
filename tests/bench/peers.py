"""Peers: the same events, with the same merging, through what others would use.

``dlt`` loads them by merging on primary keys; a plain script takes event after event, each with an
INSERT ... ON CONFLICT and a commit. Both keep less than the archiver does: no proof of what is
complete, no history of edits. The limit is the faster of the two.
"""

import subprocess
import sys
from collections.abc import Iterator

from tests.bench import traffic
from tests.bench.figures import Figure, Target
from tests.bench.ingest import FLOWS, ingest
from tests.bench.lab import Feeder, Lab
from tests.bench.options import Options
from tests.oracle.programs import ROOT


def run(lab: Lab, options: Options) -> Iterator[Figure]:
    """Yield the rate of each peer, and that of the archiver against the faster."""
    # The script takes each event by itself, so of fewer it tells as much.
    counts = {
        "script": options.amount(5_000, quick=1_000),
        "dlt": options.amount(20_000, quick=3_000),
    }
    many = options.amount(200_000, quick=3_000)
    ours: list[float] = []
    theirs: dict[str, list[float]] = {peer: [] for peer in counts}
    with lab.feeder() as feeder:
        for _ in range(options.runs(2)):
            for peer, events in counts.items():
                feeder.scene(events=max(counts.values()), flows=FLOWS)
                theirs[peer].append(events / peers_seconds(lab, feeder, peer, events))
            with lab.archive() as archive:
                ours.append(many / ingest(lab, archive, feeder, events=many).seconds)
    for peer, rates in theirs.items():
        yield Figure(bench=f"peer, {peer}", unit="events/s", values=rates)
    yield Figure(
        bench="ingest by peers",
        unit="events/s",
        values=ours,
        limits=[max(both) for both in zip(*theirs.values(), strict=True)],
        target=Target("ratio", "at least", 10.0),
    )


def peers_seconds(lab: Lab, feeder: Feeder, peer: str, events: int) -> float:
    """Let a peer archive the feeder's scene; returns the seconds it took, its start left out."""
    everything = ",".join(traffic.path_of(flow) for flow in range(FLOWS))
    with lab.database() as url:
        command = [sys.executable, "-m", f"tests.bench.peer_{peer}"]
        command += [f"{feeder.url}/flows?filter={everything}", url, str(events)]
        if peer == "dlt":
            command.append(str(lab.home / f"dlt-{url.rpartition('_')[2].partition('?')[0]}"))
        feeder.go(rate=0)
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        if done.returncode != 0:
            raise AssertionError(f"{peer} failed: {done.stderr[-2000:]}")
        return float(done.stdout.splitlines()[-1])
