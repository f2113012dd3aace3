"""The further processes of a daemon: one alone uses one core, however many there are.

Each is a daemon with a share of the flows (`archiver.ingest.leases`): the command line of the first
again, with a number behind it. What systemd is to the first, that one is to them: it is told in the
words of sd_notify(3) how they are, kills one that does not feed the watchdog, and starts one anew
that has ended; until then the others have its flows. Their standard input is a pipe from the first:
when it closes, however the first has ended, they end as well. The pipe and the socket for words are
handed down: nothing of them lies anywhere that could be left behind, lost or entered by others.
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
"""How long one that is told to stop may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long each thing may take."""

    start_seconds: float = 90.0
    """Until it is at work, unless it asks for more; as much as systemd gives."""
    watchdog_seconds: float = STUCK_SECONDS
    again_seconds: float = 5.0
    """How long one that has ended is left alone: its flows are in good hands."""


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
        """How each of them is."""
        return tuple(child.tally for child in self._children)

    def reload(self) -> None:
        """Have all of them read their settings again."""
        for child in self._children:
            child.reload()

    async def keep(self, *, stop: asyncio.Event) -> None:
        """Have all of them run until *stop* is set, and end them."""
        async with asyncio.TaskGroup() as group:
            keeping = [group.create_task(self._keep(child)) for child in self._children]
            await stop.wait()
            for task in keeping:
                task.cancel()

    async def _keep(self, child: "_Child") -> NoReturn:
        """Start *child*, whenever it does not run."""
        command = (*self._command, "--process", f"{child.tally.number}")
        while True:
            await child.run(command)
            told = {"number": child.tally.number, "reason": child.tally.status}
            log.error("process does not run, starting it again", extra=told)
            await asyncio.sleep(self._patience.again_seconds)


class _Child:
    """One process, and the one after it in its place."""

    def __init__(self, number: int, patience: Patience) -> None:
        self.tally = ProcessTally(number=number)
        self._patience = patience
        self._process: asyncio.subprocess.Process | None = None
        self._left_seconds = 0.0
        self._is_heard = False
        self._reloads = False

    async def run(self, command: Sequence[str]) -> None:
        """Run it until it ends, by itself or because it hangs, if it can be started at all."""
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
                    start_new_session=True,  # what a terminal signals is for the first to hear
                )
                await self._accompany(process)
        except OSError as error:  # as when there are too many processes already
            self.tally.status = f"cannot be started: {error.strerror}"

    def _surroundings(self, mouth: socket) -> dict[str, str]:
        """What it is told of us."""
        return {
            HANDED_DOWN: f"{mouth.fileno()}",
            "WATCHDOG_USEC": f"{self._patience.watchdog_seconds * 1e6:.0f}",
        }

    async def _accompany(self, process: asyncio.subprocess.Process) -> None:
        """Wait until *process* has ended; kill it when it hangs, and end it when we are to end."""
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
        """Have it read its settings again: at once, or as soon as it can hear that."""
        self._reloads = True
        if self._is_heard and self._process is not None:
            self._reloads = False
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGHUP)

    def hear(self, states: str) -> None:
        """Note what it says of itself."""
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
        """Kill it when it has not been heard of for too long.

        That is counted in our rounds: while we do not run, nothing can be held against it.
        """
        while self._left_seconds > 0:
            round_seconds = min(ROUND_SECONDS, self._left_seconds)
            self._left_seconds -= round_seconds
            await asyncio.sleep(round_seconds)
        if process.returncode is None:
            log.error("process hangs, killing it", extra={"number": self.tally.number})
            with suppress(ProcessLookupError):
                process.kill()


class _Ear(asyncio.DatagramProtocol):
    """Where a child is heard."""

    def __init__(self, child: _Child) -> None:
        self._child = child

    @override
    def datagram_received(self, data: bytes, addr: object) -> None:
        self._child.hear(data.decode(errors="replace"))


@asynccontextmanager
async def _hearing(child: _Child) -> AsyncIterator[socket]:
    """Hear *child*, which is to be given the socket that this yields."""
    ours, theirs = socketpair(AF_UNIX, SOCK_DGRAM)
    with theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        way, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Ear(child), sock=ours
        )
        try:
            yield theirs
        finally:
            way.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """End it in good order, or else without."""
    for end in (process.terminate, process.kill):
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            end()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), LEAVE_SECONDS)
