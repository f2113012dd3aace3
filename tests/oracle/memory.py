"""How much memory the daemon held, from start to start, and whether it grows.

Filling caches and pools does not count as growth, nor does what the largest event leaves behind. So
only a part of the daemon's last life is judged, in which neither happens.
"""

import statistics
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

ALLOWED_BYTES = 16 * 2**20
ALLOWED_SHARE = 0.15
FEW = 20
"""The minimum number of samples: fewer tell nothing."""


class Sample(Struct, frozen=True, kw_only=True):
    """The daemon's memory at one moment; *life* counts its starts, from 1."""

    life: int
    hour: float
    bytes: int


@dataclass(slots=True)
class Memory:
    """All samples of the daemon's memory."""

    judged_from: float = 0.0
    """The hour from which on memory should no longer grow."""
    samples: list[Sample] = field(default_factory=list)

    @property
    def judged(self) -> list[Sample]:
        """The samples that count: those of the last life, from that hour on."""
        return [
            one
            for one in self.samples
            if one.hour >= self.judged_from and one.life == self.samples[-1].life
        ]

    @property
    def slope(self) -> float:
        """Bytes of growth per simulated hour; 0 when there are too few samples."""
        if len(self.judged) < FEW:
            return 0.0
        hours = [one.hour for one in self.judged]
        return statistics.linear_regression(hours, [one.bytes for one in self.judged]).slope

    @property
    def ends(self) -> tuple[float, float]:
        """The medians of the first and of the last quarter of the samples that count."""
        held = [one.bytes for one in self.judged]
        quarter = len(held) // 4
        if not quarter:
            return 0.0, 0.0
        return statistics.median(held[:quarter]), statistics.median(held[-quarter:])

    @property
    def grows(self) -> bool:
        """Tell whether memory is noticeably larger at the end than at the beginning."""
        first, last = self.ends
        enough = len(self.judged) >= FEW
        return enough and last - first > max(ALLOWED_BYTES, first * ALLOWED_SHARE)

    def describe(self) -> str:
        """Summarize the growth in a line."""
        first, last = self.ends
        hours = self.judged[-1].hour - self.judged[0].hour if self.judged else 0.0
        return (
            f"{first / 2**20:.1f} → {last / 2**20:.1f} MiB in {hours:.1f} simulated hours, "
            f"{self.slope / 2**20:+.2f} MiB an hour; "
            f"{self.peak / 2**20:.1f} MiB at most"
        )

    @property
    def peak(self) -> int:
        """The largest sample."""
        return max((one.bytes for one in self.samples), default=0)

    def as_json(self) -> dict[str, Any]:
        """All figures, with one sample for each tenth of an hour."""
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
