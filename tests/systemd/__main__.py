"""Test the service under a real systemd: install by deploy/README.md, break, upgrade, reboot it.

``./run systemd`` makes a fresh Debian (or Ubuntu) in a container, whose only network is loopback,
and types the blocks of deploy/README.md into it word for word. There, the service archives a
simulated Flowdock under traffic. It is killed, frozen until the watchdog notices, reloaded, split
into two processes of which one is killed, stopped, upgraded to a release with another schema,
rebooted, downgraded, and its database is restored to an earlier moment. At the end, the archive
must match the simulator's truth.

It needs root, and some packages of Debian; it says which are missing. The first run fetches a
system and packages, and keeps them in the cache directory. ``--suite noble``, of Ubuntu, needs its
keys on Debian: the packages ubuntu-archive-keyring and distro-info-data.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from tests.systemd import image
from tests.systemd.findings import say
from tests.systemd.needs import NotInstalled, require_tools
from tests.systemd.subject import Subject
from tests.systemd.trial import live

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "flowdock-archiver")


def main() -> int:
    """Make the system, and test the service in it, in a network namespace of its own."""
    parser = argparse.ArgumentParser(
        prog="./run systemd",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--suite", default="bookworm", help="of Debian or Ubuntu: bookworm, trixie")
    parser.add_argument("--history", type=int, default=20_000, help="messages there already")
    parser.add_argument("--rate", type=float, default=10.0, help="events a second")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where systems are kept")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    # On SIGTERM, too, no container may be left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        require_tools()
    except NotInstalled as error:
        print(error, file=sys.stderr)
        return 2
    if not options.inside:
        say(f"a system of {options.suite}")
        image.make(options.suite, options.cache)
        again = [sys.executable, "-m", "tests.systemd", "--inside", *sys.argv[1:]]
        network = 'ip link set lo up && exec "$@"'
        os.execvp("unshare", ["unshare", "--net", "sh", "-c", network, "sh", *again])
    system = image.make(options.suite, options.cache)
    with tempfile.TemporaryDirectory(prefix="archiver-systemd-") as home:
        it = Subject(system, Path(home), history=options.history)
        try:
            live(it, rate=options.rate)
        except Exception:
            sys.stderr.write(it.last_words())
            raise
        finally:
            it.close()
    if options.json:
        print(json.dumps({"figures": it.found.figures, "failed": it.found.failed}))
    return 1 if it.found.failed else 0


if __name__ == "__main__":
    sys.exit(main())
