"""Faults of the service: killed, frozen, reloaded, left without its database, stopped."""

import re
import time

from tests.oracle.programs import wait_until
from tests.systemd.service import START_SECONDS
from tests.systemd.subject import Subject

STOP_SECONDS = 1.0
WATCHDOG_SECONDS = 120.0


def kill(it: Subject) -> None:
    """Kill the main process."""
    before = it.service.pid()
    it.machine.run("systemctl kill --kill-whom=main --signal=KILL archiver")
    it.found.figure("restarted_after_kill_seconds", it.service.wait_for_another(before))
    count = it.service.property("NRestarts")
    it.found.claim("after kill -9 it is started anew", count == "1", count)


def hang(it: Subject) -> None:
    """Freeze the main process and wait for the watchdog to restart it."""
    before = it.service.pid()
    began = time.monotonic()
    since = it.service.now()
    it.machine.run(f"kill -STOP {before}")
    it.service.wait_for_another(before, seconds=WATCHDOG_SECONDS + START_SECONDS)
    it.found.figure("restarted_after_hang_seconds", time.monotonic() - began)
    told = it.service.journal(since)
    it.found.claim("a hang ends by the watchdog", "Failed with result 'watchdog'" in told, told)
    it.found.claim("no core is left", "code=dumped" not in told, told)


def reload(it: Subject) -> None:
    """Reload without a change, then without one flow, then with all flows again."""
    before, opened = it.service.pid(), it.service.metric("archiver_streams_opened_total")
    streams = it.service.metric("archiver_streams")
    it.found.claim("there are several streams", streams > 1, str(streams))
    path = it.machine.root / "etc/archiver/archiver.toml"
    text = path.read_text()
    it.service.reload()
    time.sleep(2)
    it.found.claim(
        "a reload that changes nothing keeps all streams",
        it.service.metric("archiver_streams_opened_total") == opened and it.service.pid() == before,
    )
    flow = it.archive.flow()
    followed = it.service.metric("archiver_flows")
    for flows, number in ((f'["*", "!{flow}"]', followed - 1), ('["*"]', followed)):
        path.write_text(
            re.sub(r"^#flows = .*$", f"flows = {flows}", text, count=1, flags=re.MULTILINE)
        )
        it.service.reload()
        it.service.wait_for_flows(number)
    again = it.service.metric("archiver_streams_opened_total") - opened
    it.found.figure("streams", streams)
    it.found.figure("streams_opened_by_two_reloads", again)
    it.found.claim("a reload keeps the streams that it does not change", again < 2 * streams)
    it.found.claim("a reload keeps the process", it.service.pid() == before)
    path.write_text(text)


def lose_the_database(it: Subject) -> None:
    """Stop the database for a while."""
    before, since = it.service.pid(), it.service.now()
    it.machine.run("systemctl stop postgresql")
    wait_until(lambda: it.service.status().startswith("not capturing"), seconds=60)
    time.sleep(5)
    it.machine.run("systemctl start postgresql")
    wait_until(lambda: it.service.status().startswith("capturing"), seconds=120)
    it.found.claim("an outage of the database does not restart it", it.service.pid() == before)
    warnings = it.service.journal(since, "--priority=warning")
    all_ = it.service.journal(since)
    it.found.claim("warnings are warnings in the journal", " warning " in warnings, warnings)
    it.found.claim("what is no warning is none", " info " not in warnings, warnings)
    it.found.claim("levels are told, not shown", not re.search(r"^<\d>", all_, re.MULTILINE), all_)


def stop(it: Subject) -> None:
    """Stop the service cleanly, and start it again."""
    group = it.service.group()
    pids = it.service.pids_in(group)
    took = it.service.stop()
    it.found.figure("stop_seconds", took)
    it.found.claim(f"it stops within {STOP_SECONDS} s", took <= STOP_SECONDS, f"{took:.2f} s")
    result = it.service.property("Result")
    it.found.claim("it stops in good order", result == "success", result)
    left = it.service.pids_in(group)
    told = f"it leaves none of its {len(pids)} processes"
    it.found.claim(told, bool(pids) and not left, " ".join(left))
    it.machine.run("systemctl start archiver")
