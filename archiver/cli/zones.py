"""The clock of whoever reads: a time zone as people name it."""

from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import click
from typing_extensions import override


class Zone(click.ParamType[tzinfo]):
    """The name of a time zone, as Europe/Helsinki."""

    name = "zone"

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tzinfo:
        if isinstance(value, tzinfo):
            return value
        if str(value).upper() == "UTC":
            return UTC
        try:
            return ZoneInfo(str(value))
        except (ValueError, KeyError, OSError):
            if not available_timezones():
                self.fail("this machine knows no time zones but UTC: install its package tzdata")
            self.fail(f"no time zone is named {value!r}; a name is like Europe/Helsinki")


def on_clock(at: datetime, zone: tzinfo | None) -> datetime:
    """The moment *at* on the clock of *zone*; on that of this machine, if none is given.

    Where a clock does not go so far, as in the year 9999, as it is.
    """
    try:
        return at.astimezone(zone)
    except (OverflowError, ValueError):  # the latter from the clock of the machine
        return at


def localize(at: datetime, zone: tzinfo | None) -> datetime:
    """The moment that *at* names on the clock of *zone*, or of this machine.

    An hour that a clock leaves out is told by the clock as it was before; so a day that begins with
    one begins when the clock is put forward.
    """
    if zone is not None:
        return at.replace(tzinfo=zone)
    # astimezone() would take the offset of after, and come to an hour before. To the microsecond,
    # as whole seconds are exact.
    seconds = at.replace(microsecond=0).timestamp()
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=at.microsecond)
