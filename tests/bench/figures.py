"""What was measured, the limit it is held against, and what was to be reached."""

import json
from collections.abc import Sequence
from statistics import median
from typing import Literal

from msgspec import Struct
from rich.table import Table
from typing_extensions import override


class Target(Struct, frozen=True):
    """What a figure, or its ratio to the limit, is to reach."""

    what: Literal["ratio", "value"]
    side: Literal["at least", "at most"]
    bound: float

    @override
    def __str__(self) -> str:
        """As the table shows it."""
        sign = "≥" if self.side == "at least" else "≤"
        return f"{'ratio ' if self.what == 'ratio' else ''}{sign} {self.bound:g}"


class Figure(Struct, frozen=True, kw_only=True):
    """One line of the table: what each run gave, and the limit found in the same run."""

    bench: str
    unit: str
    values: Sequence[float]
    limits: Sequence[float] = ()
    """As many as values; none when there is no limit but the target."""
    target: Target | None = None

    @property
    def value(self) -> float:
        """The median of the runs."""
        return median(self.values)

    @property
    def limit(self) -> float | None:
        """The median of the limits; the target itself when it is one of the value."""
        if self.limits:
            return median(self.limits)
        return self.target.bound if self.target else None

    @property
    def ratios(self) -> list[float]:
        """Of each run, the value by its own limit."""
        limits = self.limits or [self.limit or 0.0] * len(self.values)
        return [value / limit for value, limit in zip(self.values, limits, strict=True) if limit]

    @property
    def ratio(self) -> float | None:
        """The median of the runs' ratios."""
        return median(self.ratios) if self.ratios else None

    @property
    def holds(self) -> bool:
        """Whether the target was reached; a figure without one always holds."""
        if self.target is None:
            return True
        reached = self.ratio if self.target.what == "ratio" else self.value
        if reached is None:
            return False
        bound = self.target.bound
        return reached >= bound if self.target.side == "at least" else reached <= bound

    @override
    def __str__(self) -> str:
        """In a few words, for who waits for others."""
        told = f"{self.bench}: {_told(self.value)} {self.unit}"
        if self.ratio is not None:
            told += f", {_told(self.ratio)} of {_told(self.limit)}"
        return told if self.holds else f"{told} (wanted: {self.target})"

    def as_json(self) -> str:
        """One line of JSON."""
        fields = {
            "bench": self.bench,
            "value": _rounded(self.value),
            "unit": self.unit,
            "limit": _rounded(self.limit),
            "ratio": _rounded(self.ratio),
            "target": str(self.target) if self.target else None,
            "holds": self.holds,
        }
        return json.dumps(fields, ensure_ascii=False)


HEADERS = ("bench", "value", "", "unit", "limit", "ratio", "", "target", "holds")


def rows(figures: Sequence[Figure]) -> list[list[str]]:
    """The cells of the table, without its headers."""
    return [
        [
            one.bench,
            _told(one.value),
            _spread(one.values),
            one.unit,
            _told(one.limit),
            _told(one.ratio),
            _spread(one.ratios),
            str(one.target) if one.target else "",
            ("yes" if one.holds else "NO") if one.target else "",
        ]
        for one in figures
    ]


def table(figures: Sequence[Figure]) -> Table:
    """*figures* for a terminal."""
    shown = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for number, header in enumerate(HEADERS):
        shown.add_column(
            header, justify="left" if number in {0, 3, 7, 8} else "right", no_wrap=True
        )
    for row in rows(figures):
        shown.add_row(*row)
    return shown


def _told(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _spread(values: Sequence[float]) -> str:
    """Half of the way from the least to the most of several runs, as a share of their median."""
    if len(values) < 2:
        return ""
    return f"±{(max(values) - min(values)) / median(values) * 50:.0f}%"


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
