"""Times in queries: an age, ``today``, ``yesterday``, or a year, a month, a day or a moment.

Each of them means a span of time: ``2024-05`` is all of May. Without a UTC offset, it is in the
reader's time zone. The zone is passed as a function, since its offset changes with the season.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

Localize: TypeAlias = Callable[[datetime], datetime]
"""Converts a time without a zone, as the reader's clock shows it, to one with a zone."""

UNITS = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "y": timedelta(days=365),
}
LONGEST_AGO = timedelta(days=365 * 100)
DAYS = {"today": 0, "yesterday": 1}
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
"""The bounds of `datetime` in UTC; they stand for times that lie beyond them."""

_AGO = re.compile(r"([0-9]{1,9})([mhdwy])")
_DATE = re.compile(r"([0-9]{4})(?:[-/]([0-9]{1,2})(?:[-/]([0-9]{1,2}))?)?")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[t ][0-9]{2}:[0-9]{2}.*")


@dataclass(frozen=True, slots=True)
class Ago:
    """The moment *age* before now."""

    age: timedelta


@dataclass(frozen=True, slots=True)
class DaysAgo:
    """The day *days* before today."""

    days: int


@dataclass(frozen=True, slots=True)
class Calendar:
    """A span that begins at *begin*: a year, a month, a day, or a moment."""

    begin: datetime
    """If it has no zone, it is in the reader's."""
    length: Literal["year", "month", "day", "moment"]


Moment: TypeAlias = Ago | DaysAgo | Calendar


def read_moment(text: str) -> Moment | None:
    """Parse *text*; None when it is not a time."""
    if text in DAYS:
        return DaysAgo(DAYS[text])
    if ago := _AGO.fullmatch(text):
        count, unit = int(ago[1]), UNITS[ago[2]]
        return Ago(count * unit) if count <= LONGEST_AGO / unit else None
    try:
        if found := _DATE.fullmatch(text):
            return _calendar(found[1], found[2], found[3])
        if _MOMENT.fullmatch(text):
            return Calendar(datetime.fromisoformat(text.upper()), "moment")
    except ValueError:
        return None
    return None


def is_day(moment: Moment) -> bool:
    """Tell whether *moment* is a day or longer, so that it can follow ``on:``."""
    match moment:
        case Ago():
            return False
        case DaysAgo():
            return True
        case Calendar(_, length):
            return length != "moment"


def _calendar(year: str, month: str | None, day: str | None) -> Calendar:
    begin = datetime(int(year), int(month or 1), int(day or 1))  # noqa: DTZ001  (the reader's)
    return Calendar(begin, "day" if day else "month" if month else "year")


def span(moment: Moment, *, now: datetime, localize: Localize) -> tuple[datetime, datetime]:
    """The first moment of the span, and the first one after it; *now* is in the reader's zone."""
    match moment:
        case Ago(age):
            at = now.astimezone(UTC) - age
            return at, at
        case DaysAgo(days):
            midnight = now.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
            begin = midnight - timedelta(days=days)
            return localize(begin), localize(begin + timedelta(days=1))
        case Calendar(begin, length):
            return _aware(begin, localize), _end(begin, length, localize)


def _end(begin: datetime, length: str, localize: Localize) -> datetime:
    try:
        match length:
            case "year":
                end = begin.replace(year=begin.year + 1)
            case "month":
                end = (begin + timedelta(days=31)).replace(day=1)
            case "day":
                end = begin + timedelta(days=1)
            case _:
                end = begin
    except (OverflowError, ValueError):
        return LAST
    return _aware(end, localize)


def _aware(at: datetime, localize: Localize) -> datetime:
    """*at* in UTC; `FIRST` or `LAST` if it lies beyond them."""
    try:
        return (localize(at) if at.tzinfo is None else at).astimezone(UTC)
    except (OverflowError, ValueError):
        return FIRST if at.year == FIRST.year else LAST
