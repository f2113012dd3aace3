"""``archiver gaps``: list what is missing or doubted, range by range."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click
import msgspec

from archiver.cli.choice import choose_flows
from archiver.cli.configuration import LoadSettings
from archiver.cli.database import Place, open_database, require_archive, serve_database
from archiver.cli.measures import (
    SILENCE,
    describe_excluded,
    describe_not_heard,
    describe_not_measured,
    describe_not_read,
    describe_not_told,
    flows_and_reasons,
)
from archiver.cli.tables import Column, counted, moment, show_table
from archiver.cli.terminal import show_json
from archiver.settings import Settings
from archiver.store import leases, missing
from archiver.store.engine import see_one_moment
from archiver.store.leases import Report, is_silent, unheard_among
from archiver.store.missing import Doubt, Gap

GAP_COLUMNS = (
    Column("flow"),
    Column("from", is_number=True),
    Column("to", is_number=True),
    Column("ids", is_number=True),
    Column("found", is_short=True),
    Column("attempts", is_number=True),
    Column("last error"),
)
DOUBT_COLUMNS = GAP_COLUMNS[:4]


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertain:
    """What is not known for sure."""

    gaps: Sequence[Gap]
    doubts: Sequence[Doubt]
    untold: Mapping[str, str]
    """By flow: why nobody knows what is new in it."""
    unmeasured: Mapping[str, str]
    """By flow, without those above: why it is not known how far its ids go."""
    unread: Mapping[str, str]
    """By flow: why no account can read it, so that its gaps or doubts stay."""
    excluded: Sequence[str]
    """Those of the flows above that the settings leave out, so that nothing changes for them."""
    unheard: Sequence[str]
    """The flows that a daemon captures although no stream of them is open."""
    daemons: Sequence[Report]

    @property
    def is_proof_lacking(self) -> bool:
        """Tell whether there are gaps, or flows that may miss something that is not a gap yet."""
        return bool(self.gaps or self.untold or self.unmeasured)


@click.command
@click.option(
    "--flow", "patterns", multiple=True, metavar="PATTERN", help="Only flows like this: 'acme/*'."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def gaps(load: LoadSettings, /, *, patterns: tuple[str, ...], as_json: bool) -> int:
    """List the ranges of ids that nothing proves yet, and why.

    Other things that are not certain stand below the gaps:

    \b
    - doubts: ranges that are proven, but whose messages may have changed while
      nobody listened; archiver run and archiver verify list them again
    - flows of which the service does not say what is new
    - flows not measured yet: nobody has asked how far their ids go, as after an
      import, or of a flow that was disabled
    - of all these, flows where it stays so, because the settings exclude them,
      they are disabled, or no account can read them any more
    - flows that a daemon captures but whose stream is not open: what is edited
      there is doubted only once it is open again
    - that no daemon reports in: what is missed is not in the gaps until one
      runs again

    Exit status: 1 when there is a gap, or a flow of which the service does not
    say what is new or that is not measured yet; 0 otherwise.
    """  # noqa: D301
    settings = load()
    require_archive(settings)
    with serve_database(settings) as place:
        found = asyncio.run(_read(place, patterns, settings))
    if as_json:
        untold = flows_and_reasons(found.untold)
        told = {
            "gaps": found.gaps,
            "doubts": found.doubts,
            "not_told": untold,
            "not_measured": list(found.unmeasured),
            "not_read": flows_and_reasons(found.unread),
            "excluded": found.excluded,
            "not_heard": found.unheard,
            "daemons": found.daemons,
        }
        show_json(msgspec.json.encode(told).decode())
    else:
        _describe(found)
        # A daemon that does not share its flows does not report in either.
        if settings.sharing.enabled and is_silent(found.daemons):
            click.echo(SILENCE)
    return 1 if found.is_proof_lacking else 0


async def _read(place: Place, patterns: Sequence[str], settings: Settings) -> Uncertain:
    async with open_database(place) as engine, engine.connect() as tx:
        await see_one_moment(tx)
        chosen = await choose_flows(tx, patterns)
        flows = list(chosen.values())
        gaps, doubts = await missing.gaps(tx, flows), await missing.doubts(tx, flows)
        ends = await missing.unknown_ends(tx, chosen)
        open_ = {one.flow for one in gaps} | {one.flow for one in doubts}
        named = {*open_, *ends.untold, *ends.unmeasured}
        daemons = await leases.reports(tx)
        return Uncertain(
            gaps=gaps,
            doubts=doubts,
            untold=ends.untold,
            unmeasured=ends.unmeasured,
            unread=await missing.unread(tx, open_),
            excluded=settings.excluded(sorted(named)),
            unheard=unheard_among(flows, daemons),
            daemons=daemons,
        )


def _describe(found: Uncertain) -> None:
    if found.gaps:
        rows = [(*_range(gap), *_history(gap)) for gap in found.gaps]
        show_table(GAP_COLUMNS, rows)
    if found.gaps and found.doubts:
        click.echo()
    if found.doubts:
        click.echo("doubts: messages that may have changed unnoticed, or in an unknown form")
        show_table(DOUBT_COLUMNS, [_range(doubt) for doubt in found.doubts])
    for flow, reason in found.untold.items():
        click.echo(describe_not_told(flow, reason))
    for flow, reason in found.unmeasured.items():
        click.echo(describe_not_measured(flow, reason))
    for flow, reason in found.unread.items():
        click.echo(describe_not_read(flow, reason))
    for flow in found.excluded:
        click.echo(describe_excluded(flow))
    if found.unheard:
        click.echo(describe_not_heard(found.unheard))
    doubts = f", {counted(len(found.doubts), 'doubt')}" if found.doubts else ""
    unmeasured = f", {len(found.unmeasured):,} not measured yet" if found.unmeasured else ""
    gaps = counted(len(found.gaps), "gap") if found.gaps else "no gaps"
    click.echo(f"{gaps}{doubts}{unmeasured}")


def _range(one: Gap | Doubt) -> tuple[str, ...]:
    return one.flow, str(one.from_id), str(one.to_id), f"{one.to_id - one.from_id + 1:,}"


def _history(gap: Gap) -> tuple[str, ...]:
    return moment(gap.found_at), f"{gap.attempts:,}", gap.last_error or ""
