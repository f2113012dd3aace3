"""Reports the daemon's state to systemd by sd_notify(3), with the standard library alone.

READY is sent when the daemon captures at least one account: an account whose token is refused must
not make the start fail for the others. Until then, systemd is asked again and again to extend the
timeout of the start. The watchdog is fed only while the writer comes round: a process that merely
exists is of no use.
"""

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NoReturn

from archiver.observing.health import Observed, captures_any, is_alive, problems, summarize

ROUND_SECONDS = 1.0
PATIENCE_SECONDS = 30.0
"""How much longer systemd is asked to wait for READY each time."""
OPENING_SECONDS = 900.0
HANDED_DOWN = "X_NOTIFY_FD"
"""Our own variable: an inherited non-blocking socket for reports to the process that started us."""
OWN = ("NOTIFY_SOCKET", HANDED_DOWN, "WATCHDOG_USEC", "WATCHDOG_PID")
"""The variables for a supervised process itself, which must not pass them to its children."""
WELL = "X_WELL"
"""A state of our own: 1 if nothing is wrong with this process, otherwise 0."""


class Notifier:
    """Sends reports to systemd; without systemd, it does nothing."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # An abstract socket: its name starts with a NUL.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        handed_down = environ.get(HANDED_DOWN)
        self._handed_down = int(handed_down) if handed_down else None
        pid = environ.get("WATCHDOG_PID", "")
        usec = environ.get("WATCHDOG_USEC", "") if pid in {"", str(os.getpid())} else ""
        self.watchdog_seconds = int(usec) / 1e6 if usec.isdigit() else 0.0
        """The timeout of the watchdog; 0 when there is none."""
        self.is_ready = False

    def tell(self, *states: str) -> None:
        """Send *states* to systemd, each as NAME=value."""
        told = "\n".join(states).encode()
        with suppress(OSError):  # a systemd that does not listen is no reason to stop
            if self._handed_down is not None:
                os.write(self._handed_down, told)
            elif self._address:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as way:
                    way.setblocking(False)
                    way.sendto(told, self._address)

    def starting(self) -> None:
        """Report that the database is being opened; a recovery after a crash takes a while."""
        self.tell(_wait(OPENING_SECONDS), "STATUS=opening the database")

    def ready(self) -> None:
        """Report that the daemon captures."""
        self.is_ready = True
        self.tell("READY=1")

    def reloading(self) -> None:
        """Report that settings are being read again; `reloaded` must follow."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """Report that the settings have been read."""
        if self.is_ready:
            self.tell("READY=1")

    def stopping(self) -> None:
        """Report that the daemon ends because it was told to."""
        self.tell("STOPPING=1", "STATUS=stopping")


async def keep_telling(notifier: Notifier, observed: Observed) -> NoReturn:
    """Report to systemd when the daemon captures, its status, and that it is not stuck."""
    clock = asyncio.get_running_loop().time
    watchdog = notifier.watchdog_seconds
    while True:
        now = clock()
        is_well = not problems(observed, now=now)
        states = [f"STATUS={summarize(observed, now=now)}", f"{WELL}={is_well:d}"]
        if not notifier.is_ready:
            if captures_any(observed, now=now):
                notifier.ready()
            else:
                states.append(_wait(PATIENCE_SECONDS))
        if watchdog and is_alive(observed, now=now, within_seconds=watchdog):
            states.append("WATCHDOG=1")
        notifier.tell(*states)
        await asyncio.sleep(min(ROUND_SECONDS, watchdog / 3 or ROUND_SECONDS))


def _wait(seconds: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}"
