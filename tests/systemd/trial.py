"""One machine's life: installed, hurt, upgraded, rebooted, restored; then the truth."""

import re
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.oracle.programs import Flowdock, wait_until
from tests.systemd.archive import Archive
from tests.systemd.blocks import README, as_one_shell, sections
from tests.systemd.container import Container
from tests.systemd.findings import Findings, say
from tests.systemd.image import wheel
from tests.systemd.service import START_SECONDS, Service

RELEASES = ("0.1.0", "0.2.0")
"""As deploy/README.md has them."""

NEXT_MIGRATION = '''"""A schema that the release before does not know."""

from alembic import op

revision = "9999"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("COMMENT ON SCHEMA store IS 'of the next release'")


def downgrade() -> None:
    op.execute("COMMENT ON SCHEMA store IS NULL")
'''

FLOWS = 30
STOP_SECONDS = 1.0
WATCHDOG_SECONDS = 120.0
SETTLE_SECONDS = 600.0
MOST_EXPOSED = 1.5
UNITS = ("archiver.service", "archiver-verify.service", "archiver-verify.timer")
INSTANCES = ("archiver@club.service", "archiver-verify@club.service", "archiver-verify@club.timer")


class Trial:
    """A simulated Flowdock, the machine, and what was found."""

    def __init__(self, image: Path, home: Path, *, history: int, rate: float) -> None:
        self.found = Findings()
        self._home = home
        self._traffic = {"seed": 1, "events": 0, "rate": rate}
        self._sections = sections(README.read_text())
        self._machine = Container(image, home)
        self._flowdock = Flowdock(
            home,
            "--flows",
            str(FLOWS),
            "--users",
            "20",
            "--history",
            str(history),
            "--history-until",
            "now",
        )
        self._service = Service(self._machine)
        self._archive = Archive(self._machine.root, self._flowdock)

    def close(self) -> None:
        """Switch everything off."""
        self._machine.stop()
        self._flowdock.stop()

    def last_words(self) -> str:
        """What may tell why something did not go on."""
        try:
            return self._machine.run("journalctl --no-pager -n 60", check=False)
        except Exception as error:  # noqa: BLE001  (another is on its way)
            return f"(no journal: {error})\n"

    def run(self) -> None:
        """All of it."""
        say(f"up after {self._machine.boot():.1f} s")
        self._install()
        self._inspect_units()
        self._use()
        self._kill()
        self._reload()
        self._lose_the_database()
        self._back_up()
        self._hang()
        self._stop()
        self._upgrade()
        self._reboot()
        moment = datetime.now(UTC)
        time.sleep(2)
        self._downgrade()
        self._restore()
        self._go_back(moment)
        self._compare()
        say(f"{len(self.found.failed)} failed" if self.found.failed else "all as it should be")

    def _install(self) -> None:
        versions = Path(README.parents[1], "migrations", "versions").glob("0*.py")
        following = NEXT_MIGRATION.format(head=max(path.name for path in versions)[:4])
        root = self._machine.root / "root"
        wheel(RELEASES[0], root)
        wheel(RELEASES[1], root, migration=following)
        began = time.monotonic()
        for title in ("The program", "The database"):
            self._type(title)
        *before, token = self._sections["Settings and secrets"][:2]
        self._type("Settings and secrets", blocks=before)
        self._point_at_simulator()
        self._type("Settings and secrets", blocks=[token], text=f"{self._flowdock.token}\n")
        told = self._type("Settings and secrets", blocks=self._sections["Settings and secrets"][2:])
        self.found.claim("archiver check finds that all works", "all works" in told, told)
        self.found.figure("install_seconds", time.monotonic() - began)
        began = time.monotonic()
        self._type("Start")
        self.found.figure("start_seconds", time.monotonic() - began)
        status = self._service.status()
        self.found.claim("started means capturing", status.startswith("capturing"), status)
        self.found.claim("it is active", self._service.property("ActiveState") == "active")

    def _point_at_simulator(self) -> None:
        """What an operator would edit in the settings."""
        path = self._machine.root / "etc/archiver/archiver.toml"
        text = path.read_text()
        # Short request lines, so that there are several streams, of which a reload changes one.
        for key, value in {
            "api_url": f'"{self._flowdock.api_url}"',
            "stream_url": f'"{self._flowdock.stream_url}"',
            "request_line_bytes": "256",
            "requests_per_second": "200",
        }.items():
            text = re.sub(rf"^#{key} = .*$", f"{key} = {value}", text, count=1, flags=re.MULTILINE)
        # The other key of that name is the audit's.
        text = text.replace("\n#requests_per_second = 2\n", "\nrequests_per_second = 200\n")
        path.write_text(text)

    def _inspect_units(self) -> None:
        self._type("Several accounts, several archives")
        for unit in (*UNITS, *INSTANCES):
            told = self._machine.run(f"systemd-analyze verify --man=no {unit}", check=False)
            self.found.claim(f"systemd-analyze verify {unit} says nothing", told == "", told)
        for unit in ("archiver", "archiver-verify", "archiver@club", "archiver-verify@club"):
            told = self._machine.run(
                f"systemd-analyze security --no-pager {unit}.service | tail -1"
            )
            found = re.search(r": ([\d.]+) ", told)
            exposure = float(found[1]) if found else 10.0
            self.found.figure(f"exposure_{unit}", exposure)
            self.found.claim(
                f"{unit} is exposed {MOST_EXPOSED} at most", exposure <= MOST_EXPOSED, told
            )

    def _use(self) -> None:
        run = self._machine.run
        asked = "SELECT $$two words and a $$ || current_user AS told"
        told = run(f"archiver sql --csv '{asked}'")
        self.found.claim(
            "the commands take any argument", "two words and a archiver_writer" in told, told
        )
        told = run("archiver gaps --wrong 2>&1 || echo status $?")
        self.found.claim("the commands hand their status on", "status 2" in told, told)
        wait_until(self._archive.is_settled, seconds=SETTLE_SECONDS)
        told = run("systemctl start archiver-verify; systemctl show -p Result archiver-verify")
        self.found.claim(
            "the night's verification finds all proven", "Result=success" in told, told
        )
        memory = self._service.metric("process_resident_memory_bytes") / 2**20
        self.found.figure("daemon_mib", memory)
        self.found.claim("metrics are told, of the process too", memory > 0)
        self.found.claim("the daemon is not root", self._service.user() not in {"", "0"})
        for name, value in self._archive.sizes():
            self.found.figure(name, value)
        self._flowdock.tell("play", **self._traffic)

    def _kill(self) -> None:
        before = self._service.pid()
        self._machine.run("systemctl kill --kill-whom=main --signal=KILL archiver")
        self.found.figure("restarted_after_kill_seconds", self._service.wait_for_another(before))
        count = self._service.property("NRestarts")
        self.found.claim("after kill -9 it is started anew", count == "1", count)

    def _hang(self) -> None:
        before = self._service.pid()
        began = time.monotonic()
        since = self._service.now()
        self._machine.run(f"kill -STOP {before}")
        self._service.wait_for_another(before, seconds=WATCHDOG_SECONDS + START_SECONDS)
        self.found.figure("restarted_after_hang_seconds", time.monotonic() - began)
        told = self._service.journal(since)
        self.found.claim(
            "a hang ends by the watchdog", "Failed with result 'watchdog'" in told, told
        )
        self.found.claim("no core is left", "code=dumped" not in told, told)

    def _reload(self) -> None:
        before, opened = self._service.pid(), self._service.metric("archiver_streams_opened_total")
        streams = self._service.metric("archiver_streams")
        self.found.claim("there are several streams", streams > 1, str(streams))
        path = self._machine.root / "etc/archiver/archiver.toml"
        text = path.read_text()
        self._service.reload()
        time.sleep(2)
        self.found.claim(
            "a reload that changes nothing keeps all streams",
            self._service.metric("archiver_streams_opened_total") == opened
            and self._service.pid() == before,
        )
        flow = self._archive.flow()
        followed = self._service.metric("archiver_flows")
        for flows, number in ((f'["*", "!{flow}"]', followed - 1), ('["*"]', followed)):
            path.write_text(
                re.sub(r"^#flows = .*$", f"flows = {flows}", text, count=1, flags=re.MULTILINE)
            )
            self._service.reload()
            self._service.wait_for_flows(number)
        again = self._service.metric("archiver_streams_opened_total") - opened
        self.found.figure("streams", streams)
        self.found.figure("streams_opened_by_two_reloads", again)
        self.found.claim("a reload keeps the streams that it does not change", again < 2 * streams)
        self.found.claim("a reload keeps the process", self._service.pid() == before)
        path.write_text(text)

    def _lose_the_database(self) -> None:
        before, since = self._service.pid(), self._service.now()
        self._machine.run("systemctl stop postgresql")
        wait_until(lambda: self._service.status().startswith("not capturing"), seconds=60)
        time.sleep(5)
        self._machine.run("systemctl start postgresql")
        wait_until(lambda: self._service.status().startswith("capturing"), seconds=120)
        self.found.claim(
            "an outage of the database does not restart it", self._service.pid() == before
        )
        warnings = self._service.journal(since, "--priority=warning")
        all_ = self._service.journal(since)
        self.found.claim("warnings are warnings in the journal", " warning " in warnings, warnings)
        self.found.claim("what is no warning is none", " info " not in warnings, warnings)
        self.found.claim(
            "levels are told, not shown", not re.search(r"^<\d>", all_, re.MULTILINE), all_
        )

    def _back_up(self) -> None:
        self._type("Backups")
        wait_until(lambda: self._service.status().startswith("capturing"), seconds=120)

    def _stop(self) -> None:
        took = self._service.stop()
        self.found.figure("stop_seconds", took)
        self.found.claim(f"it stops within {STOP_SECONDS} s", took <= STOP_SECONDS, f"{took:.2f} s")
        result = self._service.property("Result")
        self.found.claim("it stops in good order", result == "success", result)
        self._machine.run("systemctl start archiver")

    def _upgrade(self) -> None:
        told = self._type("Upgrade")
        self.found.claim("an upgrade migrates", "→ 9999" in told, told)
        self.found.claim(
            "the new release runs", RELEASES[1] in self._machine.run("archiver --version")
        )
        self._service.wait_for_capture()
        self._machine.run(f"ln -sfn {RELEASES[0]} /opt/archiver/current")
        refused = self._machine.run("archiver status 2>&1 || echo status $?")
        told_so = "does not know" in refused and "status 2" in refused
        self.found.claim("the release before refuses the newer schema", told_so, refused)
        self._machine.run(f"ln -sfn {RELEASES[1]} /opt/archiver/current")

    def _reboot(self) -> None:
        self.found.figure("reboot_seconds", self._machine.reboot())
        self._service.wait_for_capture()
        timer = self._machine.property("archiver-verify.timer", "ActiveState")
        self.found.claim("after a reboot all is there again", timer == "active", timer)

    def _downgrade(self) -> None:
        self._type("Downgrade")
        self.found.claim(
            "the old release runs", RELEASES[0] in self._machine.run("archiver --version")
        )
        self._service.wait_for_capture()
        self._machine.run("runuser -u postgres -- dropdb archive_newer")

    def _restore(self) -> None:
        self._type("Restoring a dump")
        self._service.wait_for_capture()

    def _go_back(self, moment: datetime) -> None:
        # The newer release was at work then.
        self._machine.run(f"ln -sfn {RELEASES[1]} /opt/archiver/current")
        self._machine.run(f"echo \"MOMENT='{moment.isoformat()}'\" > /run/typed")
        self._type("Going back to a moment")
        self._service.wait_for_capture()

    def _compare(self) -> None:
        wait_until(self._archive.is_settled, seconds=SETTLE_SECONDS)
        self._flowdock.tell("stop_traffic")
        time.sleep(5)
        wait_until(self._archive.is_settled, seconds=SETTLE_SECONDS)
        found = self._archive.differences()
        self.found.claim("the archive is the truth", not found, "\n".join(found[:10]))
        told = self._machine.run("journalctl --no-pager --all")
        for name in ("archiver.token", "archiver.database-password"):
            secret = (self._machine.root / "etc/credstore" / name).read_text().strip()
            self.found.claim(f"the journal does not hold {name}", secret not in told)
        for name, value in self._archive.sizes():
            self.found.figure(f"{name}_in_the_end", value)

    def _type(self, title: str, *, blocks: list[str] | None = None, text: str = "") -> str:
        """Type a section of the README, or these of its blocks."""
        told = ""
        for script in as_one_shell(self._sections[title] if blocks is None else blocks):
            told += self._machine.run(script, text=text)
        say(f"typed: {title}")
        return told
