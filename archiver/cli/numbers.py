"""Types of options and arguments that are numbers, with plain error messages."""

import math
from typing import Any

import click
from typing_extensions import override

LARGEST = 2**63 - 1
"""The largest integer of Postgres (bigint)."""


class Whole(click.IntRange):
    """A whole number, with both bounds or none."""

    name = "number"

    @override
    def _describe_range(self) -> str:
        # Without bounds, click would show a range all the same; and `LARGEST` would help nobody.
        if self.min is None:
            return ""
        return f"x>={self.min}" if self.max == LARGEST else super()._describe_range()

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is not a whole number{_bounds(self)}", param, ctx)


class Number(click.FloatRange):
    """Any number, with both bounds or none."""

    name = "number"

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            found = super().convert(value, param, ctx)
        except click.BadParameter:
            found = math.nan
        if math.isnan(found):  # NaN passes every check of a range
            self.fail(f"{value!r} is not a number{_bounds(self)}", param, ctx)
        return found


def _bounds(wanted: Whole | Number) -> str:
    return "" if wanted.min is None else f" from {wanted.min} to {wanted.max}"
