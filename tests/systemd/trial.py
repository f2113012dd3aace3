"""The life of one machine: installed, broken, upgraded, rebooted, restored; then compared."""

import time
from datetime import UTC, datetime

from tests.oracle.programs import wait_until
from tests.systemd.ageing import back_up, downgrade, go_back, reboot, restore, upgrade
from tests.systemd.findings import say
from tests.systemd.hurting import hang, kill, lose_the_database, reload, stop
from tests.systemd.installing import SETTLE_SECONDS, inspect_units, install, use
from tests.systemd.multiplying import lose_one, multiply, reload_both
from tests.systemd.subject import Subject


def live(it: Subject, *, rate: float) -> None:
    """Run all steps, under traffic of *rate* events a second."""
    say(f"up after {it.machine.boot():.1f} s")
    install(it)
    inspect_units(it)
    use(it)
    it.flowdock.tell("play", seed=1, events=0, rate=rate)
    kill(it)
    reload(it)
    lose_the_database(it)
    back_up(it)
    hang(it)
    multiply(it)
    lose_one(it)
    reload_both(it)
    stop(it)
    upgrade(it)
    reboot(it)
    moment = datetime.now(UTC)
    time.sleep(2)
    downgrade(it)
    restore(it)
    go_back(it, moment)
    compare(it)
    failed = it.found.failed
    say(f"{len(failed)} failed" if failed else "all as it should be")


def compare(it: Subject) -> None:
    """End the traffic, and compare the archive with the truth."""
    it.flowdock.tell("stop_traffic")
    wait_until(it.archive.is_settled, seconds=SETTLE_SECONDS)
    found = it.archive.differences()
    it.found.claim("the archive is the truth", not found, "\n".join(found[:10]))
    told = it.machine.run("journalctl --no-pager --all")
    for name in ("archiver.token", "archiver.database-password"):
        secret = (it.machine.root / "etc/credstore" / name).read_text().strip()
        it.found.claim(f"the journal does not hold {name}", secret not in told)
    for name, value in it.archive.sizes():
        it.found.figure(f"{name}_in_the_end", value)
