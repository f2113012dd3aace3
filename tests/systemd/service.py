"""The service in a container, as systemd and its own metrics tell of it."""

import re
import urllib.request

from tests.oracle.programs import wait_until
from tests.systemd.container import Container

START_SECONDS = 180.0
PORT = 9471


class Service:
    """``archiver.service`` on *machine*, whose network is also ours."""

    def __init__(self, machine: Container) -> None:
        self._machine = machine

    def property(self, name: str) -> str:
        """What systemd knows of it."""
        return self._machine.property("archiver", name)

    def pid(self) -> str:
        """Its main process; "0" without one."""
        return self.property("MainPID")

    def group(self) -> str:
        """The control group of its processes."""
        return self.property("ControlGroup")

    def pids_in(self, group: str) -> list[str]:
        """The processes in a control group, also when systemd knows nothing of it any more."""
        # Either of the two is there: unified, or systemd's own of several hierarchies.
        places = " ".join(f"/sys/fs/cgroup{it}{group}/cgroup.procs" for it in ("", "/systemd"))
        return sorted(self._machine.run(f"cat {places} 2>/dev/null", check=False).split())

    def further_pids(self) -> list[str]:
        """All its processes but the main one."""
        main = self.pid()
        return [pid for pid in self.pids_in(self.group()) if pid != main]

    def status(self) -> str:
        """What it tells systemd of itself."""
        return self.property("StatusText")

    def user(self) -> str:
        """The number of the user that it runs as."""
        return self._machine.run(f"stat -c %u /proc/{self.pid()}").strip()

    def is_capturing(self) -> bool:
        """Tell whether it is started, and captures."""
        return self.property("ActiveState") == "active" and self.status().startswith("capturing")

    def wait_for_capture(self) -> None:
        """Wait until it captures."""
        wait_until(self.is_capturing, seconds=START_SECONDS)

    def wait_for_another(self, before: str, *, seconds: float = START_SECONDS) -> float:
        """Wait for another process than *before* that captures; returns the seconds."""

        def is_new() -> bool:
            return self.pid() not in {"0", before} and self.is_capturing()

        return wait_until(is_new, seconds=seconds)

    def wait_for_flows(self, number: float) -> None:
        """Wait until it follows so many flows."""
        wait_until(lambda: self.metric("archiver_flows") == number, seconds=60)

    def stop(self) -> float:
        """Stop it; returns how many seconds passed from telling it until it was gone."""
        self._machine.run("systemctl stop archiver")
        told, gone = (
            int(self.property(f"{name}TimestampMonotonic")) / 1e6
            for name in ("ActiveExit", "InactiveEnter")
        )
        return gone - told

    def reload(self) -> None:
        """Have it read its settings again."""
        self._machine.run("systemctl reload archiver")

    def journal(self, since: str, *options: str) -> str:
        """What is in the journal about it."""
        command = f"journalctl --no-pager -u archiver --since '{since}' -o cat {' '.join(options)}"
        return self._machine.run(command, check=False)

    def now(self) -> str:
        """The time, as the journal takes it."""
        return self._machine.run("date '+%F %T'").strip()

    def metric(self, name: str, *, port: int = PORT) -> float:
        """The sum of its figures of that name; each of its processes has a port."""
        return sum(float(line.rpartition(" ")[2]) for line in self._told(name, port))

    def release(self) -> str:
        """Which release is at work."""
        (line,) = self._told("archiver_build_info", PORT)
        return line.split('"')[1]

    def _told(self, name: str, port: int) -> list[str]:
        """The lines of its metrics about *name*."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            page: str = answer.read().decode()
        return [line for line in page.split("\n") if re.match(rf"{name}[{{ ]", line)]
