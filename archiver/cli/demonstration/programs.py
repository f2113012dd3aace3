"""Commands of the archiver in processes of their own, started as a user would start them."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from archiver.errors import ArchiverError

STOP_SECONDS = 10.0
TAIL_LINES = 12
PREFIX = "ARCHIVER_"


class ProgramEnded(ArchiverError):
    """A program that should have gone on has ended; the text holds the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A running command."""

    name: str
    log: Path
    process: subprocess.Popen[str]

    def announcement(self) -> str:
        """Wait for the first line that it prints.

        Raises:
            ProgramEnded: it ended without printing any.
        """
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            self.process.wait(STOP_SECONDS)
            self.require_running()
        return line

    def require_running(self) -> None:
        """Make sure that it is still running.

        Raises:
            ProgramEnded: it is not.
        """
        status = self.process.poll()
        if status is not None:
            told = self.log.read_text(errors="replace").rstrip("\n").split("\n")
            end = "\n".join(told[-TAIL_LINES:])
            raise ProgramEnded(
                f"{self.name} ended with status {status}; its log, {self.log}, ends:\n{end}"
            )


@contextmanager
def run_program(
    name: str, *arguments: str, settings: Mapping[str, str], log: Path
) -> Iterator[Program]:
    """Run ``archiver NAME ARGUMENTS`` while the block lasts, with these settings and no others.

    Its logs go to the file *log*.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    with log.open("w") as sink:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [*_dying_with_us(), sys.executable, "-m", "archiver", name, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
            env={**kept, **settings},
            text=True,
        )
    try:
        yield Program(name=f"archiver {name}", log=log, process=process)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        if process.stdout is not None:
            process.stdout.close()


def _dying_with_us() -> list[str]:
    """A command that has Linux stop a child when this process is killed; empty elsewhere."""
    prefix = ["setpriv", "--pdeathsig", "TERM"]
    try:
        asked = subprocess.run([*prefix, "true"], capture_output=True, check=False)  # noqa: S603
    except OSError:
        return []
    return prefix if asked.returncode == 0 else []
