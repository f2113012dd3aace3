"""The displays of the demonstration: a terminal, plain lines, JSON, a picture."""

import json
import re
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import click
from rich.cells import cell_len
from rich.console import Console
from typing_extensions import override

from archiver.cli.demonstration.scene import EDIT, Scene
from archiver.cli.demonstration.screen import draw
from archiver.cli.full_screen import full_screen
from archiver.cli.tables import counted
from archiver.cli.terminal import can_draw
from archiver.store.showing import Happening

PLAIN_SECONDS = 3.0
JSON_SECONDS = 1.0
PICTURE_CELLS = (100, 32)
NEWEST = 8
PICTURED = 12
"""Messages that a picture has room for."""
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


class Display(Protocol):
    """Shows scenes; as a context manager, it has the terminal while the block lasts."""

    def announce(self, told: str) -> None:
        """Say something before the first scene."""

    def show(self, scene: Scene) -> None:
        """Show *scene*."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def choose_display(*, as_json: bool, picture: Path | None) -> Display:
    """Choose the display for whoever or whatever reads our output."""
    if picture is not None:
        return Picture(picture)
    if as_json:
        return JsonLines()
    return Screen() if can_draw() else PlainLines()


class Screen:
    """A terminal: one screen, which is drawn again and again, and removed at the end."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._screen = full_screen(self._console)

    def announce(self, told: str) -> None:
        """Print it before the screen is drawn."""
        click.echo(told)

    def show(self, scene: Scene) -> None:
        """Draw *scene* to fit the window's present size."""
        width, height = self._console.size
        self._live.update(draw(scene, width=width, height=height), refresh=True)

    def __enter__(self) -> Self:
        self._live = self._screen.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._screen.__exit__(kind, error, trace)


class PlainLines:
    """Not a terminal: a line every few seconds."""

    every_seconds = PLAIN_SECONDS

    def __init__(self) -> None:
        self._shown: tuple[str, float] | None = None

    def announce(self, told: str) -> None:
        """Print it as a line."""
        click.echo(told)

    def show(self, scene: Scene) -> None:
        """Print a line when the phase has changed, and every few seconds."""
        if self._shown is not None:
            phase, at = self._shown
            if phase == scene.phase and scene.now - at < self.every_seconds:
                return
        self._shown = scene.phase, scene.now
        click.echo(self._line(scene))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def _line(self, scene: Scene) -> str:
        return (
            f"{scene.now:4.0f} s  {scene.phase:<9}  {scene.events:>7,} events"
            f"  {scene.events_per_second:>6,.0f}/s  {scene.messages:>7,} messages"
            f"  {scene.proven:6.1%} proven  {counted(len(scene.open_gaps), 'gap')}"
            f"  {scene.streams or 'no'} stream{'s' if scene.streams != 1 else ''}"
        )


class JsonLines(PlainLines):
    """For programs: one object a line."""

    every_seconds = JSON_SECONDS

    @override
    def announce(self, told: str) -> None:
        return None

    @override
    def _line(self, scene: Scene) -> str:
        return json.dumps(
            {
                "elapsed_seconds": round(scene.now, 1),
                "phase": scene.phase,
                "events": scene.events,
                "events_per_second": round(scene.events_per_second, 1),
                "messages": scene.messages,
                "proven": round(scene.proven, 4),
                "gaps": len(scene.open_gaps),
                "streams": scene.streams,
            }
        )


def _has_wide_letters(one: Happening) -> bool:
    said = f"{one.nick}{one.content}{one.before}"
    return cell_len(said) != len(said)


class Picture(PlainLines):
    """The liveliest scene, as an SVG file; none with wide letters, which fonts draw too narrow."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._best = -1

    @override
    def show(self, scene: Scene) -> None:
        super().show(scene)
        newest = list(scene.happenings.values())[-NEWEST:]
        edits = sum(one.event == EDIT and not one.is_deleted for one in newest)
        deletions = sum(one.is_deleted for one in newest)
        closed = sum(gap.closed_at is not None for gap in scene.gaps.values())
        halfway = 0.5 < scene.proven < 0.95
        liveliness = 3 * min(edits, 2) + min(deletions, 1) + bool(closed) + 4 * halfway
        if scene.cut_at is None or liveliness <= self._best or not scene.streams:
            return
        if any(map(_has_wide_letters, list(scene.happenings.values())[-PICTURED:])):
            return
        self._best = liveliness
        width, height = PICTURE_CELLS
        with Path("/dev/null").open("w") as nowhere:
            console = Console(
                record=True, width=width, height=height, file=nowhere, force_terminal=True
            )
            console.print(draw(scene, width=width, height=height))
            svg = console.export_svg(title="archiver demo")
        # No fonts from other hosts, which would learn who looks at the picture.
        self._path.write_text(FONTS.sub("", svg))
