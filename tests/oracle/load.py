"""A big organization under load, with disconnections and a kill; the archive must match the truth.

``./run load`` starts everything, prints what happens and what was measured, and exits with 1 if the
archive differs from what the simulator says is true.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import psycopg

from archiver.embedded import run_server
from tests.oracle.programs import Daemon, Flowdock, migrate, wait_until
from tests.truth import by_flow, differences

ME = "1"


def main() -> int:
    """Run the trial that the command line asks for."""
    parser = argparse.ArgumentParser(prog="./run load", description=__doc__)
    parser.add_argument("--flows", type=int, default=200)
    parser.add_argument("--history", type=int, default=100_000, help="messages")
    parser.add_argument("--rate", type=int, default=500, help="events a second")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--disconnections", type=int, default=3)
    parser.add_argument("--kills", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="archiver-load-") as home:
        given = os.environ.get("ARCHIVER_TEST_DATABASE_URL")
        if given:
            return trial(options, Path(home), given)
        with run_server(Path(home, "postgres")) as server:
            return trial(options, Path(home), server.url)


def trial(options: argparse.Namespace, home: Path, database_url: str) -> int:
    """Run the traffic and the troubles, wait until the archive is complete, and compare."""
    say(f"{options.flows} flows, {options.history} messages, {options.rate} events/s")
    flowdock = Flowdock(
        home,
        *("--seed", str(options.seed), "--flows", str(options.flows)),
        *("--history", str(options.history), "--users", "50"),
    )
    settings = {
        "ARCHIVER_DATABASE_URL": database_url,
        "ARCHIVER_API_URL": flowdock.api_url,
        "ARCHIVER_STREAM_URL": flowdock.stream_url,
        "ARCHIVER_TOKEN": flowdock.token,
        "ARCHIVER_BACKFILL_REQUESTS_PER_SECOND": "200",
        "ARCHIVER_AUDIT_REQUESTS_PER_SECOND": "100",
    }
    migrate(home, settings)
    daemon = Daemon(home, settings)
    try:
        play(options, flowdock, daemon)
        say("traffic has ended")
        took = wait_until(lambda: is_settled(database_url, flowdock), seconds=900)
        say(f"archive complete after {took:.1f} s")
        return judge(flowdock, daemon, database_url)
    except Exception:
        for log in ("simulator.log", "archiver.log"):
            sys.stdout.write((home / log).read_text()[-5000:])
        raise
    finally:
        daemon.stop()
        flowdock.stop()


def play(options: argparse.Namespace, flowdock: Flowdock, daemon: Daemon) -> None:
    """Run live traffic, with the disconnections and kills spread evenly over it."""
    events = options.rate * options.seconds
    traffic = threading.Thread(
        target=flowdock.tell,
        args=["play"],
        kwargs={"seed": options.seed, "events": events, "rate": options.rate},
    )
    wait_until(lambda: flowdock.stats()["connections"] > 0, seconds=60)
    traffic.start()
    troubles = ["disconnect"] * options.disconnections + ["kill"] * options.kills
    for trouble in troubles:
        time.sleep(options.seconds / (len(troubles) + 1))
        if trouble == "kill":
            daemon.kill()
            say("daemon killed")
            daemon.start()
        else:
            flowdock.tell("faults", kind="refuse", seconds=3, name=f"refuse {time.monotonic()}")
            say("disconnected for 3 s")
    traffic.join()
    assert all(flowdock.fired().values()), "a fault did not fire"


def is_settled(database_url: str, flowdock: Flowdock) -> bool:
    """Tell whether each flow's newest message is proven and no gap or doubt is left."""
    with psycopg.connect(database_url) as connection:
        for view in ("gaps", "doubts"):
            if connection.execute(f"SELECT 1 FROM archive.{view} LIMIT 1").fetchone():
                return False
        proven: dict[str, int] = dict(
            connection.execute(
                "SELECT flow, max(to_id) FROM archive.coverage GROUP BY flow"
            ).fetchall()
        )
    return all(
        proven.get(flow, 0) >= max(record["id"] for record in records)
        for flow, records in by_flow(flowdock.truth(), ME).items()
    )


def judge(flowdock: Flowdock, daemon: Daemon, database_url: str) -> int:
    """Compare the archive with the truth and print the result; returns 1 if they differ."""
    found = differences(database_url, flowdock.truth())
    for line in found[:20]:
        say(line)
    with psycopg.connect(database_url) as connection:
        counts = connection.execute(
            "SELECT (SELECT count(*) FROM archive.messages), (SELECT count(*) FROM archive.events),"
            " (SELECT count(*) FROM archive.rejects)"
        ).fetchone()
    assert counts
    say(f"{counts[0]} messages, {counts[1]} events, {counts[2]} rejects archived")
    say(f"peak memory of the daemon: {daemon.measure() / 2**20:.0f} MiB")
    say("archive = truth" if not found else f"{len(found)} differences")
    return 1 if found else 0


def say(line: str) -> None:
    """Print *line* with the seconds since the start."""
    print(f"{time.monotonic() - BEGAN:7.1f} s  {line}", flush=True)


BEGAN = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
