"""The screen of ``archiver status --watch``, fitted to the size of the terminal."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from archiver.cli.measures import EXCLUDED, format_bytes, format_count, format_seconds, format_share
from archiver.cli.tables import counted
from archiver.cli.terminal import make_safe
from archiver.store.leases import Report, is_silent, unheard_among
from archiver.store.reading import Count, FlowReport, Totals
from archiver.store.surveying import LAGGING_SECONDS

FIXED_LINES = 6
"""The title, the sums, the rules, the head of the table and the line below it."""
WIDE = 100
COLUMNS = (
    (WIDE, ("events", "messages", "new/s", "newest", "lag", "gaps", "ids", "proven")),
    (72, ("events", "new/s", "newest", "lag", "gaps", "proven")),
    (0, ("new/s", "lag", "gaps", "proven")),
)
"""By least width of the terminal, in cells: the columns beside the name of the flow."""


class Look(Struct, frozen=True, kw_only=True):
    """What was read of the archive at one moment."""

    at: datetime
    flows: Sequence[FlowReport]
    totals: Totals
    daemons: Sequence[Report] = ()
    excluded: Sequence[str] = ()
    """Flows that may lack something, and go on so, because the settings exclude them."""


class View(Struct, frozen=True, kw_only=True):
    """What the screen shows."""

    look: Look
    every_seconds: float
    rates: Mapping[str, float]
    """By flow: new events per second at its head since the last look."""
    readiness: str | None
    """Why the daemon does not capture; empty when it does, None when no daemon was asked."""
    is_shared: bool = True
    """Whether daemons report in to the archive; without sharing, they do not."""
    trouble: str = ""
    """Why this view is out of date; empty when it is not."""


def draw(view: View, *, width: int, height: int) -> RenderableType:
    """Draw the whole screen, within *width* and *height*."""
    unread = _unread(view)
    shown = max(1, height - FIXED_LINES - len(unread))
    return Group(
        _title(view, width),
        _sums(view, width),
        Rule(style="dim"),
        _table(view, width=width, lines=shown),
        Rule(style="dim"),
        *unread,
        _foot(view, shown=shown),
    )


def _title(view: View, width: int) -> Text:
    title = Text(" Flowdock archiver  ", style="bold", no_wrap=True, overflow="ellipsis")
    if view.trouble:
        title.append(f"✗ {make_safe(view.trouble)}", style="bold red")
    elif view.readiness:
        title.append(f"✗ not capturing: {make_safe(view.readiness)}", style="bold red")
    elif view.readiness is not None:
        title.append("● capturing", style="green")
    elif view.is_shared and is_silent(view.look.daemons):
        title.append("✗ no daemon is reporting", style="bold red")
    elif deaf := unheard_among([one.flow for one in view.look.flows], view.look.daemons):
        title.append(f"✗ {counted(len(deaf), 'flow')} without a stream", style="bold red")
    clock = f"{view.look.at:%H:%M:%S} UTC "
    room = width - title.cell_len - len(clock)
    return title.append(clock.rjust(len(clock) + room), style="not bold dim") if room > 0 else title


def _sums(view: View, width: int) -> Text:
    flows, totals = view.look.flows, view.look.totals
    behind = sum(_is_behind(one) for one in flows)
    told = Text(" ", no_wrap=True, overflow="ellipsis")
    told.append(counted(len(flows), "flow"), style="bold")
    told.append(f", {behind:,} behind   ", style="yellow" if behind else "dim")
    told.append(format_count(sum((one.events for one in flows), Count(0))), style="bold")
    told.append(" events   ", style="dim")
    told.append(f"{sum(view.rates.values()):,.1f}", style="bold green")
    told.append(" new a second   ", style="dim")
    written = totals.written_at
    age = format_seconds((view.look.at - written).total_seconds()) + " ago" if written else "never"
    told.append(f"written {age}", style="dim")
    if width >= WIDE:
        rejects = totals.rejects.rows
        told.append(f"   {format_bytes(totals.database_bytes)}", style="dim")
        told.append(f"   {counted(rejects, 'reject')}", style="yellow" if rejects else "dim")
    return told


def _table(view: View, *, width: int, lines: int) -> Table:
    table = Table(box=None, padding=(0, 1), expand=True, header_style="dim")
    table.add_column("flow", ratio=1, no_wrap=True, overflow="ellipsis")
    names = next(names for least, names in COLUMNS if width >= least)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for one in _in_order(view)[:lines]:
        cells = _cells(one, view)
        style = "yellow" if _is_behind(one) else ""
        # As Text: in a str, rich would interpret markup.
        table.add_row(Text(make_safe(one.flow)), *(cells[name] for name in names), style=style)
    return table


def _cells(one: FlowReport, view: View) -> Mapping[str, Text]:
    """The cells of a flow, by column."""
    rate = view.rates.get(one.flow, 0.0)
    told = {
        "events": format_count(one.events),
        "messages": format_count(one.messages),
        "newest": "-",
        "lag": "-" if one.lag_seconds is None else format_seconds(one.lag_seconds),
        "gaps": "?" if one.gaps is None else f"{one.gaps:,}",
        "ids": "?" if one.missing_ids is None else f"{one.missing_ids:,}",
        "proven": format_share(one.proven),
    }
    if one.newest_at is not None:
        told["newest"] = format_seconds((view.look.at - one.newest_at).total_seconds())
    new = Text(f"{rate:,.1f}", style="green") if rate else Text("-", style="dim")
    return {"new/s": new, **{name: Text(text) for name, text in told.items()}}


def _unread(view: View) -> list[Text]:
    """A line about the flows whose gaps stay since nothing is requested, if there are any."""
    why = dict.fromkeys(view.look.excluded, EXCLUDED)
    why |= {one.flow: one.not_read for one in view.look.flows if one.not_read}
    gapped = [one.flow for one in _in_order(view) if one.gaps]
    flows = [f"{make_safe(flow)} ({why[flow]})" for flow in gapped if flow in why]
    if not flows:
        return []
    told = f" the gaps of {counted(len(flows), 'flow')} cannot be filled: {', '.join(flows)}"
    return [Text(told, style="yellow", no_wrap=True, overflow="ellipsis")]


def _foot(view: View, *, shown: int) -> Text:
    left = _in_order(view)[shown:]
    told = Text(" ", style="dim", no_wrap=True, overflow="ellipsis")
    if left:
        behind = sum(map(_is_behind, left))
        told.append(f"{len(left):,} more, {f'{behind:,} behind' if behind else 'all proven'}   ")
    return told.append(f"updated every {view.every_seconds:g} s; Ctrl-C to quit")


def _in_order(view: View) -> list[FlowReport]:
    """Flows that are behind first, then the busiest, then by name: what matters stays visible."""
    return sorted(
        view.look.flows,
        key=lambda one: (
            not _is_behind(one),
            -(one.missing_ids or 0),
            -view.rates.get(one.flow, 0.0),
            one.flow,
        ),
    )


def _is_behind(one: FlowReport) -> bool:
    return bool(one.gaps or one.not_told) or (one.lag_seconds or 0.0) > LAGGING_SECONDS
