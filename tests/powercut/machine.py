"""A virtual machine with a Postgres whose power can be cut, and a disk that has a write cache.

::

    QEMU: a Debian kernel, ext4,        nbdkit:                       a file:
    the archiver's private Postgres ──▶ the disk's write cache ─────▶ what the disk keeps
    with the settings it has anyway     (in memory)         on flush

A cut kills both with SIGKILL. Lost is all memory of the guest, with every page that its kernel had
not written, and all that was written to its disk since the last flush. Kept is what was flushed.
This is harder than to kill the database, which leaves the kernel to write what it has, and harder
than to kill QEMU alone, which leaves the host to write what the guest's disk was given.
"""

import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg

from archiver.embedded import SETTINGS, run_server
from tests.oracle.programs import run_once
from tests.powercut.initramfs import DATA, ENDED, GUEST, make_initramfs, packed, postgres
from tests.powercut.needs import Tools

DISK_BYTES = 2 * 2**30
MEMORY_MIB = 1024
BOOT_SECONDS = 600.0
"""How long a boot may take; on a busy machine it is a minute."""

OURS = {
    "listen_addresses": "0.0.0.0",
    "unix_socket_directories": "/tmp",
    "hba_file": "/pg_hba.conf",
}
"""What a server in a virtual machine needs beside the archiver's own settings."""


class ServerEnded(Exception):
    """The machine came up, and Postgres in it did not; the message is what it told."""


class Machine:
    """One machine with its disk in *home*, where an empty archive is; it is switched off."""

    def __init__(self, home: Path, tools: Tools, *, accelerator: str = "tcg") -> None:
        self._home = home
        self._tools = tools
        self._accelerator = accelerator
        self._running: list[subprocess.Popen[bytes]] = []
        self._port = 0
        self._files = make_initramfs(Path(tools.programs["busybox"]), tools.modules)
        self._make_disk()

    @property
    def database_url(self) -> str:
        """The archive, for sessions from outside."""
        return f"postgresql://archiver@127.0.0.1:{self._port}/archiver"

    def boot(self, settings: Mapping[str, str]) -> float:
        """Switch on, and wait until the archive answers; returns how many seconds it took.

        *settings* of Postgres go over the archiver's own.

        Raises:
            ServerEnded: Postgres refuses to start.
            OSError: the machine does not come up; with what it told.
        """
        began = time.monotonic()
        self._port = free_port()
        options = {**SETTINGS, **OURS, **settings}
        command = [f"{postgres()}/bin/postgres", "-D", DATA]
        command += [f"--{name}={value}" for name, value in options.items()]
        serve = packed({"serve": f"#!/bin/busybox sh\nexec {shlex.join(command)} 2>&1\n".encode()})
        (self._home / "initramfs").write_bytes(self._files + serve)
        self._running = [self._start_disk(), self._start_guest()]
        while not self._answers():
            told = self.console()[-2000:]
            if self._running[-1].poll() is not None:
                raise (ServerEnded if ENDED in told else OSError)(told)
            if time.monotonic() - began > BOOT_SECONDS:
                raise TimeoutError(f"no answer for {BOOT_SECONDS:.0f} s: {told}")
            time.sleep(0.2)
        return time.monotonic() - began

    def cut(self) -> None:
        """Cut the power: first the disk's, so that nothing more gets there, then all other."""
        for process in self._running:
            process.kill()
        for process in self._running:
            process.wait()
        self._running = []

    def console(self) -> str:
        """What the machine has told since it was switched on."""
        return (self._home / "console.log").read_text(errors="replace")

    def _make_disk(self) -> None:
        # Whoever runs this may be no root, so nothing is mounted: the cluster is made out here.
        made = self._home / "made"
        with run_server(made / "postgres") as server:
            settings = {"ARCHIVER_DATABASE_URL": server.url}
            run_once("migrate", settings=settings).check_returncode()
        (made / "disk").mkdir()
        (made / "postgres" / "data").rename(made / "disk" / "data")
        disk = self._home / "disk"
        with disk.open("wb") as sink:
            sink.truncate(DISK_BYTES)
        command = [self._tools.programs["mke2fs"], "-q", "-F", "-t", "ext4"]
        subprocess.run([*command, "-d", made / "disk", disk], check=True)
        shutil.rmtree(made)

    def _start_disk(self) -> subprocess.Popen[bytes]:
        door = self._home / "disk.sock"
        door.unlink(missing_ok=True)
        command = [self._tools.programs["nbdkit"], "--foreground", "--exit-with-parent"]
        command += ["--unix", str(door), "--filter=cache", "file", str(self._home / "disk")]
        # A cache as disks have it: written through on a flush, and lost without power.
        disk = subprocess.Popen([*command, "cache=writeback"], stdin=subprocess.DEVNULL)
        while not door.exists():
            if disk.poll() is not None:
                raise OSError(f"nbdkit ended with status {disk.returncode}")
            time.sleep(0.01)
        return disk

    def _start_guest(self) -> subprocess.Popen[bytes]:
        network = f"user,id=net,hostfwd=tcp:127.0.0.1:{self._port}-{GUEST}:5432"
        disk = f"file=nbd:unix:{self._home}/disk.sock,format=raw,if=virtio,cache=writeback"
        # Nothing that we start may outlive us.
        command = [self._tools.programs["setpriv"], "--pdeathsig", "KILL"]
        command += [self._tools.programs["qemu-system-x86_64"], "-accel", self._accelerator]
        command += ["-cpu", "max", "-m", str(MEMORY_MIB), "-nodefaults", "-display", "none"]
        command += ["-no-reboot", "-kernel", str(self._tools.kernel)]
        command += ["-initrd", str(self._home / "initramfs")]
        command += ["-append", "console=ttyS0 quiet panic=-1", "-serial", "stdio"]
        command += ["-drive", disk, "-netdev", network]
        command += ["-device", "virtio-net-pci,netdev=net,romfile="]
        with (self._home / "console.log").open("wb") as console:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console
            )

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.database_url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
