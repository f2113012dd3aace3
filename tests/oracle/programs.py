"""The programs of a trial, started as a user would start them: the simulator and the daemon."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

PROGRAM = (sys.executable, "-m", "archiver")
JUMPING = (sys.executable, "-m", "tests.oracle.jumping")
"""The archiver, with a wall clock that the judge sets."""

ROOT = Path(__file__).parents[2]


class Flowdock:
    """A simulator in a process of its own, and its control endpoints."""

    def __init__(self, home: Path, *options: str) -> None:
        self._log = (home / "simulator.log").open("wb")
        command = [*PROGRAM, "simulate", "--json", "--port", "0", "--stream-port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log)
        assert self.process.stdout
        ready = json.loads(self.process.stdout.readline())
        self.api_url, self.stream_url = ready["api_url"], ready["stream_url"]
        self.token = ready["token"]

    def truth(self) -> Iterator[dict[str, Any]]:
        """All records of the truth."""
        with urllib.request.urlopen(f"{self.api_url}/_simulator/truth", timeout=60) as answer:
            for line in answer:
                yield json.loads(line)

    def fired(self) -> Mapping[str, int]:
        """How often each fault has fired."""
        fired: Mapping[str, int] = self._ask("faults")["fired"]
        return fired

    def stats(self) -> Mapping[str, int]:
        """The simulator's statistics about its streams."""
        stats: Mapping[str, int] = self._ask("stats")
        return stats

    def tell(self, path: str, **body: object) -> Any:
        """POST *body* to a control endpoint; returns the answer."""
        return self._ask(path, json.dumps(body).encode())

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait(10)
        self._log.close()

    def _ask(self, path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(
            f"{self.api_url}/_simulator/{path}",
            data=body,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=3600) as answer:
            return json.loads(answer.read() or b"null")


def migrate(home: Path, settings: Mapping[str, str]) -> None:
    """Create the schema, as an operator does before the first start."""
    with (home / "migrate.log").open("wb") as log:
        subprocess.run(
            [*PROGRAM, "migrate"],
            env=surroundings(settings),
            stdout=log,
            stderr=log,
            check=True,
            cwd=ROOT,
        )


def run_once(*command: str, settings: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command of the archiver until it ends, and capture its output."""
    return subprocess.run(
        [*PROGRAM, *command],
        env=surroundings(settings),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def surroundings(settings: Mapping[str, str]) -> dict[str, str]:
    """Our environment, with these settings of the archiver instead of any others.

    PYTHONDONTWRITEBYTECODE is dropped, so that modules are compiled only once, as in an
    installation; otherwise each start takes two seconds of processor time.
    """
    kept = {name: text for name, text in os.environ.items() if not name.startswith("ARCHIVER_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, **settings}


class Daemon:
    """``archiver run`` in a process of its own, which can be killed and started again."""

    def __init__(
        self,
        home: Path,
        settings: Mapping[str, str],
        *,
        program: tuple[str, ...] = (*PROGRAM, "run"),
        log: str = "archiver.log",
    ) -> None:
        self.log = home / log
        self.starts = 0
        self.peak_bytes = 0
        self._sink = self.log.open("ab")
        self._program = program
        self._environment = surroundings(settings)
        self.start()

    def start(self) -> None:
        """Start the daemon."""
        self.starts += 1
        self._is_killed = False
        self._said = self.log.stat().st_size
        self.process = subprocess.Popen(
            self._program, env=self._environment, stdout=self._sink, stderr=self._sink, cwd=ROOT
        )

    def ended(self) -> int | None:
        """The exit status if it ended by itself; None while it runs or after it was killed."""
        return None if self._is_killed else self.process.poll()

    def last_words(self) -> str:
        """What it has logged since its last start."""
        with self.log.open("rb") as log:
            log.seek(self._said)
            return log.read().decode(errors="replace")

    def kill(self) -> None:
        """Kill it without warning."""
        self.measure()
        self._is_killed = True
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> float:
        """Stop it by SIGTERM; returns how many seconds that took."""
        self.measure()
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(30)
        self.close()
        return time.monotonic() - began

    def close(self) -> None:
        """Close its log file."""
        self._sink.close()

    def further_processes(self) -> list[int]:
        """The ids of its further processes (``sharing.processes``)."""
        return further_processes(self.process.pid)

    def measure(self) -> int:
        """The peak of its memory so far, in bytes, over all starts."""
        if self.process.poll() is None:
            self.peak_bytes = max(self.peak_bytes, self._told("VmHWM"))
        return self.peak_bytes

    def resident_bytes(self) -> int:
        """The memory that it holds now; raises OSError if it does not run."""
        if self.process.poll() is not None:
            raise ProcessLookupError
        return self._told("VmRSS")

    def _told(self, what: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next((line for line in status.splitlines() if line.startswith(what)), None)
        if line is None:  # it ended a moment ago
            raise ProcessLookupError
        return int(line.split()[1]) * 1024


def further_processes(pid: int) -> list[int]:
    """The ids of the further processes of the daemon whose first process is *pid*."""
    found = []
    for children in Path("/proc").glob(f"{pid}/task/*/children"):
        with suppress(OSError):
            for child in children.read_text().split():
                if b"--process" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))  # noqa: PERF401 - what was found before one ended counts
    return found


def wait_until(holds: Callable[[], bool], *, seconds: float) -> float:
    """Wait until *holds*; returns how long it took; raises TimeoutError after *seconds*."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.2)
    return time.monotonic() - began
