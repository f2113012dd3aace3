"""The findings of a trial: claims that held or did not, and figures."""

import sys
import time

TOLD = 2000
"""How many characters of the reason for a failure are printed."""


class Findings:
    """All findings, which are printed as they come."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.failed: list[str] = []

    def claim(self, told: str, holds: bool, why: str = "") -> None:
        """Print whether the claim *told* holds; if not, remember it and print *why*."""
        say(f"{'ok    ' if holds else 'FAILED'} {told}")
        if not holds:
            self.failed.append(told)
            say(f"       {why[-TOLD:]}")

    def figure(self, name: str, value: float) -> None:
        """Print and remember a figure."""
        self.figures[name] = round(value, 2)
        say(f"       {name} = {round(value, 2):g}")


def say(line: str) -> None:
    """Print progress, with the seconds since the start, to stderr; stdout is for programs."""
    print(f"{time.monotonic() - BEGAN:7.1f} s  {line}", file=sys.stderr, flush=True)


BEGAN = time.monotonic()
