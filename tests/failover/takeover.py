"""Two daemons share the flows of an archive; when one fails, the other takes over its flows."""

import signal
import time
from pathlib import Path

from tests.failover.scene import SLOTS, Scene, say, scene, until
from tests.oracle.postgres import Postgres
from tests.oracle.programs import Daemon

MOST_SECONDS = 30.0
EVEN = ((SLOTS + 1) // 2, SLOTS // 2)


async def take_over(home: Path, postgres: Postgres, *, rate: float) -> None:
    """Kill, stall, and stop daemons; others must capture their flows within seconds."""
    with postgres.database() as name:
        async with scene(home, postgres.url(name), rate=rate) as it:
            left = it.start("left", elsewhere=True)
            took = await until(lambda: it.is_shared(SLOTS))
            say(f"one daemon alone captures all after {took:.1f} s")
            right = it.start("right")
            took = await until(lambda: it.is_shared(*EVEN))
            say(f"a second one has its share after {took:.1f} s: {EVEN[0]} and {EVEN[1]}")
            await until(it.is_heard)

            await relieved(it, left, "killed (kill -9) on another machine")
            left.start()
            await until(lambda: it.is_shared(*EVEN))

            right.process.send_signal(signal.SIGSTOP)
            await live_again(it, "stopped in its tracks (SIGSTOP)")
            right.process.send_signal(signal.SIGCONT)
            took = await until(lambda: it.is_shared(*EVEN))
            say(f"it goes on, and has its share again after {took:.1f} s")

            left.kill()
            await until(lambda: it.is_shared(SLOTS))
            beside = it.start("beside")
            await until(lambda: it.is_shared(*EVEN))
            await relieved(it, right, "killed (kill -9) on the same machine")
            right.start()
            await until(lambda: it.is_shared(*EVEN))
            took = beside.stop()
            say(f"told to stop, a daemon ends within {took:.1f} s")
            await live_again(it, "stopped (SIGTERM)")

            it.flowdock.stop_live()
            say(f"archive = truth after {await it.converge():.1f} s")
        say(f"claims looked at {it.looks} times, all of what was held")


async def relieved(it: Scene, daemon: Daemon, how: str) -> None:
    """Kill *daemon*, and check that all flows are live again in time."""
    daemon.kill()
    await live_again(it, how)


async def live_again(it: Scene, how: str) -> None:
    """Wait until a stream brings the new messages of every flow again.

    Raises:
        AssertionError: it took too long.
    """
    began = time.monotonic()
    await until(lambda: it.is_held(SLOTS), seconds=60)
    shared = time.monotonic() - began
    await until(it.is_heard, seconds=60)
    took = time.monotonic() - began
    say(f"{how}: its flows are the other's after {shared:.1f} s, all are heard after {took:.1f} s")
    assert took < MOST_SECONDS, f"{how}: it took {took:.1f} s"
