"""What a verification found, for people and for programs."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from archiver.cli.measures import EXCLUDED
from archiver.cli.tables import Column, clipped, counted, first_of, show_table
from archiver.cli.terminal import make_safe
from archiver.domain.coverage import Ranges
from archiver.ingest.looks import Difference, Look

COLUMNS = (
    Column("flow"),
    Column("listed", is_number=True),
    Column("pages", is_number=True),
    Column("not held", is_number=True),
    Column("changed", is_number=True),
    Column("vanished", is_number=True),
    Column("two witnesses", is_number=True),
    Column("certain", is_short=True),
)
TOLD_DIFFERENCES = 20
TOLD_DOUBTS = 5
"""For each flow."""
TOLD_LETTERS = 60
MORE = "more differences: --json has them all"
TOLD_EXCLUDED = 20
UNREADABLE = "no account can read this flow now; leave it out with --flow '!{}'"


@dataclass(slots=True)
class Findings:
    """What was found, by flow."""

    looks: dict[str, Look] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    """Flows that should be verified, but that no account can read now."""
    locked_out: dict[str, str] = field(default_factory=dict)
    """By account whose token was refused: where the token comes from."""
    excluded: list[str] = field(default_factory=list)
    """Flows of the archive that are not verified, since the settings exclude them."""
    vain: list[str] = field(default_factory=list)
    """Those of them that were asked for by a pattern that chooses nothing else."""

    @property
    def is_doubtful(self) -> bool:
        """Tell whether doubt remains."""
        return bool(self.locked_out or self.doubtful_flows)

    @property
    def doubtful_flows(self) -> int:
        """In how many flows doubt remains."""
        doubtful = sum(look.is_doubtful for look in self.looks.values())
        return len(self.unreadable) + len(self.vain) + doubtful


def describe(found: Findings) -> None:
    """Print what was found in each flow, and the conclusion."""
    looks = found.looks
    if looks:
        show_table(COLUMNS, [_cells(flow, look) for flow, look in sorted(looks.items())])
    for line in first_of(_all_differences(looks), TOLD_DIFFERENCES, more=MORE):
        click.echo(line)
    for flow, look in sorted(looks.items()):
        for doubt in first_of(list(_doubts(look)), TOLD_DOUBTS, more="more doubts"):
            click.echo(f"{make_safe(flow)}: {make_safe(doubt)}")
    for flow in found.unreadable:
        click.echo(f"{make_safe(flow)}: {UNREADABLE.format(make_safe(flow))}")
    lines = [
        make_safe(f"{flow}: {EXCLUDED}, so nothing of it was compared") for flow in found.excluded
    ]
    for line in first_of(lines, TOLD_EXCLUDED, more="more excluded flows: --json has them all"):
        click.echo(line)
    click.echo(_conclusion(found))


def interim_findings(looks: Mapping[str, Look]) -> Iterator[str]:
    """What an interrupted verification found: the next one does not find what this one repaired.

    Changes that streams reported meanwhile are not differences, but may still be among these.
    """
    lines = _all_differences(looks)
    yield from first_of(lines, TOLD_DIFFERENCES, more="more differences")
    listed = sum(look.listed for look in looks.values())
    found = "no difference found"
    if lines:
        found = f"{counted(len(lines), 'difference')} found and repaired"
        found += ", unless a stream reported them meanwhile"
    yield (
        f"stopped: {counted(listed, 'message')} listed, {found}; "
        "run the same command again to start over"
    )


def summarize(found: Findings) -> dict[str, Any]:
    """What was found, as one JSON object."""
    looks = found.looks
    differing = sum(len(look.differences) for look in looks.values())
    return {
        "proven": not differing and not found.is_doubtful,
        "doubt": found.is_doubtful,
        "differences": differing,
        "pages": sum(look.pages for look in looks.values()),
        "listed": sum(look.listed for look in looks.values()),
        "flows": [_plain(flow, look) for flow, look in sorted(looks.items())],
        "unreadable": found.unreadable,
        "excluded": found.excluded,
        "locked_out": list(found.locked_out),
    }


def _plain(flow: str, look: Look) -> dict[str, Any]:
    return {
        "flow": flow,
        "pages": look.pages,
        "listed": look.listed,
        "claimed_ids": look.claimed.size(),
        "two_witnesses_before": _twice(look, look.claimed, after=False),
        "two_witnesses": _twice(look, look.claimed, after=True),
        "changed_meanwhile": look.meanwhile,
        "differences": [
            {
                "id": one.id,
                "kind": one.kind,
                "fields": one.fields,
                "before": one.before,
                "after": one.after,
            }
            for one in _in_order(look)
        ],
        "gaps": list(look.gaps),
        "doubted": list(look.doubted),
        "troubles": look.troubles,
    }


def _cells(flow: str, look: Look) -> Sequence[str]:
    kinds = Counter(one.kind for one in look.differences.values())
    before, after = (_twice(look, look.claimed, after=which) for which in (False, True))
    share = _share(after, look.claimed.size())
    return (
        flow,
        f"{look.listed:,}",
        f"{look.pages:,}",
        f"{kinds['not held']:,}",
        f"{kinds['changed']:,}",
        f"{kinds['vanished']:,}",
        share if before == after else f"{_share(before, look.claimed.size())} → {share}",
        "no" if look.is_doubtful else "yes",
    )


def _twice(look: Look, ids: Ranges, *, after: bool) -> int:
    """How many of *ids* both a stream and a listing prove."""
    standing = look.after if after else look.before
    return (standing.streamed & standing.listed & ids).size()


def _share(part: int, whole: int) -> str:
    return f"{part * 100 // whole}%" if whole else "-"


def _in_order(look: Look) -> list[Difference]:
    return sorted(look.differences.values(), key=lambda one: one.id)


def _all_differences(looks: Mapping[str, Look]) -> list[str]:
    return [line for flow, look in sorted(looks.items()) for line in _differences(flow, look)]


def _differences(flow: str, look: Look) -> Iterator[str]:
    for one in _in_order(look):
        message = f"{make_safe(flow)} {one.id}"
        before, after = (clipped(said or "", TOLD_LETTERS) for said in (one.before, one.after))
        match one.kind:
            case "not held":
                yield f"{message}: claimed but missing, now archived: {after}"
            case "vanished":
                yield f"{message}: gone from Flowdock, now marked as deleted: {before}"
            case "changed":
                said = f": {before} → {after}" if "content" in one.fields else ""
                yield f"{message}: {', '.join(one.fields)} changed unnoticed{said}"


def _doubts(look: Look) -> Iterator[str]:
    yield from (
        trouble if times == 1 else f"{trouble} ({times} times)"
        for trouble, times in Counter(look.troubles).items()
    )
    for first, last in look.gaps:
        yield f"gap from {first} to {last}: archiver backfill fills it"
    for first, last in look.doubted:
        yield f"{first} to {last} may have changed unnoticed: archiver run lists it again"


def _conclusion(found: Findings) -> str:
    looks, doubtful = found.looks, found.doubtful_flows
    differing = sum(len(look.differences) for look in looks.values())
    listed = sum(look.listed for look in looks.values())
    told = f"{counted(len(looks), 'flow')}, {counted(listed, 'message')} listed: "
    mended = f"{counted(differing, 'difference')} found and repaired" if differing else ""
    doubts = [counted(doubtful, "flow")] if doubtful else []
    doubts += [f"what only account {make_safe(name)} can read" for name in found.locked_out]
    if doubts:
        doubt = f"doubt remains in {', and in '.join(doubts)}"
        return told + (f"{mended}; {doubt}" if mended else doubt)
    return told + (mended or "proven, the archive has all of it as Flowdock lists it")
