"""``archiver status --watch``: a screen that fits the terminal, and survives trouble."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from aiohttp import ClientSession
from msgspec.structs import replace
from rich.console import Console
from sqlalchemy.exc import OperationalError

from archiver.cli.dashboard import Look, View, draw
from archiver.cli.watching import ask_readiness, views
from archiver.store.files import Counts
from archiver.store.leases import Report
from archiver.store.reading import Count, FlowReport, Totals
from tests.cli.forks import Starter

WATCH = ["status", "--watch", "--every", "0.2"]
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def flow(
    name: str,
    *,
    lag: float = 0.0,
    newest_id: int = 100,
    gaps: int = 0,
    not_told: str | None = None,
) -> FlowReport:
    return FlowReport(
        flow=name,
        joined=True,
        disabled=None,
        events=Count(1_234_567, exact=False),
        messages=Count(98_765),
        newest_at=NOW - timedelta(seconds=4),
        newest_id=newest_id,
        lag_seconds=lag,
        gaps=gaps,
        missing_ids=gaps * 7,
        proven=0.9999 if gaps else 1.0,
        last_error=None,
        not_told=not_told,
    )


def look(*flows: FlowReport, at: datetime = NOW) -> Look:
    totals = Totals(
        signals=Count(5),
        rejects=Count(1),
        files=Counts(kept=7, missing=1),
        database_bytes=123_000_000,
        written_at=at,
    )
    return Look(at=at, flows=flows, totals=totals)


def shown(view: View, width: int, height: int) -> list[str]:
    console = Console(file=StringIO(), record=True, width=width, height=height, color_system=None)
    console.print(draw(view, width=width, height=height))
    return console.export_text().split("\n")[:-1]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (60, 10)])
def test_the_screen_fits_and_what_is_behind_stands_first(width: int, height: int) -> None:
    flows = [flow(f"acme/flow with a rather long name {number}") for number in range(2000)]
    flows += [flow("acme/behind\x1b[2J", lag=75.0, gaps=2), flow("acme/evil\nname")]
    flows += [flow("acme/untold", not_told="503")]
    rates = {"acme/evil\nname": 2.5}
    view = View(look=look(*flows), every_seconds=2, rates=rates, readiness="")
    lines = shown(view, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert "● capturing" in lines[0]
    assert "2,003 flows, 2 behind" in lines[1]
    assert "acme/behind␛[2J" in lines[4]
    assert "1m 15s" in lines[4]
    assert "acme/untold" in lines[5]
    assert "acme/evil⏎name" in lines[6]
    assert "2.5" in lines[6]
    assert ("messages" in lines[3]) == (width >= 100)
    assert "more, all proven" in lines[-1]


@pytest.mark.parametrize("name", ["acme/[/red]", "acme/[link=http://evil]x[/link]", "a/:boom:"])
def test_a_name_is_no_markup(name: str) -> None:
    view = View(look=look(flow(name)), every_seconds=2, rates={}, readiness="")
    assert [line for line in shown(view, 100, 24) if name in line]


def test_what_keeps_it_from_capturing_is_told() -> None:
    view = View(look=look(), every_seconds=2, rates={}, readiness="the database is away")
    assert "✗ not capturing: the database is away" in shown(view, 80, 24)[0]
    unasked = View(look=look(), every_seconds=2, rates={}, readiness=None)
    assert "capturing" not in shown(unasked, 80, 24)[0]


@pytest.mark.parametrize(
    ("is_shared", "heard", "told"),
    [(True, (), True), (True, (False,), True), (True, (False, True), False), (False, (), False)],
)
def test_that_no_daemon_is_heard_of_is_told(
    is_shared: bool, heard: Sequence[bool], told: bool
) -> None:
    daemons = [
        Report(
            daemon="a",
            started_at=NOW,
            heard_at=NOW,
            is_heard=one,
            captures=[],
            could_capture=1,
            unheard=[],
        )
        for one in heard
    ]
    view = View(
        look=replace(look(), daemons=daemons),
        every_seconds=2,
        rates={},
        readiness=None,
        is_shared=is_shared,
    )
    assert ("✗ no daemon is reporting" in shown(view, 80, 24)[0]) == told


def test_that_flows_have_no_stream_is_told() -> None:
    daemon = Report(
        daemon="a",
        started_at=NOW,
        heard_at=NOW,
        is_heard=True,
        captures=["a", "private/7"],
        could_capture=2,
        unheard=["private/7"],
    )
    flows = [flow("a"), flow("private/7/8"), flow("private/7/9")]
    found = replace(look(*flows), daemons=[daemon])
    view = View(look=found, every_seconds=2, rates={}, readiness=None)
    assert "✗ 2 flows without a stream" in shown(view, 80, 24)[0]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 24), (60, 10)])
def test_the_gaps_that_stay_are_told_and_why(width: int, height: int) -> None:
    flows = [flow(f"acme/{number}", gaps=1) for number in range(50)]
    flows.append(replace(flow("acme/le\x1bft", gaps=3), joined=False))
    flows.append(replace(flow("acme/old", gaps=2), disabled=True))
    flows.append(replace(flow("acme/whole"), joined=False))
    view = View(look=look(*flows), every_seconds=2, rates={}, readiness=None)
    lines = shown(view, width, height)
    assert len(lines) == height
    assert max(map(len, lines)) <= width
    why = "acme/le␛ft (no account can read it), acme/old (the flow is disabled)"
    told = f" the gaps of 2 flows cannot be filled: {why}"
    assert lines[-2].rstrip() == (told if width > len(told) else f"{told[: width - 1]}…")
    left = 53 - (height - 7)
    assert lines[-1].startswith(f" {left} more, {left - 1} behind")


def test_the_gaps_that_stay_because_the_settings_exclude_the_flow_are_told() -> None:
    found = replace(look(flow("acme/a", gaps=1), flow("acme/b")), excluded=["acme/a", "acme/b"])
    view = View(look=found, every_seconds=2, rates={}, readiness=None)
    why = "acme/a (the settings exclude it (flows, private))"
    assert f" the gaps of 1 flow cannot be filled: {why}" in shown(view, 100, 24)[-2]


async def test_while_the_database_is_away_the_last_view_stays() -> None:
    answers: list[Look | Exception] = [
        look(flow("a")),
        OperationalError("SELECT", {}, Exception("gone")),
        look(flow("a"), at=NOW + timedelta(seconds=2)),
    ]

    async def read() -> Look:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def count(last: Look) -> Mapping[str, int]:
        return {one.flow: 5 for one in last.flows}

    seen = []
    async for view in views(read, count, every_seconds=0.01, listen=None):
        seen.append((len(view.look.flows), bool(view.trouble), view.rates))
        if not answers:
            break
    assert seen == [(1, False, {}), (1, True, {}), (1, False, {"a": 2.5})]


async def test_a_daemon_that_does_not_answer_is_told() -> None:
    async with ClientSession() as session:
        assert await ask_readiness(session, "127.0.0.1:9") == "nothing answers at 127.0.0.1:9"


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal of 80 columns: our side, and the side for a process, which the test closes."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    yield ours, its
    os.close(ours)


def read(ours: int, *, until: Callable[[bytes], bool] = lambda _: False) -> bytes:
    """Read from a terminal until *until* holds, nobody can write to it, or a minute is over."""
    told, over = b"", time.monotonic() + 60
    while not until(told) and select.select([ours], [], [], max(0.0, over - time.monotonic()))[0]:
        try:
            told += os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
    return told


def is_drawn(told: bytes) -> bool:
    return told.count(b"Flowdock archiver") >= 3


def test_on_a_terminal_it_shows_again_and_again_and_ctrl_c_is_no_error(
    starter: Starter, environ: dict[str, str], database_url: str, terminal: tuple[int, int]
) -> None:
    ours, its = terminal
    settings = environ | {"ARCHIVER_DATABASE_URL": database_url, "TERM": "xterm"}
    with starter.start(WATCH, settings, its, its, its) as process:
        os.close(its)
        told = read(ours, until=is_drawn)
        process.send_signal(signal.SIGINT)
        told += read(ours)
        assert process.wait() == 0
    assert is_drawn(told)
    assert b"\x1b[?25h" in told[-30:]  # the cursor is shown again
    assert b"Traceback" not in told


def test_on_a_terminal_that_cannot_be_drawn_over_the_table_is_printed_again_and_again(
    starter: Starter, environ: dict[str, str], database_url: str, terminal: tuple[int, int]
) -> None:
    ours, its = terminal
    settings = environ | {"ARCHIVER_DATABASE_URL": database_url, "TERM": "dumb"}
    with starter.start(WATCH, settings, its, its, its) as process:
        os.close(its)
        told = read(ours, until=lambda told: told.count(b"0 flows, 0 events") >= 2)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert told.count(b"0 flows, 0 events") >= 2
    assert b"\x1b" not in told


PROGRESS = """
import time
from archiver.cli.progress import shown_progress
with shown_progress(quiet=False) as tell:
    tell(0.5, "Flowdock archiver" * 3)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("command", "taken", "given_back"),
    [
        (["-m", "archiver", *WATCH], b"\x1b[?1049h", b"\x1b[?1049l"),
        (["-c", PROGRESS], b"\x1b[?25l", b"\x1b[?25h"),
    ],
)
def test_while_ctrl_z_holds_it_the_terminal_is_as_before(
    environ: dict[str, str],
    database_url: str,
    terminal: tuple[int, int],
    command: list[str],
    taken: bytes,
    given_back: bytes,
) -> None:
    ours, its = terminal
    settings = environ | {"ARCHIVER_DATABASE_URL": database_url, "TERM": "xterm"}
    # SIGTSTP does not stop an orphaned process group: the parent must be in the same session.
    with subprocess.Popen(
        [sys.executable, *command],
        stdin=its,
        stdout=its,
        stderr=its,
        env=settings,
        process_group=0,
    ) as process:
        os.close(its)
        told = read(ours, until=is_drawn)
        process.send_signal(signal.SIGTSTP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        told += read(ours, until=lambda told: given_back in told)
        cursor = told.rfind(b"\x1b[?25h") > told.rfind(b"\x1b[?25l")
        held = cursor and told.rfind(given_back) > told.rfind(taken)
        process.send_signal(signal.SIGCONT)
        again = read(ours, until=lambda told: taken in told)
        process.send_signal(signal.SIGINT)
        read(ours)
    assert is_drawn(told)
    assert (os.WIFSTOPPED(status), held, taken in again) == (True, True, True)
