"""Times as people give them: so long ago, or a date."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from typing_extensions import override

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Moment(click.ParamType[datetime]):
    """``30d``, ``2w``, ``12h`` or ``90m`` ago; or a date, or a date and time; UTC unless told.

    What is yet to come is refused: of nothing, anything can be proven.
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
            self.fail(f"{value!r} is yet to come")
        return at


def parse(text: str, *, now: datetime) -> datetime:
    """The moment that *text* names, in UTC.

    Raises:
        ValueError, OverflowError: it names none, or one that UTC has no year for.
    """
    if ago := re.fullmatch(r"(\d+)([mhdw])", text.strip()):
        return now - timedelta(**{UNITS[ago[2]]: int(ago[1])})
    at = datetime.fromisoformat(text.strip())
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def refusal(text: str) -> str:
    """What is told of *text* that names no moment."""
    return f"{text!r} is neither like 30d, 2w, 12h nor a date like 2024-05-31"
