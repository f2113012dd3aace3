"""What a trouble is: a name by which it is counted, and how it is done to a trial."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random

from archiver.simulator.faults import Fault
from tests.oracle.trial import Trial

RECONNECT_SECONDS = 3.0

Inflict = Callable[[Trial, Random], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that goes wrong. *inflict* returns when it has happened, and raises if it cannot.

    It counts no firing itself: that it returned is the proof.
    """

    name: str
    inflict: Inflict
    needs_replay: bool = False
    """Only a service that replays, to a client that asks for event-streams, can do so."""
    needs_small_disk: bool = False
    is_long: bool = False
    """It takes half a minute: for a few trials only."""


def by_fault(
    name: str, make: Callable[[Random], Fault], *, anew: bool = False, needs_replay: bool = False
) -> Trouble:
    """A fault of the simulator's schedule; *anew* has the streams reconnect to meet it."""

    async def inflict(trial: Trial, chance: Random) -> None:
        faults = trial.flowdock.faults
        already = faults.fired.get(name, 0)
        faults.add(replace(make(chance), name=name))
        if anew:
            await reconnect_until(trial, lambda: faults.fired[name] > already)
        else:
            await trial.until(lambda: faults.fired[name] > already)

    return Trouble(name=name, inflict=inflict, needs_replay=needs_replay)


async def reconnect_until(trial: Trial, holds: Callable[[], bool]) -> None:
    """Have the streams reconnect, having missed something, until *holds*."""
    while not holds():
        await trial.flowdock.connected()
        trial.flowdock.faults.add(Fault(kind="refuse", seconds=0.3, name="(reconnected)"))
        with suppress(TimeoutError):
            await trial.until(holds, seconds=RECONNECT_SECONDS)
