"""How this process identifies itself to other daemons, and whether their processes are running."""

import os
import socket
from pathlib import Path

from archiver.store.leases import Sharer


def this_process(key: str, *, name: str | None, lease_seconds: float) -> Sharer:
    """This process as a sharer, under a *key* that no other process ever has."""
    host = socket.gethostname()
    return Sharer(
        key=key,
        name=name or f"{host}:{os.getpid()}",
        machine=_machine(host),
        pid=os.getpid(),
        lease_seconds=lease_seconds,
    )


def is_running(pid: int) -> bool:
    """Tell whether this machine has such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it exists, but belongs to another user
    return True


def _machine(host: str) -> str:
    """A name shared by all processes that can see each other by process id: boot and namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return host
