"""What systemd is told, received on a socket like systemd's."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from archiver.observing.health import Observed
from archiver.observing.systemd import HANDED_DOWN, Notifier, keep_telling
from tests.jumping import run
from tests.observing.conftest import NOW


class Systemd:
    """The receiving side."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1) if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """All states received since the last call."""
        states: list[str] = []
        while True:
            try:
                states += self._socket.recv(65536).decode().split("\n")
            except BlockingIOError:
                return states

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"@{tmp_path}" if request.param == "abstract" else str(tmp_path / "notify")


@pytest.fixture
def systemd(address: str) -> Iterator[Systemd]:
    receiving = Systemd(address)
    yield receiving
    receiving.close()


async def told(notifier: Notifier, observed: Observed, systemd: Systemd) -> list[str]:
    """What the notifier tells in a few rounds."""
    task = asyncio.create_task(keep_telling(notifier, observed))
    await asyncio.sleep(0.05)
    task.cancel()
    return systemd.heard()


def test_ready_is_told_once_and_only_when_it_captures(
    observed: Observed, address: str, systemd: Systemd
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address})

    async def main() -> None:
        await asyncio.sleep(NOW)
        observed.tally.turned(now=NOW)
        account = observed.tally.accounts["work"]
        account.begin(now=NOW)
        account.matched_at = {1: NOW}
        account.state = "waiting"
        states = await told(notifier, observed, systemd)
        assert "STATUS=not capturing: account work: Flowdock does not answer yet" in states
        assert "EXTEND_TIMEOUT_USEC=30000000" in states
        assert "READY=1" not in states

        account.state = "working"
        states = await told(notifier, observed, systemd)
        assert states.count("READY=1") == 1
        assert any(state.startswith("STATUS=capturing 2 flows") for state in states)
        assert "READY=1" not in await told(notifier, observed, systemd)

    run(main())
    notifier.reloading()
    notifier.reloaded()
    notifier.stopping()
    reload, at, ready, stop, _ = systemd.heard()
    assert (reload, ready, stop) == ("RELOADING=1", "READY=1", "STOPPING=1")
    assert int(at.removeprefix("MONOTONIC_USEC=")) > 0


def test_the_watchdog_hears_only_of_a_writer_that_comes_round(
    observed: Observed, address: str, systemd: Systemd
) -> None:
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000", "WATCHDOG_PID": str(os.getpid())}
    notifier = Notifier(environ)
    assert notifier.watchdog_seconds == 0.06

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(NOW)
        observed.tally.turned(now=clock())
        assert "WATCHDOG=1" in await told(notifier, observed, systemd)
        await asyncio.sleep(0.06)
        assert "WATCHDOG=1" not in await told(notifier, observed, systemd)
        observed.tally.writer_failed(now=clock())
        assert "WATCHDOG=1" in await told(notifier, observed, systemd)

    run(main())


def test_whoever_hands_a_socket_down_is_told_instead() -> None:
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with theirs, ours:
        ours.setblocking(False)
        notifier = Notifier({HANDED_DOWN: str(ours.fileno()), "NOTIFY_SOCKET": "/no/such"})
        notifier.tell("READY=1", "STATUS=capturing")
        assert theirs.recv(100) == b"READY=1\nSTATUS=capturing"
        for _ in range(10_000):  # a receiver that does not read must not block us
            notifier.tell("WATCHDOG=1")
        theirs.close()
        notifier.stopping()


@pytest.mark.parametrize(
    "environ", [{}, {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}, {"NOTIFY_SOCKET": "/no/such"}]
)
def test_without_a_systemd_that_listens_nothing_happens(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    notifier.tell("READY=1")
    assert notifier.watchdog_seconds == 0
