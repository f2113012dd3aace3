"""Import history from official exports, then follow live streams; the archive must be the truth.

``./run history`` has the simulator write official exports of its world and imports them; the import
is killed in the middle and repeated. Then the daemon joins while people go on talking. The exit
status is 1 if the archive then differs from what the simulator says is true.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from archiver.embedded import run_server
from tests.oracle.load import is_settled, judge, say
from tests.oracle.programs import PROGRAM, ROOT, Daemon, Flowdock, migrate, surroundings, wait_until


def main() -> int:
    """Run the trial that the command line asks for."""
    parser = argparse.ArgumentParser(prog="./run history", description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--flows", type=int, default=10)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--live", type=int, default=500, help="events that happen meanwhile")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="archiver-history-") as home:
        given = os.environ.get("ARCHIVER_TEST_DATABASE_URL")
        if given:
            return trial(options, Path(home), given)
        with run_server(Path(home, "postgres")) as server:
            return trial(options, Path(home), server.url)


def trial(options: argparse.Namespace, home: Path, database_url: str) -> int:
    """Import with interruptions, run the daemon, then compare the archive with the truth."""
    world = [
        *("--seed", str(options.seed), "--flows", str(options.flows)),
        *("--history", str(options.messages), "--users", "50"),
    ]
    exports = home / "exports"
    subprocess.run([*PROGRAM, "simulate", "--export", str(exports), *world], check=True, cwd=ROOT)
    settings = {"ARCHIVER_DATABASE_URL": database_url}
    migrate(home, settings)
    import_in_pieces(exports, settings, options, database_url)
    flowdock = Flowdock(home, *world)
    settings |= {
        "ARCHIVER_API_URL": flowdock.api_url,
        "ARCHIVER_STREAM_URL": flowdock.stream_url,
        "ARCHIVER_TOKEN": flowdock.token,
        "ARCHIVER_BACKFILL_REQUESTS_PER_SECOND": "200",
        "ARCHIVER_AUDIT_REQUESTS_PER_SECOND": "200",
    }
    daemon = Daemon(home, settings)
    try:
        wait_until(lambda: flowdock.stats()["connections"] > 0, seconds=120)
        flowdock.tell("play", seed=options.seed + 1, events=options.live, rate=50)
        took = wait_until(lambda: is_settled(database_url, flowdock), seconds=1800)
        say(f"archive complete after {took:.1f} s")
        return judge(flowdock, daemon, database_url)
    finally:
        daemon.stop()
        flowdock.stop()


def import_in_pieces(
    exports: Path, settings: dict[str, str], options: argparse.Namespace, database_url: str
) -> None:
    """Import the exports; every run but the last is killed when it has done its share."""
    command = [*PROGRAM, "import", str(exports), "--users", str(exports / "users.json"), "--json"]
    counted = "SELECT count(*) FROM store.journal"
    with psycopg.connect(database_url, autocommit=True) as db:
        for number in range(options.kills):
            enough = options.messages * (number + 1) // (options.kills + 2)
            process = subprocess.Popen(command, env=surroundings(settings), cwd=ROOT)
            while (db.execute(counted).fetchone() or (0,))[0] < enough:
                assert process.poll() is None, "the import was done before it could be killed"
                time.sleep(0.05)
            process.kill()
            process.wait()
            say(f"import killed at {(db.execute(counted).fetchone() or (0,))[0]:,} messages")
        told = subprocess.run(
            command, env=surroundings(settings), cwd=ROOT, check=True, capture_output=True
        )
        report = json.loads(told.stdout)
        say(f"{report['taken']:,} taken, {report['known']:,} known, {report['seconds']:.0f} s")
        assert report["known"] > 0
        assert report["taken"] + report["known"] == report["read"]
        assert report["rejected"] == 0
        (claims,) = db.execute("SELECT count(*) FROM archive.coverage").fetchone() or (None,)
        assert claims == 0, "an import proved something"


if __name__ == "__main__":
    sys.exit(main())
