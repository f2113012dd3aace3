"""Run the service as several processes, and kill one."""

from contextlib import suppress

from tests.oracle.programs import wait_until
from tests.systemd.service import PORT
from tests.systemd.subject import Subject

SHARED_SECONDS = 60.0


def multiply(it: Subject) -> None:
    """Run the service as two processes from now on."""
    path = it.machine.root / "etc/archiver/archiver.toml"
    path.write_text(path.read_text().replace("\n#processes = 2\n", "\nprocesses = 2\n"))
    it.machine.run("systemctl restart archiver")
    wait_until(lambda: is_shared(it, but=""), seconds=SHARED_SECONDS)
    shares = it.archive.shares()
    it.found.claim("both processes capture a share", len(shares) == 2, str(shares))
    # A process that has its share reports that it captures only when its streams have settled.
    with suppress(TimeoutError):
        wait_until(lambda: "process 2: capturing" in it.service.status(), seconds=SHARED_SECONDS)
    status = it.service.status()
    it.found.claim("systemctl status tells of both", "process 2: capturing" in status, status)
    flows = [it.service.metric("archiver_flows", port=port) for port in (PORT, PORT + 1)]
    it.found.claim("each tells its metrics", min(flows) > 0, str(flows))


def lose_one(it: Subject) -> None:
    """Kill the second process, which the first must start again."""
    main = it.service.pid()
    (before,) = it.service.further_pids()
    slots = sum(it.archive.shares())
    held, streams = [], []

    def is_back() -> bool:
        held.append(it.service.metric("archiver_leases_held"))
        streams.append(it.service.metric("archiver_streams_open"))
        return is_shared(it, but=before)

    it.machine.run(f"kill -KILL {before}")
    it.found.figure("process_back_seconds", wait_until(is_back, seconds=SHARED_SECONDS))
    it.found.claim("the first has all flows meanwhile", max(held) == slots, f"{held} of {slots}")
    it.found.claim("it captures all the time", min(streams) > 0, str(streams))
    it.found.claim("the loss of one does not restart it", it.service.pid() == main)


def reload_both(it: Subject) -> None:
    """Reload the service: the first process must tell the second."""
    since = it.service.now()
    before = it.service.further_pids()
    it.service.reload()
    told = "settings reloaded"
    wait_until(lambda: it.service.journal(since).count(told) >= 2, seconds=30)
    it.found.claim("a reload reaches both", it.service.further_pids() == before)


def is_shared(it: Subject, *, but: str) -> bool:
    """Tell whether two processes capture, and the id of the second is not *but*."""
    return (
        len(it.archive.shares()) == 2
        and it.service.further_pids() not in ([], [but])
        and it.service.is_capturing()
    )
