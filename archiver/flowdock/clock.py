"""The time by a host's clock, and a stopwatch that is independent of our clock."""

import time
from collections.abc import Mapping
from datetime import MAXYEAR, UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp

PATIENCE = aiohttp.ClientTimeout(total=10.0)


async def host_time(session: aiohttp.ClientSession, url: str) -> datetime | None:
    """The header Date of the answer to a request without credentials; None when it has none.

    Raises:
        aiohttp.ClientError, TimeoutError: there was no answer.
    """
    async with session.get(url, timeout=PATIENCE, allow_redirects=False) as answer:
        return made_at(answer.headers)


def since_boot() -> float:
    """Seconds since this machine was started, including sleep where the system counts it.

    Setting the clock does not affect them.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def read_date(value: str) -> datetime | None:
    """Return the time in a header (RFC 9110, 5.6.7); None when it is not a time."""
    try:
        date = parsedate_to_datetime(value)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def made_at(headers: Mapping[str, str]) -> datetime | None:
    """Return when an answer was made, by its sender's clock; None when it does not say.

    A date in the last year that `datetime` can represent is ignored: nothing can be added to it.
    """
    date = read_date(headers.get("Date", ""))
    return None if date is None or date.year == MAXYEAR else date
