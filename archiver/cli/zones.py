"""The time zone of the reader, as people name it."""

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
                self.fail("this machine has no time zones but UTC: install the package tzdata")
            self.fail(f"there is no time zone {value!r}; use a name such as Europe/Helsinki")


def on_clock(at: datetime, zone: tzinfo | None) -> datetime:
    """The moment *at* in *zone*, or in the time zone of this machine if none is given.

    A time that the zone cannot express, as at the end of the year 9999, is returned as it is.
    """
    try:
        return at.astimezone(zone)
    except (OverflowError, ValueError):  # the latter from the machine's time zone
        return at


def localize(at: datetime, zone: tzinfo | None) -> datetime:
    """The moment that the local time *at* means in *zone*, or in this machine's time zone.

    A time that does not exist, since clocks were put forward, has the offset from before the
    change. So a day that begins with such an hour begins when clocks are put forward.
    """
    if zone is not None:
        return at.replace(tzinfo=zone)
    # astimezone() would use the offset from after the change, and be an hour early. Microseconds
    # are put back afterwards, since only whole seconds are exact as a float.
    seconds = at.replace(microsecond=0).timestamp()
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=at.microsecond)
