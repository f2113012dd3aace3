"""``archiver`` with a wall clock that jumps: by the seconds that the file JUDGE_CLOCK holds."""

import os
from datetime import datetime, timedelta
from pathlib import Path

from archiver import daemon
from archiver.cli.main import main

TRUE_TIME = daemon.utc_now
FILE = Path(os.environ["JUDGE_CLOCK"])


def jumped() -> datetime:
    """The time that it is here."""
    return TRUE_TIME() + timedelta(seconds=float(FILE.read_text() or 0))


if __name__ == "__main__":
    daemon.utc_now = jumped
    main()
