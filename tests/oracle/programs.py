"""The programs that a trial needs, as a user would start them: the simulator and the daemon."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

PROGRAM = (sys.executable, "-m", "archiver.cli.main")


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
        """What the simulator says of its streams."""
        stats: Mapping[str, int] = self._ask("stats")
        return stats

    def tell(self, path: str, **body: object) -> Any:
        """Post to a control endpoint."""
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


class Daemon:
    """``archiver run`` in a process of its own; it may be killed and started again."""

    def __init__(self, home: Path, settings: Mapping[str, str]) -> None:
        self._log = (home / "archiver.log").open("ab")
        kept = {name: text for name, text in os.environ.items() if not name.startswith("ARCHIVER_")}
        self._environment = {**kept, **settings}
        self.peak_bytes = 0
        subprocess.run([*PROGRAM, "migrate"], env=self._environment, stderr=self._log, check=True)
        self.start()

    def start(self) -> None:
        """Start the daemon."""
        self.process = subprocess.Popen(
            [*PROGRAM, "run"], env=self._environment, stdout=self._log, stderr=self._log
        )

    def kill(self) -> None:
        """Kill it without warning."""
        self.measure()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> float:
        """Tell it to stop; returns how many seconds it took."""
        self.measure()
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(30)
        self._log.close()
        return time.monotonic() - began

    def measure(self) -> int:
        """The most memory that it has held so far, in bytes."""
        if self.process.poll() is not None:
            return self.peak_bytes
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        self.peak_bytes = max(self.peak_bytes, int(peak.split()[1]) * 1024)
        return self.peak_bytes


def wait_until(holds: Callable[[], bool], *, seconds: float) -> float:
    """Wait for *holds*; returns how long it took, and raises TimeoutError past *seconds*."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.2)
    return time.monotonic() - began
