"""``archiver demo``: everything at once, judged by the simulator's truth."""

import fcntl
import json
import math
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bench.processes import cpu_seconds
from tests.cli.conftest import Run
from tests.cli.forks import Starter

SMALL = ("--seconds=6", "--flows=3", "--history=400")


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def short(starter: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a demonstration no longer than it takes to see what it shows."""
    constants: dict[str, object] = {
        "archiver.cli.demonstration.performance.SHORTEST_LIVE_SECONDS": 2.0,
        "archiver.cli.demonstration.performance.CUT_SECONDS": 1.5,
        "archiver.cli.demonstration.performance.LOOK_SECONDS": 0.2,
    }
    monkeypatch.setattr(starter, "constants", constants)


@pytest.mark.usefixtures("short")
def test_the_archive_equals_the_truth_after_a_disconnection(
    archiver: Run, swift_path: Path
) -> None:
    place = str(swift_path)
    told = archiver("demo", "--json", *SMALL, ARCHIVER_DATA_DIR=place)
    assert told.returncode == 0, told.stderr + told.stdout
    *progress, result = [json.loads(line) for line in told.stdout.splitlines()]
    assert result["equal"] is True
    assert result["differences"] == 0
    assert result["flows"] == 3
    assert result["messages"] > 400
    assert result["events"] >= 400
    assert result["gaps_left"] == 0
    assert result["disconnections"] == 1
    assert {line["phase"] for line in progress} >= {"archiving", "cut off", "settling"}

    counted = "SELECT count(*) AS messages FROM messages"
    asked = archiver("sql", "--demo", "--json", counted, ARCHIVER_DATA_DIR=place)
    assert json.loads(asked.stdout)["messages"] >= result["messages"]


@pytest.mark.usefixtures("short")
def test_a_database_of_the_users_own_is_left_alone(archiver: Run, swift_path: Path) -> None:
    told = archiver(
        "demo",
        *SMALL,
        ARCHIVER_DATA_DIR=str(swift_path),
        ARCHIVER_DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing",
    )
    assert told.returncode == 0, told.stderr + told.stdout
    assert "The archive equals the truth." in told.stdout
    assert "sql --demo" in told.stdout
    assert sorted(one.name for one in swift_path.iterdir()) == ["demo"]


def test_on_a_terminal_it_ends_with_all_it_started(
    environ: dict[str, str], swift_path: Path
) -> None:
    controller, terminal = pty.openpty()
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-m", "archiver", "demo", "--seconds=600", *SMALL[1:]],
        env=environ | {"ARCHIVER_DATA_DIR": str(swift_path), "TERM": "xterm-256color"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        # Tests may run in the background, with SIGINT ignored, which a process inherits.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        os.close(terminal)
        try:
            while b"streaming" not in shown:
                shown += os.read(controller, 65536)
            started = children(process.pid)
            told_at = -math.inf
            while True:
                if time.monotonic() - told_at > 10:  # as a person would who sees no effect
                    told_at = time.monotonic()
                    process.send_signal(signal.SIGINT)
                try:
                    if not (chunk := os.read(controller, 65536)):
                        break
                    shown += chunk
                except OSError:
                    break
            status = process.wait(60)
        finally:
            process.kill()  # it would wait for ever until somebody reads its output
    os.close(controller)
    assert status == 130
    assert len(started) >= 3
    assert "acme/main" in shown.decode(errors="replace")
    assert b"stopped; nothing was compared" in shown
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_it_can_be_stopped_while_the_history_is_made(
    environ: dict[str, str], swift_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "archiver", "demo", "--history=1000000"],
        env=environ | {"ARCHIVER_DATA_DIR": str(swift_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        try:
            socket = swift_path / "demo/postgres/run/.s.PGSQL.5432"
            # It has its database, and waits for the simulator, which is still making the history.
            while not (socket.exists() and simulates(process.pid)):
                assert process.poll() is None
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            told, _ = process.communicate(timeout=15)
        finally:
            process.kill()
    assert process.returncode == 130
    assert b"stopped; nothing was compared" in told


def simulates(pid: int) -> bool:
    """Tell whether a child of the process has simulated for longer than its start takes."""
    return any(
        cpu_seconds(child) > 3 and b"simulate" in Path(f"/proc/{child}/cmdline").read_bytes()
        for child in children(pid)
    )


def test_a_second_demonstration_in_one_place_is_refused(archiver: Run, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    with (tmp_path / "demo/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = archiver("demo", *SMALL, ARCHIVER_DATA_DIR=str(tmp_path))
    assert told.returncode == 2
    assert "another demo is running in" in told.stderr
