"""Times as people write them: how long ago, or a date."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from typing_extensions import override

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Moment(click.ParamType[datetime]):
    """``30d``, ``2w``, ``12h`` or ``90m`` ago, a date, or a date and time; UTC by default.

    A time in the future is refused: it selects no messages, and a check of none always succeeds.
    """

    name = "when"

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        now = datetime.now(UTC)
        try:
            at = parse(str(value), now=now)
        except (ValueError, OverflowError):
            self.fail(refusal(str(value)))
        if at > now:
            self.fail(f"{value!r} is in the future")
        return at


def parse(text: str, *, now: datetime) -> datetime:
    """The moment that *text* names, in UTC.

    Raises:
        ValueError, OverflowError: it names none, or one whose year in UTC is out of range.
    """
    if ago := re.fullmatch(r"(\d+)([mhdw])", text.strip()):
        return now - timedelta(**{UNITS[ago[2]]: int(ago[1])})
    at = datetime.fromisoformat(text.strip())
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def refusal(text: str) -> str:
    """What to say of a *text* that names no moment."""
    return f"{text!r} is neither a time such as 30d, 2w or 12h nor a date such as 2024-05-31"
