"""The further processes of a daemon: one alone uses one core, however many there are.

Each is a daemon with a share of the flows (`archiver.ingest.leases`): the command line of the first
again, with a number behind it. What systemd is to the first, that one is to them: it is told by
sd_notify(3) how they are, kills one that does not feed the watchdog, and starts one anew that has
ended; until then the others have its flows. Their standard input is a pipe from the first: when it
closes, however the first has ended, they end as well.
"""

import asyncio
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import AF_UNIX, SOCK_DGRAM, socket
from typing import NoReturn

from typing_extensions import override

from archiver.errors import ArchiverError
from archiver.observing.health import STUCK_SECONDS, ProcessTally
from archiver.observing.systemd import WELL

log = logging.getLogger(__name__)

ROUND_SECONDS = 1.0
AGAIN_SECONDS = 5.0
"""How long one that has ended is left alone: its flows are in good hands."""
LEAVE_SECONDS = 0.5
"""How long one that is told to stop may take."""


def same_command() -> tuple[str, ...]:
    """The command line of this process."""
    return (sys.executable, *sys.orig_argv[1:])


class Processes:
    """All processes of a daemon but the first; `keep` must run."""

    def __init__(
        self,
        count: int,
        *,
        command: Sequence[str],
        watchdog_seconds: float = STUCK_SECONDS,
        again_seconds: float = AGAIN_SECONDS,
    ) -> None:
        self._command = tuple(command)
        self._watchdog_seconds = watchdog_seconds
        self._again_seconds = again_seconds
        self._children = tuple(_Child(number) for number in range(2, count + 1))

    @property
    def tallies(self) -> tuple[ProcessTally, ...]:
        """How each of them is."""
        return tuple(child.tally for child in self._children)

    def reload(self) -> None:
        """Have all of them read their settings again."""
        for child in self._children:
            child.reload()

    async def keep(self, *, stop: asyncio.Event) -> None:
        """Have all of them run until *stop* is set, and end them.

        Raises:
            ArchiverError: there is no place for the sockets on which they tell how they are.
        """
        with tempfile.TemporaryDirectory(prefix="archiver-") as home:
            async with asyncio.TaskGroup() as group:
                keeping = [
                    group.create_task(self._keep(child, Path(home))) for child in self._children
                ]
                await stop.wait()
                for task in keeping:
                    task.cancel()

    async def _keep(self, child: "_Child", home: Path) -> NoReturn:
        """Start *child*, whenever it does not run."""
        with _listening(home / f"{child.tally.number}") as ear:
            way, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Ear(child), sock=ear
            )
            about = {
                "NOTIFY_SOCKET": ear.getsockname(),
                "WATCHDOG_USEC": f"{self._watchdog_seconds * 1e6:.0f}",
            }
            command = (*self._command, "--process", f"{child.tally.number}")
            try:
                while True:
                    status = await child.run(command, about, within_seconds=self._watchdog_seconds)
                    told = {"number": child.tally.number, "status": status}
                    log.error("process ended, starting it again", extra=told)
                    await asyncio.sleep(self._again_seconds)
            finally:
                way.close()


class _Child:
    """One process, and the one after it in its place."""

    def __init__(self, number: int) -> None:
        self.tally = ProcessTally(number=number)
        self._process: asyncio.subprocess.Process | None = None
        self._fed_at: float | None = None
        self._is_heard = False
        self._reloads = False

    async def run(
        self, command: Sequence[str], about: dict[str, str], *, within_seconds: float
    ) -> int:
        """Run it until it ends, by itself or for want of food *within_seconds*; its status."""
        self._fed_at, self._is_heard, self._reloads = None, False, False
        self.tally.starts += 1
        process = self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            env=os.environ | about,
            start_new_session=True,  # what a terminal signals is for the first process to hear
        )
        try:
            while process.returncode is None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), ROUND_SECONDS)
                if self._hungers(within_seconds):
                    log.error("process hangs, killing it", extra={"number": self.tally.number})
                    process.kill()
                    await process.wait()
        finally:
            self._process = None
            await _end(process)
            status = process.returncode or 0
            self.tally.is_well = False
            self.tally.status = f"ended with status {status}"
        return status

    def reload(self) -> None:
        """Have it read its settings again: at once, or as soon as it can hear that."""
        self._reloads = True
        if self._is_heard and self._process is not None:
            self._reloads = False
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGHUP)

    def hear(self, states: str, *, now: float) -> None:
        """Note what it says of itself."""
        for name, _, value in (line.partition("=") for line in states.split("\n")):
            if name == "STATUS":
                self.tally.status = value
            elif name == WELL:
                self.tally.is_well = value == "1"
                self._is_heard = True
            elif name in {"READY", "WATCHDOG"}:
                self._fed_at = now
        if self._is_heard and self._reloads:
            self.reload()

    def _hungers(self, within_seconds: float) -> bool:
        """Tell whether it is stuck; as long as it was never ready, nothing can be said."""
        if self._fed_at is None:
            return False
        return asyncio.get_running_loop().time() - self._fed_at > within_seconds


class _Ear(asyncio.DatagramProtocol):
    """Where a child is heard."""

    def __init__(self, child: _Child) -> None:
        self._child = child

    @override
    def datagram_received(self, data: bytes, addr: object) -> None:
        now = asyncio.get_running_loop().time()
        self._child.hear(data.decode(errors="replace"), now=now)


@contextmanager
def _listening(path: Path) -> Iterator[socket]:
    with socket(AF_UNIX, SOCK_DGRAM) as ear:
        try:
            ear.bind(str(path))
        except OSError as error:
            raise ArchiverError(
                f"no socket can be made at {path}: {error}; set TMPDIR to a shorter path"
            ) from error
        ear.setblocking(False)
        yield ear


async def _end(process: asyncio.subprocess.Process) -> None:
    """End it in good order, or else without."""
    for end in (process.terminate, process.kill):
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            end()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), LEAVE_SECONDS)
