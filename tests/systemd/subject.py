"""What is tested: a machine, the service on it, its archive, and the Flowdock that it archives."""

from pathlib import Path

from tests.oracle.programs import Flowdock
from tests.systemd.archive import Archive
from tests.systemd.blocks import README, as_one_shell, sections
from tests.systemd.container import Container
from tests.systemd.findings import Findings, say
from tests.systemd.service import Service

FLOWS = 30


class Subject:
    """All parts of a trial, and its findings."""

    def __init__(self, image: Path, home: Path, *, history: int) -> None:
        self.found = Findings()
        self.sections = sections(README.read_text())
        self.machine = Container(image, home)
        world = {"flows": FLOWS, "users": 20, "history": history, "history-until": "now"}
        options = [word for name, value in world.items() for word in (f"--{name}", str(value))]
        self.flowdock = Flowdock(home, *options)
        self.service = Service(self.machine)
        self.archive = Archive(self.machine.root, self.flowdock)

    def close(self) -> None:
        """Switch everything off."""
        self.machine.stop()
        self.flowdock.stop()

    def last_words(self) -> str:
        """The end of the machine's journal, which may explain a failure."""
        try:
            return self.machine.run("journalctl --no-pager -n 60", check=False)
        except Exception as error:  # noqa: BLE001  (another is on its way)
            return f"(no journal: {error})\n"

    def type(self, title: str, *, blocks: list[str] | None = None, text: str = "") -> str:
        """Type a section of the README, or only *blocks* of it, each with *text* as its input."""
        told = ""
        for script in as_one_shell(self.sections[title] if blocks is None else blocks):
            told += self.machine.run(script, text=text)
        say(f"typed: {title}")
        return told
