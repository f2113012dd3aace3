"""The service in a container, as systemd and its own metrics show it."""

import re
import urllib.request

from tests.oracle.programs import wait_until
from tests.systemd.container import Container

START_SECONDS = 180.0
PORT = 9471


class Service:
    """``archiver.service`` on *machine*, whose network this process shares."""

    def __init__(self, machine: Container) -> None:
        self._machine = machine

    def property(self, name: str) -> str:
        """A property of the service as systemd reports it."""
        return self._machine.property("archiver", name)

    def pid(self) -> str:
        """The id of its main process; "0" if there is none."""
        return self.property("MainPID")

    def group(self) -> str:
        """The control group (cgroup) of its processes."""
        return self.property("ControlGroup")

    def pids_in(self, group: str) -> list[str]:
        """The ids of the processes in a control group, even one that systemd no longer knows."""
        # One of these exists: the unified hierarchy, or systemd's own among several hierarchies.
        places = " ".join(f"/sys/fs/cgroup{it}{group}/cgroup.procs" for it in ("", "/systemd"))
        return sorted(self._machine.run(f"cat {places} 2>/dev/null", check=False).split())

    def further_pids(self) -> list[str]:
        """The ids of all its processes except the main one."""
        main = self.pid()
        return [pid for pid in self.pids_in(self.group()) if pid != main]

    def status(self) -> str:
        """The status text that it reports to systemd."""
        return self.property("StatusText")

    def user(self) -> str:
        """The id of the user that it runs as."""
        return self._machine.run(f"stat -c %u /proc/{self.pid()}").strip()

    def is_capturing(self) -> bool:
        """Tell whether it is active and captures."""
        return self.property("ActiveState") == "active" and self.status().startswith("capturing")

    def wait_for_capture(self) -> None:
        """Wait until it captures."""
        wait_until(self.is_capturing, seconds=START_SECONDS)

    def wait_for_another(self, before: str, *, seconds: float = START_SECONDS) -> float:
        """Wait until a main process other than *before* captures; returns the seconds."""

        def is_new() -> bool:
            return self.pid() not in {"0", before} and self.is_capturing()

        return wait_until(is_new, seconds=seconds)

    def wait_for_flows(self, number: float) -> None:
        """Wait until it follows *number* flows."""
        wait_until(lambda: self.metric("archiver_flows") == number, seconds=60)

    def stop(self) -> float:
        """Stop it; returns how many seconds it took from the request until it was gone."""
        self._machine.run("systemctl stop archiver")
        told, gone = (
            int(self.property(f"{name}TimestampMonotonic")) / 1e6
            for name in ("ActiveExit", "InactiveEnter")
        )
        return gone - told

    def reload(self) -> None:
        """Reload its settings."""
        self._machine.run("systemctl reload archiver")

    def journal(self, since: str, *options: str) -> str:
        """Its entries in the journal."""
        command = f"journalctl --no-pager -u archiver --since '{since}' -o cat {' '.join(options)}"
        return self._machine.run(command, check=False)

    def now(self) -> str:
        """The time, in the format that the journal takes."""
        return self._machine.run("date '+%F %T'").strip()

    def metric(self, name: str, *, port: int = PORT) -> float:
        """The sum of its samples of a metric; each of its processes has its own *port*."""
        return sum(float(line.rpartition(" ")[2]) for line in self._told(name, port))

    def release(self) -> str:
        """The release that is running."""
        (line,) = self._told("archiver_build_info", PORT)
        return line.split('"')[1]

    def _told(self, name: str, port: int) -> list[str]:
        """The lines of its metrics page about *name*."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            page: str = answer.read().decode()
        return [line for line in page.split("\n") if re.match(rf"{name}[{{ ]", line)]
