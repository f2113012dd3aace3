"""A virtual machine with a Postgres whose power can be cut, and a disk that has a write cache.

::

    QEMU: a Debian kernel, ext4,        nbdkit:                       a file:
    the archiver's private Postgres ──▶ the disk's write cache ─────▶ what the disk keeps
    with the settings it has anyway     (in memory)         on flush

A cut kills both QEMU and nbdkit with SIGKILL. All memory of the guest is lost, including pages that
its kernel had not written, and so is all that was written to its disk since the last flush. Only
what was flushed is kept. This is harsher than killing the database, after which the kernel still
writes its pages, and harsher than killing only QEMU, after which the host still writes what the
guest's disk was given.
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
"""The timeout of a boot, which takes a minute on a busy machine."""

OURS = {
    "listen_addresses": "0.0.0.0",
    "unix_socket_directories": "/tmp",
    "hba_file": "/pg_hba.conf",
}
"""The settings that a server in a virtual machine needs besides the archiver's own."""


class ServerEnded(Exception):
    """The machine booted but Postgres in it did not start; the message is the machine's output."""


class Machine:
    """One machine with its disk in *home*; at first, it is off and its archive is empty."""

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
        """The URL of the archive for sessions from outside the machine."""
        return f"postgresql://archiver@127.0.0.1:{self._port}/archiver"

    def boot(self, settings: Mapping[str, str]) -> float:
        """Switch on and wait until the archive answers; returns how many seconds that took.

        The *settings* of Postgres override the archiver's own.

        Raises:
            ServerEnded: Postgres refuses to start.
            OSError: the machine does not boot; the message is its output.
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
        """Cut the power: the disk's first, so that no more writes reach it, then the rest."""
        for process in self._running:
            process.kill()
        for process in self._running:
            process.wait()
        self._running = []

    def console(self) -> str:
        """The output of the machine since it was switched on."""
        return (self._home / "console.log").read_text(errors="replace")

    def _make_disk(self) -> None:
        # The cluster is made outside the machine; mounting its disk here would need root.
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
        # A write cache like a disk's: written out on a flush, lost without power.
        disk = subprocess.Popen([*command, "cache=writeback"], stdin=subprocess.DEVNULL)
        while not door.exists():
            if disk.poll() is not None:
                raise OSError(f"nbdkit ended with status {disk.returncode}")
            time.sleep(0.01)
        return disk

    def _start_guest(self) -> subprocess.Popen[bytes]:
        network = f"user,id=net,hostfwd=tcp:127.0.0.1:{self._port}-{GUEST}:5432"
        disk = f"file=nbd:unix:{self._home}/disk.sock,format=raw,if=virtio,cache=writeback"
        # No process that we start may outlive us.
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
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
