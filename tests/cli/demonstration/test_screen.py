"""The demonstration's screen shows how far it is, and what is open."""

import os
from pathlib import Path

from rich.console import Console

from archiver.cli.demonstration.scene import GapShown, Scene
from archiver.cli.demonstration.screen import draw


def screen(scene: Scene) -> list[str]:
    with Path(os.devnull).open("w") as nowhere:
        console = Console(width=80, file=nowhere)
        return [
            "".join(piece.text for piece in line).rstrip()
            for line in console.render_lines(draw(scene, width=80, height=24))
        ]


def test_the_clock_stands_for_the_traffic_alone() -> None:
    during = Scene(seconds=30, phase="archiving", now=12)
    assert screen(during)[0].endswith("archiving   12 of 30 s")
    assert screen(Scene(seconds=30, phase="settling", now=45))[0].endswith("closing the last gaps")


def test_a_gap_of_a_private_conversation_names_it() -> None:
    gap = GapShown(flow="private/94929", first=1, last=9, found_at=0)
    shown = screen(Scene(seconds=30, gaps={(gap.flow, 1, 9): gap}))
    assert any("private/94929 1 to 9 open" in line for line in shown)
