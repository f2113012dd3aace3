"""Counts, shares, sizes and durations for people."""

import math
from collections.abc import Mapping, Sequence

from archiver.cli.tables import counted
from archiver.cli.terminal import make_safe
from archiver.store.files import Counts, MessageFile, Missing
from archiver.store.missing import UNTOLD
from archiver.store.reading import Count

COMPLETE = "100%"
NAMED = 10
"""How many flows are named where there are many."""
SILENCE = (
    "no daemon is reporting: nothing is captured, and what is missed counts as a gap only once one "
    "runs; start it with: archiver run"
)

EXCLUDED = "the settings exclude it (flows, private)"
FILES_OFF = "no files are fetched: files.enabled is off"


def format_count(count: Count) -> str:
    """A count; an estimate has two significant digits and the mark ``~``."""
    return f"{count.rows:,}" if count.exact else f"~{int(float(f'{count.rows:.2g}')):,}"


def format_share(share: float | None) -> str:
    """A share, rounded down so that only what is complete reads 100%."""
    if share is None:
        return "?"
    return COMPLETE if share == 1 else f"{math.floor(share * 10_000) / 100:.2f}%"


def format_seconds(seconds: float) -> str:
    """A duration in its two largest units."""
    left = max(0, int(seconds))
    told: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number or told:
            told.append(f"{number}{unit}")
    return " ".join(told[:2]) or "0s"


def format_bytes(size: float) -> str:
    """A size to three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def describe_files(counts: Counts) -> str:
    """How many files are kept, and how many are not."""
    left = f" ({counts.missing:,} not)" if counts.missing else ""
    return f"{counted(counts.kept, 'file')} kept{left}"


def why_not_kept(one: Missing | MessageFile) -> str:
    """Why a file is not in the archive."""
    if one.path is None:
        return "the message does not say where it is"
    return one.last_error or (
        "the archiver does not request it" if one.attempts is None else "not requested yet"
    )


def describe_not_told(flow: str, reason: str) -> str:
    """That nobody knows what is new in a flow, and why."""
    return make_safe(f"{flow}: {UNTOLD}: {reason}")


def describe_not_measured(flow: str, reason: str) -> str:
    """That it is not known how far the ids of a flow go, and why."""
    return make_safe(f"{flow}: not measured yet: {reason}")


def describe_excluded(flow: str) -> str:
    """That the settings leave a flow out."""
    return make_safe(f"{flow}: {EXCLUDED}, so nothing is requested from it")


def describe_not_read(flow: str, reason: str) -> str:
    """That the gaps of a flow stay, and why."""
    return make_safe(f"{flow}: {reason}, so nothing is requested from it")


def describe_not_heard(flows: Sequence[str]) -> str:
    """That no stream of some flows is open."""
    named = ", ".join(flows[:NAMED])
    more = f" and {len(flows) - NAMED:,} more" if len(flows) > NAMED else ""
    return make_safe(f"no stream is open, so edits are missed: {named}{more}")


def flows_and_reasons(reasons: Mapping[str, str]) -> list[dict[str, str]]:
    """The *reasons* by flow, as JSON has them."""
    return [{"flow": flow, "reason": reason} for flow, reason in reasons.items()]
