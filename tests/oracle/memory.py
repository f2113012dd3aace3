"""How much memory the daemon held, over its lives, and whether that grows.

What it takes to fill caches and pools is no growth, nor is what the largest of all events leaves
behind. So judged is a part of its last life in which neither happens.
"""

import statistics
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

ALLOWED_BYTES = 16 * 2**20
ALLOWED_SHARE = 0.15
FEW = 20
"""Fewer samples tell nothing."""


class Sample(Struct, frozen=True, kw_only=True):
    """What the daemon held at one moment of its *life*, counted from 1."""

    life: int
    hour: float
    bytes: int


@dataclass(slots=True)
class Memory:
    """What was seen of the daemon's memory."""

    judged_from: float = 0.0
    """The hour from which on it should hold no more than before."""
    samples: list[Sample] = field(default_factory=list)

    @property
    def judged(self) -> list[Sample]:
        """What counts: the last life, from that hour on."""
        return [
            one
            for one in self.samples
            if one.hour >= self.judged_from and one.life == self.samples[-1].life
        ]

    @property
    def slope(self) -> float:
        """Bytes by which it grows in a simulated hour, 0 when unknown."""
        if len(self.judged) < FEW:
            return 0.0
        hours = [one.hour for one in self.judged]
        return statistics.linear_regression(hours, [one.bytes for one in self.judged]).slope

    @property
    def ends(self) -> tuple[float, float]:
        """The median of the first quarter of what counts, and that of the last."""
        held = [one.bytes for one in self.judged]
        quarter = len(held) // 4
        if not quarter:
            return 0.0, 0.0
        return statistics.median(held[:quarter]), statistics.median(held[-quarter:])

    @property
    def grows(self) -> bool:
        """Tell whether it holds noticeably more in the end than before."""
        first, last = self.ends
        enough = len(self.judged) >= FEW
        return enough and last - first > max(ALLOWED_BYTES, first * ALLOWED_SHARE)

    def describe(self) -> str:
        """It all, in a line."""
        first, last = self.ends
        hours = self.judged[-1].hour - self.judged[0].hour if self.judged else 0.0
        return (
            f"{first / 2**20:.1f} → {last / 2**20:.1f} MiB in {hours:.1f} simulated hours, "
            f"{self.slope / 2**20:+.2f} MiB an hour; "
            f"{self.peak / 2**20:.1f} MiB at most"
        )

    @property
    def peak(self) -> int:
        """The most that was seen."""
        return max((one.bytes for one in self.samples), default=0)

    def as_json(self) -> dict[str, Any]:
        """It all, with a sample of each tenth of an hour."""
        first, last = self.ends
        seen = {round(one.hour, 1): one for one in self.samples}
        return {
            "first_bytes": first,
            "last_bytes": last,
            "bytes_an_hour": self.slope,
            "peak_bytes": self.peak,
            "grows": self.grows,
            "samples": [
                {"hour": hour, "life": one.life, "bytes": one.bytes} for hour, one in seen.items()
            ],
        }
