"""The demonstration's screen: a scene, drawn to fit the size of the terminal."""

from collections.abc import Iterator
from datetime import UTC
from itertools import chain

from rich.cells import set_cell_size
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from archiver.cli.demonstration.scene import EDIT, TALKS, GapShown, Line, Scene
from archiver.cli.tables import fitted
from archiver.cli.terminal import colour_of, make_safe
from archiver.domain.model import is_private
from archiver.store.showing import Happening

FEWEST_MESSAGES = 4
SETTLING = "settling"
BAR_CELLS = 16
NICK_CELLS = 10
FLOW_CELLS = 12
KEPT_BEFORE_CHANGE = 12


def draw(scene: Scene, *, width: int, height: int) -> RenderableType:
    """The whole screen, of exactly *width* cells and at most *height* lines."""
    gap_lines = 3 if height >= 30 else 1
    table_lines = len(scene.lines) + 1
    fixed = 2 + 1 + gap_lines + 1
    most = max(2, height - fixed - FEWEST_MESSAGES)
    messages = max(FEWEST_MESSAGES, height - fixed - min(table_lines, most))
    return Group(
        _title(scene, width),
        _totals(scene),
        Rule(style="dim"),
        _table(scene, lines=most - 1),
        *_gaps(scene, lines=gap_lines),
        Rule(style="dim"),
        *_messages(scene, width=width, lines=messages),
    )


def _title(scene: Scene, width: int) -> Text:
    title = Text(" Flowdock archiver ", style="bold")
    title.append("demo", style="dim")
    # The requested time is for the traffic; what is left to do after it may take longer.
    clock = "" if scene.phase == SETTLING else f" {scene.now:3.0f} of {scene.seconds:.0f} s"
    phase = "closing the last gaps" if scene.phase == SETTLING else scene.phase
    title.append(f"{phase} {clock} ".rjust(width - title.cell_len))
    title.stylize("dim", width - len(clock) - 1)
    return title


def _totals(scene: Scene) -> Text:
    told = Text(" ")
    told.append(f"{scene.events:,}", style="bold")
    told.append(" events  ", style="dim")
    told.append(f"{scene.events_per_second:,.0f}", style="bold green")
    told.append(" a second  ", style="dim")
    told.append(f"{scene.messages:,}", style="bold")
    told.append(" messages  ", style="dim")
    told.append(f"{scene.proven:.1%}", style="bold")
    told.append(" proven  ", style="dim")
    if scene.streams:
        told.append("● streaming", style="green")
    elif scene.cut_at is not None or scene.now > 5:
        told.append("✗ disconnected", style="bold red")
    else:
        told.append("○ connecting", style="dim")
    return told


def _table(scene: Scene, *, lines: int) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=True, expand=True, header_style="dim")
    table.add_column("flow", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("messages", justify="right", width=8)
    table.add_column("events", justify="right", width=8)
    table.add_column("proven", width=BAR_CELLS + 5)
    table.add_column("gaps", justify="right", width=5)
    shown = scene.lines
    if len(shown) > lines:
        shown = (*shown[: lines - 1], *(line for line in shown[-1:] if line.name == TALKS))
    for line in shown:
        table.add_row(
            _flow_name(line),
            f"{line.messages:,}",
            f"{line.events:,}",
            _bar(line),
            Text(str(line.gaps), style="yellow") if line.gaps else Text("-", style="dim"),
        )
    return table


def _flow_name(line: Line) -> Text:
    if line.name == TALKS:
        return Text("private conversations", style="italic")
    return Text(make_safe(line.name))


def _bar(line: Line) -> Table:
    bar = Table.grid(padding=(0, 1))
    bar.add_column(width=BAR_CELLS)
    bar.add_column(width=4, justify="right")
    done = line.proven if line.events else 0.0
    # Never a full bar while something is missing.
    percent = min(99, int(done * 100)) if line.gaps or done < 1 else 100
    colour = "green" if percent == 100 else "yellow"
    bar.add_row(
        ProgressBar(
            total=100,
            completed=percent,
            width=BAR_CELLS,
            complete_style=colour,
            finished_style=colour,
            style="grey23",
        ),
        Text(f"{percent}%", style=colour if percent == 100 else "default"),
    )
    return bar


def _gaps(scene: Scene, *, lines: int) -> Iterator[Text]:
    """How many gaps there are, and those that changed last."""
    found = scene.open_gaps
    closed = sorted(
        (gap for gap in scene.gaps.values() if gap.closed_at is not None),
        key=lambda gap: -(gap.closed_at or 0),
    )
    total = Text(" gaps  ", style="dim")
    total.append(f"{len(found)} open", style="not dim yellow" if found else "not dim green")
    total.append(f", {scene.gaps_closed} closed", style="dim")
    shown = [_gap(gap, scene.now) for gap in chain(closed[:lines], found)][: max(1, lines - 1)]
    if lines == 1:
        yield total.append("   ").append(shown[0]) if shown else total
        return
    yield total
    yield from (Text("       ").append(one) for one in shown)
    yield from (Text("") for _ in range(lines - 1 - len(shown)))


def _gap(gap: GapShown, now: float) -> Text:
    name = make_safe(gap.flow) if is_private(gap.flow) else _short(gap.flow)
    told = Text(f"{name} {_ids(gap)} ", overflow="ellipsis")
    if gap.closed_at is not None:
        return told.append(f"closed after {gap.closed_at - gap.found_at:.1f} s", style="green")
    return told.append(f"open for {now - gap.found_at:.0f} s", style="yellow")


def _ids(gap: GapShown) -> str:
    return f"{gap.first}" if gap.first == gap.last else f"{gap.first} to {gap.last}"


def _messages(scene: Scene, *, width: int, lines: int) -> Iterator[Text]:
    newest = list(scene.happenings.values())[-lines:]
    yield from (_message(one, width) for one in newest)
    yield from (Text("") for _ in range(lines - len(newest)))


def _message(one: Happening, width: int) -> Text:
    at = one.at.astimezone(UTC).strftime("%H:%M:%S") if one.at else ""
    nick = make_safe(one.nick or "-")
    told = Text(f" {at:8} ", style="dim", no_wrap=True, overflow="ellipsis")
    told.append(f"{set_cell_size(_short(one.path), FLOW_CELLS)} ", style="dim")
    told.append(f"{set_cell_size(nick, NICK_CELLS)} ", style=f"not dim {colour_of(nick)}")
    told.append(_said(one, width - told.cell_len - 1))
    return told


def _said(one: Happening, cells: int) -> Text:
    """What a message says, or how that changed."""
    content, before = make_safe(one.content), make_safe(one.before or "")
    if one.is_deleted:
        gone = Text(fitted(before or content, cells - 10), style="not dim red strike")
        return gone.append("  deleted", style="not strike red")
    if one.event != EDIT or before == content:
        return Text(fitted(content, cells), style="not dim default")
    old, new = _from_change(before, content)
    old = fitted(old, cells // 2 - 3)
    told = Text(old, style="not dim red strike")
    told.append(" → ", style="not strike dim")
    return told.append(fitted(new, cells - told.cell_len), style="not strike not dim green")


def _from_change(before: str, after: str) -> tuple[str, str]:
    """Both texts from a little before the place where they begin to differ."""
    pairs = enumerate(zip(before, after, strict=False))
    same = next((at for at, (a, b) in pairs if a != b), min(len(before), len(after)))
    start = same - KEPT_BEFORE_CHANGE
    if start <= 1:
        return before, after
    return "…" + before[start:], "…" + after[start:]


def _short(path: str) -> str:
    """A flow without its organization."""
    organization, _, name = path.partition("/")
    return make_safe("private" if is_private(path) else name or organization)
