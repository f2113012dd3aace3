"""What a check found, and how to fix it."""

from typing import Literal

from msgspec import Struct

Verdict = Literal["ok", "warning", "wrong"]


class Result(Struct, frozen=True, kw_only=True):
    """What was found about one subject."""

    subject: str
    verdict: Verdict
    told: str
    mend: str = ""
    """What to do about it; empty when there is nothing to do, or when *told* says it."""


def ok(subject: str, told: str) -> Result:
    """All is as it should be."""
    return Result(subject=subject, verdict="ok", told=told)


def warning(subject: str, told: str, mend: str) -> Result:
    """It works, but is not as it should be."""
    return Result(subject=subject, verdict="warning", told=told, mend=mend)


def wrong(subject: str, told: str, mend: str = "") -> Result:
    """It does not work."""
    return Result(subject=subject, verdict="wrong", told=told, mend=mend)
