"""Do the clocks agree? The times of events come from several."""

from datetime import datetime, timedelta

from archiver.cli.checks.result import Result, ok, warning, wrong

SLIGHT = timedelta(seconds=3)
"""Allowed, since the header Date has whole seconds, and an answer takes a while."""
GRAVE = timedelta(seconds=60)


def check_clock(whose: str, told: datetime, began: datetime, ended: datetime) -> Result:
    """Compare the time *told*, which was read between *began* and *ended*, with our own."""
    ahead = told - ended if told > ended else min(told - began, timedelta())
    if abs(ahead) <= SLIGHT:
        return ok("clock", f"agrees with that of {whose}")
    way = "ahead of" if ahead < timedelta() else "behind"
    about = f"this machine's is {abs(ahead).total_seconds():,.0f} s {way} that of {whose}"
    mend = "synchronize the clocks by NTP (timedatectl set-ntp true)"
    return (wrong if abs(ahead) > GRAVE else warning)("clock", about, mend)
