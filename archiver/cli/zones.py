"""The clock of whoever reads: a time zone as people name it."""

from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

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
    """The moment that *at* names on the clock of *zone*, or of this machine."""
    return at.astimezone() if zone is None else at.replace(tzinfo=zone)
