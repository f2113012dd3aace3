"""Many flows: two thousand of them over their connections, one event a second in each.

What counts is the share of a core that the daemon takes; the feeder's own share says what it takes
to say so much.
"""

from collections.abc import Iterator
from time import monotonic, sleep

from tests.bench.figures import Figure, Target
from tests.bench.lab import Lab
from tests.bench.options import Options
from tests.bench.processes import cpu_seconds

FLOWS = 2000


def run(lab: Lab, options: Options) -> Iterator[Figure]:
    """Yield the processor and the memory that the daemon takes."""
    flows = options.amount(FLOWS, quick=500)
    seconds = options.amount(60, quick=5)
    first_seconds = options.amount(5, quick=2)
    with lab.feeder() as feeder, lab.archive() as archive:
        feeder.scene(events=flows * (seconds + first_seconds + 5), flows=flows)
        with lab.daemon(archive, feeder) as daemon:
            feeder.wait_until_followed()
            feeder.go(rate=flows)
            sleep(first_seconds)
            began = monotonic()
            before = cpu_seconds(daemon.process.pid), cpu_seconds(feeder.process.pid)
            sleep(seconds)
            took = monotonic() - began
            after = cpu_seconds(daemon.process.pid), cpu_seconds(feeder.process.pid)
            peak = daemon.measure()
    ours, feeders = ((end - start) / took * 100 for start, end in zip(before, after, strict=True))
    yield Figure(
        bench=f"many flows ({flows}), CPU",
        unit="% of a core",
        values=[ours],
        limits=[feeders],
        target=Target("value", "at most", 50.0),
    )
    yield Figure(
        bench=f"many flows ({flows}), RAM",
        unit="MB",
        values=[peak / 1e6],
        target=Target("value", "at most", 250.0),
    )
