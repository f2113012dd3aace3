"""A container with its own systemd, which can be rebooted like a machine."""

import subprocess
import time
from pathlib import Path

from tests.oracle.programs import wait_until

BOOT_SECONDS = 120.0
NAME = "archive"


class CommandFailed(Exception):
    """A command in the container failed; the message is its output."""


class Container:
    """The machine in *home*, unpacked from *image*; it shares the network of this process."""

    def __init__(self, image: Path, home: Path) -> None:
        self.root = home / "machine"
        self.root.mkdir()
        subprocess.run(["tar", "-C", self.root, "-xpf", image], check=True)
        # Like Debian's installer.
        (self.root / "etc/hostname").write_text(f"{NAME}\n")
        (self.root / "etc/hosts").write_text(
            f"127.0.0.1 localhost\n127.0.1.1 {NAME}.example.com {NAME}\n::1 localhost\n"
        )
        self._console = (home / "console.log").open("wb")
        self._process: subprocess.Popen[bytes] | None = None

    def boot(self) -> float:
        """Boot the machine; returns how many seconds it took."""
        command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot"]
        command += ["--directory", str(self.root), f"--hostname={NAME}", "--console=pipe"]
        command += ["--resolv-conf=off", "--timezone=off"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._console, stderr=self._console
        )
        return wait_until(self._is_up, seconds=BOOT_SECONDS)

    def reboot(self) -> float:
        """Reboot cleanly; returns how many seconds it took until the machine was up again."""
        began = time.monotonic()
        self.run("systemctl reboot --no-block")
        # Without a unit of its own, nspawn ends on a reboot and must be started again.
        assert self._process
        self._process.wait(BOOT_SECONDS)
        self.boot()
        return time.monotonic() - began

    def run(self, script: str, *, text: str = "", check: bool = True) -> str:
        """Run *script* in a shell as root, with *text* as its input; returns its output.

        Raises:
            CommandFailed: with *check*, if the exit status is not 0.
        """
        leader = self._leader()
        assert leader is not None, "the container has ended"
        command = ["nsenter", "--target", str(leader), "--all", "--root", "--wd"]
        clean = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        clean |= {"HOME": "/root", "LANG": "C.UTF-8", "SHELL": "/bin/bash"}
        done = subprocess.run(
            [*command, "/bin/bash", "-euo", "pipefail", "-c", f"cd\n{script}"],
            input=text.encode(),
            env=clean,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=900,
        )
        told = done.stdout.decode(errors="replace")
        if check and done.returncode != 0:
            raise CommandFailed(f"status {done.returncode} of:\n{script}\n{told}")
        return told

    def property(self, unit: str, name: str) -> str:
        """A property of *unit* as systemd reports it."""
        return self.run(f"systemctl show --value --property={name} {unit}").strip()

    def stop(self) -> None:
        """Shut the machine down, and wait for it."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()  # nspawn shuts its system down cleanly
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._console.close()

    def _leader(self) -> int | None:
        """The id, outside, of the container's process 1."""
        assert self._process
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        found = children.read_text().split()
        return int(found[0]) if found else None

    def _is_up(self) -> bool:
        try:
            state = self.run("systemctl is-system-running", check=False).strip()
        except (AssertionError, OSError):
            return False
        return state in {"running", "degraded"}
