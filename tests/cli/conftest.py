"""The command line as people use it: a process, its output and its exit status."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment without settings; a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ARCHIVER_")}
    dropped = {"STATE_DIRECTORY", "XDG_STATE_HOME", "NO_COLOR", "COLUMNS"}
    return {**{name: kept[name] for name in kept.keys() - dropped}, "HOME": str(tmp_path)}


@pytest.fixture
def archiver(environ: dict[str, str]) -> Run:
    """Run the command line with arguments, and settings as keywords."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "archiver.cli.main", *arguments],
            env=environ | settings,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def on_terminal(arguments: Sequence[str], environ: dict[str, str]) -> str:
    """What the command shows on a terminal of its own."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "archiver.cli.main", *arguments]
    process = subprocess.Popen(
        command, env=environ | {"TERM": "xterm"}, stdin=its, stdout=its, stderr=its
    )
    os.close(its)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # Linux: EIO once nobody holds the other side
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    assert process.wait() == 0
    return shown.decode().replace("\r\n", "\n")
