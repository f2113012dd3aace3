"""Several daemons, a standby, and a pooler: whatever fails, the archive must match the truth.

``./run failover`` starts real servers and daemons against a simulated Flowdock under load, and
measures. *takeover*: two daemons share the flows; when one is killed, stalled or stopped, the other
takes over within 30 s. *standby*: the primary is killed and its standby promoted, once with
synchronous replication, which loses nothing, and once without. *pooler*: everything goes through
PgBouncer in transaction mode. At no time may the archive claim what it does not hold.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

from tests.failover.needs import NotInstalled, program
from tests.failover.pooler import pool
from tests.failover.scene import say
from tests.failover.standby import promote
from tests.failover.takeover import take_over
from tests.oracle.postgres import Postgres, run_postgres

Part = Callable[[Path, Postgres], Awaitable[None]]


def main() -> int:
    """Run the trials that the command line asks for."""
    parts = ("takeover", "standby", "pooler")
    parser = argparse.ArgumentParser(
        prog="./run failover",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", nargs="*", help=f"of {', '.join(parts)}; all unless given")
    parser.add_argument("--rate", type=float, default=40.0, help="events a second")
    options = parser.parse_args()
    chosen = options.part or list(parts)
    if unknown := set(chosen) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    try:
        program("unshare", package="util-linux")
        if "pooler" in chosen:
            program("pgbouncer", package="pgbouncer")
    except NotInstalled as error:
        print(error, file=sys.stderr)
        return 2
    return asyncio.run(run(chosen, rate=options.rate))


async def run(chosen: list[str], *, rate: float) -> int:
    """Run the trials, one after the other; returns the exit status."""
    failed = []
    with tempfile.TemporaryDirectory(prefix="archiver-failover-") as path:
        home = Path(path)
        async with run_postgres() as (postgres, _):
            trials: Mapping[str, list[Callable[[], Awaitable[None]]]] = {
                "takeover": [partial(take_over, home / "takeover", postgres, rate=rate)],
                "standby": [
                    partial(promote, home / "sync", rate=rate, is_synchronous=True),
                    partial(promote, home / "async", rate=rate, is_synchronous=False),
                ],
                "pooler": [partial(pool, home / "pooler", postgres, rate=rate)],
            }
            for name in chosen:
                for trial in trials[name]:
                    say(f"--- {name}")
                    try:
                        await trial()
                    except (AssertionError, TimeoutError) as error:
                        say(f"FAILED: {error!r}")
                        failed.append(name)
    say(f"failed: {', '.join(failed)}" if failed else "all as it should be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
