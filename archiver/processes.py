"""The further processes of a daemon, since one process uses only one core.

Each is a daemon with a share of the flows (`archiver.ingest.leases`), started by the command line
of the first process with a number appended. The first process supervises them as systemd supervises
the first: they report their state to it by the protocol of sd_notify(3), it kills one that does not
feed its watchdog, and it restarts one that has ended; until then the others capture its flows.

The standard input of each is a pipe from the first process: when it closes, however the first has
ended, they end as well. The pipe and the socket for the reports are inherited, so neither has a
place in the file system where it could be left behind, lost or used by others.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from socket import AF_UNIX, SOCK_DGRAM, socket, socketpair
from typing import NoReturn

from typing_extensions import override

from archiver.observing.health import STUCK_SECONDS, ProcessTally
from archiver.observing.systemd import HANDED_DOWN, WELL

log = logging.getLogger(__name__)

ROUND_SECONDS = 1.0
LEAVE_SECONDS = 0.5
"""How long a process may take to end after it was told to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """The timeouts and delays of a further process."""

    start_seconds: float = 90.0
    """How long it may take to start, unless it asks for more; the same as systemd's default."""
    watchdog_seconds: float = STUCK_SECONDS
    again_seconds: float = 5.0
    """The pause before one that has ended is restarted: others capture its flows meanwhile."""


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
        patience: Patience = Patience(),
    ) -> None:
        self._command = tuple(command)
        self._patience = patience
        self._children = tuple(_Child(number, patience) for number in range(2, count + 1))

    @property
    def tallies(self) -> tuple[ProcessTally, ...]:
        """The state of each of them."""
        return tuple(child.tally for child in self._children)

    def reload(self) -> None:
        """Have all of them read their settings again."""
        for child in self._children:
            child.reload()

    async def keep(self, *, stop: asyncio.Event) -> None:
        """Keep all of them running until *stop* is set, then end them."""
        async with asyncio.TaskGroup() as group:
            keeping = [group.create_task(self._keep(child)) for child in self._children]
            await stop.wait()
            for task in keeping:
                task.cancel()

    async def _keep(self, child: "_Child") -> NoReturn:
        """Start *child*, and restart it whenever it has ended."""
        command = (*self._command, "--process", f"{child.tally.number}")
        while True:
            await child.run(command)
            told = {"number": child.tally.number, "reason": child.tally.status}
            log.error("a process is not running: restarting it", extra=told)
            await asyncio.sleep(self._patience.again_seconds)


class _Child:
    """One further process, and in turn its successors."""

    def __init__(self, number: int, patience: Patience) -> None:
        self.tally = ProcessTally(number=number)
        self._patience = patience
        self._process: asyncio.subprocess.Process | None = None
        self._left_seconds = 0.0
        self._is_heard = False
        self._reloads = False

    async def run(self, command: Sequence[str]) -> None:
        """Start it, if that is possible, and wait until it ends; it is killed if it hangs."""
        self._left_seconds = self._patience.start_seconds
        self._is_heard, self._reloads = False, False
        self.tally.starts += 1
        try:
            async with _hearing(self) as mouth:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.PIPE,
                    pass_fds=[mouth.fileno()],
                    env=os.environ | self._surroundings(mouth),
                    start_new_session=True,  # signals from a terminal go to the first alone
                )
                await self._accompany(process)
        except OSError as error:  # as when there are too many processes already
            self.tally.status = f"cannot be started: {error.strerror}"

    def _surroundings(self, mouth: socket) -> dict[str, str]:
        """The environment variables by which it reports to us."""
        return {
            HANDED_DOWN: f"{mouth.fileno()}",
            "WATCHDOG_USEC": f"{self._patience.watchdog_seconds * 1e6:.0f}",
        }

    async def _accompany(self, process: asyncio.subprocess.Process) -> None:
        """Wait until *process* has ended; kill it if it hangs, and end it if we are cancelled."""
        self._process = process
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._kill_when_stuck(process))
                await process.wait()
                watching.cancel()
        finally:
            self._process = None
            await _end(process)
            self.tally.is_well = False
            self.tally.status = f"ended with status {process.returncode}"

    def reload(self) -> None:
        """Have it read its settings again, at once or as soon as it handles the signal."""
        self._reloads = True
        if self._is_heard and self._process is not None:
            self._reloads = False
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGHUP)

    def hear(self, states: str) -> None:
        """Take in what it reports of itself."""
        for name, _, value in (line.partition("=") for line in states.split("\n")):
            if name == "STATUS":
                self.tally.status = value
            elif name == WELL:
                self.tally.is_well = value == "1"
                self._is_heard = True
            elif name in {"READY", "WATCHDOG"}:
                self._left_seconds = self._patience.watchdog_seconds
            elif name == "EXTEND_TIMEOUT_USEC" and value.isdigit() and not self._is_heard:
                self._left_seconds = max(self._left_seconds, int(value) / 1e6)
        if self._is_heard and self._reloads:
            self.reload()

    async def _kill_when_stuck(self, process: asyncio.subprocess.Process) -> None:
        """Kill it when it has not reported for too long.

        The time is counted in our own rounds: time in which we did not run ourselves does not count
        against it.
        """
        while self._left_seconds > 0:
            round_seconds = min(ROUND_SECONDS, self._left_seconds)
            self._left_seconds -= round_seconds
            await asyncio.sleep(round_seconds)
        if process.returncode is None:
            log.error("a process hangs: killing it", extra={"number": self.tally.number})
            with suppress(ProcessLookupError):
                process.kill()


class _ReportListener(asyncio.DatagramProtocol):
    """Receives the reports of a child."""

    def __init__(self, child: _Child) -> None:
        self._child = child

    @override
    def datagram_received(self, data: bytes, addr: object) -> None:
        self._child.hear(data.decode(errors="replace"))


@asynccontextmanager
async def _hearing(child: _Child) -> AsyncIterator[socket]:
    """Receive the reports of *child* by a pair of sockets; yield the one for the child."""
    ours, theirs = socketpair(AF_UNIX, SOCK_DGRAM)
    with theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        way, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _ReportListener(child), sock=ours
        )
        try:
            yield theirs
        finally:
            way.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Terminate *process*; kill it if it does not end in time."""
    for end in (process.terminate, process.kill):
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            end()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), LEAVE_SECONDS)
