"""Results of a search for people: each message with its flow, time, sender and neighbours.

On a terminal, texts are wrapped to its width; elsewhere, each line of a message is one line.
Messages are made safe for the terminal. A long message is shown in part, around its first mark.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime, tzinfo

from rich.console import Console
from rich.text import Text

from archiver.cli.searching.finding import Shown
from archiver.cli.searching.forms import link
from archiver.cli.tables import UNBOUNDED_CELLS, fitted
from archiver.cli.terminal import colour_of, has_colours, is_terminal, make_safe, show_long
from archiver.cli.zones import on_clock
from archiver.domain.tags import is_mark
from archiver.store.search_showing import Found, Neighbour

MARK = "bold black on yellow"
MOST_LETTERS = 900
LETTERS_BEFORE = 250
"""How many letters of a long message are shown before its first mark."""
MOST_LINES = 12
LINES_BEFORE = 3
NEIGHBOUR_CELLS = 160
MOST_TAGS = 10
HANGING = "      "

_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


def show(shown: Sequence[Shown], zone: tzinfo | None, *, last: Sequence[str]) -> None:
    """Print *shown* and the lines *last*, through a pager if they do not fit on the terminal."""
    room = shutil.get_terminal_size((80 if is_terminal() else UNBOUNDED_CELLS, 24)).columns
    console = Console(
        width=max(20, room),
        color_system="auto" if has_colours() else None,
        highlight=False,
        soft_wrap=False,
    )
    with console.capture() as capture:
        for one in shown:
            for line in _lines(one, zone, console.width):
                for broken in _broken(line, console):
                    broken.rstrip()
                    console.print(broken, soft_wrap=True)
            console.print()
        for told in last:
            console.print(Text(make_safe(told), style="dim"), soft_wrap=True)
    show_long(capture.get())


def _broken(line: Text, console: Console) -> Iterator[Text]:
    """Wrap *line* to the console; its further lines are indented, to look like parts of it."""
    if line.cell_len <= console.width:
        yield line
        return
    first, *more = line.wrap(console, console.width - len(HANGING), overflow="fold")
    yield first
    yield from (Text.assemble(HANGING, piece) for piece in more)


def _lines(one: Shown, zone: tzinfo | None, width: int) -> Iterator[Text]:
    message = one.message
    at = on_clock(message.sent_at, zone) if message.sent_at else None
    yield _header(message, at)
    for near in one.around:
        if near.id < message.id:
            yield _neighbour(near, at, zone, width)
    lead = Text("▌ ", style="yellow") if one.around else Text("  ")
    for line in _said(message.said, one.marks):
        # Wrapped here, so that all pieces of a line have the same lead.
        for piece in line.wrap(_PLAIN, max(10, width - 2), overflow="fold"):
            piece.rstrip()
            yield Text.assemble(lead, piece)
    for name in message.file_names:
        if name != message.said:
            yield Text.assemble(lead, ("file: ", "dim"), make_safe(name))
    if message.says_other and message.content:
        room = max(10, min(width - 7, NEIGHBOUR_CELLS))
        yield Text.assemble("  ", ("now: ", "dim"), fitted(make_safe(message.content), room))
    for near in one.around:
        if near.id > message.id:
            yield _neighbour(near, at, zone, width)
    yield Text.assemble("  ", (make_safe(link(message) or f"id {message.id}"), "dim"))


def _header(message: Found, at: datetime | None) -> Text:
    told = Text("time unknown" if at is None else at.isoformat(" ", "seconds"), style="dim")
    told.append(f"  {make_safe(message.flow)}", style="not dim bold")
    told.append("  ").append(_nick(message.nick))
    if message.event not in {"message", "comment"}:
        told.append(f"  {make_safe(message.event)}")
    if message.deleted_at is not None:
        told.append("  deleted", style="not dim red")
    elif message.says_other:
        told.append("  said before it was edited", style="not dim red")
    elif message.edited_at is not None:
        told.append("  edited", style="not dim italic")
    for tag in [tag for tag in message.tags if not is_mark(tag)][:MOST_TAGS]:
        told.append(f"  #{make_safe(tag)}", style="not dim cyan")
    return told


def _nick(nick: str | None) -> Text:
    shown = make_safe(nick or "-")
    return Text(shown, style=f"not dim {colour_of(shown)}")


def _neighbour(near: Neighbour, at: datetime | None, zone: tzinfo | None, width: int) -> Text:
    then = on_clock(near.sent_at, zone) if near.sent_at else None
    told = Text("┊ ", style="dim")
    if then is not None:
        is_same_day = at is not None and then.date() == at.date()
        told.append(f"{then:%H:%M:%S} " if is_same_day else f"{then.date()} {then:%H:%M:%S} ")
    told.append(f"{make_safe(near.nick or '-')}: ")
    if near.is_deleted:
        # A file or an inbox item keeps its text when it is deleted.
        told.append("deleted: " if near.content else "deleted", style="red")
    room = min(width, NEIGHBOUR_CELLS) - told.cell_len
    said = "(not known)" if near.content is None else near.content
    return told.append(fitted(make_safe(said), max(10, room)))


def _said(said: str, spans: Sequence[tuple[int, int]]) -> Iterator[Text]:
    """The lines of a message, with its marks: all of them, or those around the first mark."""
    begin, end = _excerpt(said, spans[0][0] if spans else 0)
    ends = [*_LINE_END.finditer(said, begin, end)]
    starts = [begin, *(match.end() for match in ends)]
    stops = [*(match.start() for match in ends), end]
    lines = list(zip(starts, stops, strict=True))[:MOST_LINES]
    for number, (start, stop) in enumerate(lines):
        line = Text("…" if number == 0 and begin > 0 else "")
        shift = len(line) - start
        line.append(make_safe(said[start:stop]))
        for first, last in spans:
            if first < stop and last > start:
                line.stylize(MARK, max(first, start) + shift, min(last, stop) + shift)
        if number == len(lines) - 1 and stop < len(said):
            line.append("…")
        yield line


def _excerpt(said: str, mark: int) -> tuple[int, int]:
    """The range of letters of *said* to show, which includes the one at *mark*."""
    earliest = max(0, mark - LETTERS_BEFORE)
    if earliest == 0 or len(said) <= MOST_LETTERS:
        earliest = 0
    ends = [match.end() for match in _LINE_END.finditer(said, earliest, mark)]
    begin = ends[-LINES_BEFORE - 1] if len(ends) > LINES_BEFORE else earliest
    return begin, min(len(said), begin + MOST_LETTERS)


_PLAIN = Console(width=80, color_system=None)
