"""What a trial found: claims that held or did not, and figures."""

import sys
import time

TOLD = 2000
"""Of what explains a failure, so many characters."""


class Findings:
    """All that was found; told as it comes."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.failed: list[str] = []

    def claim(self, told: str, holds: bool, why: str = "") -> None:
        """Say whether what is *told* holds; else remember it, and say *why*."""
        say(f"{'ok    ' if holds else 'FAILED'} {told}")
        if not holds:
            self.failed.append(told)
            say(f"       {why[-TOLD:]}")

    def figure(self, name: str, value: float) -> None:
        """Say and remember a figure."""
        self.figures[name] = round(value, 2)
        say(f"       {name} = {round(value, 2):g}")


def say(line: str) -> None:
    """Tell how it goes on, with the seconds since the start; programs read the other stream."""
    print(f"{time.monotonic() - BEGAN:7.1f} s  {line}", file=sys.stderr, flush=True)


BEGAN = time.monotonic()
