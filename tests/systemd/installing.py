"""Install the machine by deploy/README.md, word for word, and use it."""

import re
import time
from pathlib import Path

from tests.oracle.programs import wait_until
from tests.systemd.blocks import README
from tests.systemd.image import wheel
from tests.systemd.subject import Subject

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

SETTLE_SECONDS = 600.0
MOST_EXPOSED = 1.5
UNITS = ("archiver.service", "archiver-verify.service", "archiver-verify.timer")
INSTANCES = ("archiver@club.service", "archiver-verify@club.service", "archiver-verify@club.timer")


def releases(it: Subject) -> tuple[str, str]:
    """The versions of this release and of the next one, as the README names them."""
    this, following = (
        re.findall(r"^VERSION=(.+)$", it.sections[title][0], re.MULTILINE)
        for title in ("The program", "Upgrade")
    )
    return this[0], following[0]


def install(it: Subject) -> None:
    """Type all commands up to the start, and make an operator's edits in between."""
    versions = Path(README.parents[1], "migrations", "versions").glob("0*.py")
    following = NEXT_MIGRATION.format(head=max(path.name for path in versions)[:4])
    root = it.machine.root / "root"
    this, later = releases(it)
    wheel(this, root)
    wheel(later, root, migration=following)
    began = time.monotonic()
    for title in ("The program", "The database"):
        it.type(title)
    *before, token = it.sections["Settings and secrets"][:2]
    it.type("Settings and secrets", blocks=before)
    point_at_simulator(it)
    it.type("Settings and secrets", blocks=[token], text=f"{it.flowdock.token}\n")
    told = it.type("Settings and secrets", blocks=it.sections["Settings and secrets"][2:])
    it.found.claim("archiver check finds that all works", "all works" in told, told)
    it.found.figure("install_seconds", time.monotonic() - began)
    began = time.monotonic()
    it.type("Start")
    it.found.figure("start_seconds", time.monotonic() - began)
    status = it.service.status()
    it.found.claim("started means capturing", status.startswith("capturing"), status)
    it.found.claim("it is active", it.service.property("ActiveState") == "active")


def point_at_simulator(it: Subject) -> None:
    """Edit the settings as an operator would."""
    path = it.machine.root / "etc/archiver/archiver.toml"
    text = path.read_text()
    # Short request lines make several streams, of which a reload changes only one.
    for key, value in {
        "api_url": f'"{it.flowdock.api_url}"',
        "stream_url": f'"{it.flowdock.stream_url}"',
        "request_line_bytes": "256",
        "requests_per_second": "200",
    }.items():
        text = re.sub(rf"^#{key} = .*$", f"{key} = {value}", text, count=1, flags=re.MULTILINE)
    # The other key of this name is the audit's.
    text = text.replace("\n#requests_per_second = 2\n", "\nrequests_per_second = 200\n")
    path.write_text(text)


def inspect_units(it: Subject) -> None:
    """Have systemd check the units, including those of instances."""
    it.type("Several accounts, several archives")
    for unit in (*UNITS, *INSTANCES):
        told = it.machine.run(f"systemd-analyze verify --man=no {unit}", check=False)
        it.found.claim(f"systemd-analyze verify {unit} says nothing", told == "", told)
    for unit in ("archiver", "archiver-verify", "archiver@club", "archiver-verify@club"):
        told = it.machine.run(f"systemd-analyze security --no-pager {unit}.service | tail -1")
        found = re.search(r": ([\d.]+) ", told)
        exposure = float(found[1]) if found else 10.0
        it.found.figure(f"exposure_{unit}", exposure)
        it.found.claim(f"{unit} is exposed {MOST_EXPOSED} at most", exposure <= MOST_EXPOSED, told)


def use(it: Subject) -> None:
    """Use the commands as an operator would, before anything goes wrong."""
    run = it.machine.run
    asked = "SELECT $$two words and a $$ || current_user AS told"
    told = run(f"archiver sql --csv '{asked}'")
    it.found.claim(
        "the commands take any argument", "two words and a archiver_writer" in told, told
    )
    told = run("archiver gaps --wrong 2>&1 || echo status $?")
    it.found.claim("the commands hand their status on", "status 2" in told, told)
    told = run("archiver erase acme/main 999999999 --yes 2>&1 || echo status $?")
    it.found.claim("whoever erases is the owner", "999999999" in told, told)
    wait_until(it.archive.is_settled, seconds=SETTLE_SECONDS)
    told = run("systemctl start archiver-verify; systemctl show -p Result archiver-verify")
    it.found.claim("the night's verification finds all proven", "Result=success" in told, told)
    memory = it.service.metric("process_resident_memory_bytes") / 2**20
    it.found.figure("daemon_mib", memory)
    it.found.claim("metrics are told, of the process too", memory > 0)
    it.found.claim("the daemon is not root", it.service.user() not in {"", "0"})
    for name, value in it.archive.sizes():
        it.found.figure(name, value)
