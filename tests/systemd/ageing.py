"""What happens to a machine in time: backups, an upgrade, a reboot, a downgrade, restores."""

from datetime import datetime

from tests.systemd.installing import releases
from tests.systemd.subject import Subject


def back_up(it: Subject) -> None:
    """Make backups, including a base backup to which the write-ahead log can be applied."""
    it.type("Backups")
    it.service.wait_for_capture()


def upgrade(it: Subject) -> None:
    """Upgrade to a release with another schema, which the release before must refuse."""
    this, later = releases(it)
    told = it.type("Upgrade")
    it.found.claim("an upgrade migrates", "→ 9999" in told, told)
    it.service.wait_for_capture()
    it.found.claim("the new release is at work", it.service.release() == later)
    it.machine.run(f"ln -sfn {this} /opt/archiver/current")
    refused = it.machine.run("archiver status 2>&1 || echo status $?")
    told_so = "does not know" in refused and "status 2" in refused
    it.found.claim("the release before refuses the newer schema", told_so, refused)
    it.machine.run(f"ln -sfn {later} /opt/archiver/current")


def reboot(it: Subject) -> None:
    """Reboot the machine."""
    it.found.figure("reboot_seconds", it.machine.reboot())
    it.service.wait_for_capture()
    timer = it.machine.property("archiver-verify.timer", "ActiveState")
    it.found.claim("after a reboot all is there again", timer == "active", timer)


def downgrade(it: Subject) -> None:
    """Go back to the release before and to its dump."""
    this, _ = releases(it)
    it.type("Downgrade")
    it.service.wait_for_capture()
    it.found.claim("the old release is at work", it.service.release() == this)
    it.machine.run("runuser -u postgres -- dropdb archive_newer")


def restore(it: Subject) -> None:
    """Restore the dump from before the upgrade."""
    it.type("Restoring a dump")
    it.service.wait_for_capture()


def go_back(it: Subject, moment: datetime) -> None:
    """Restore the database as it was at *moment*."""
    _, later = releases(it)
    # At that moment, the newer release was running.
    it.machine.run(f"ln -sfn {later} /opt/archiver/current")
    it.machine.run(f"echo \"MOMENT='{moment.isoformat()}'\" > /run/typed")
    it.type("Going back to a moment")
    it.service.wait_for_capture()
