"""What a trouble is: a name under which it is counted, and a function that inflicts it."""

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

    It does not count its own firings: each return counts as one.
    """

    name: str
    inflict: Inflict
    needs_replay: bool = False
    """Whether it needs a service that replays, and thus a client that asks for event-streams."""
    needs_small_disk: bool = False
    is_long: bool = False
    """Whether it takes half a minute and is therefore for a few trials only."""


def by_fault(
    name: str, make: Callable[[Random], Fault], *, anew: bool = False, needs_replay: bool = False
) -> Trouble:
    """A fault of the simulator; with *anew*, the streams are made to reconnect until it fires."""

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
    """Disconnect the streams again and again, each time for a moment, until *holds*."""
    while not holds():
        await trial.flowdock.connected()
        trial.flowdock.faults.add(Fault(kind="refuse", seconds=0.3, name="(reconnected)"))
        with suppress(TimeoutError):
            await trial.until(holds, seconds=RECONNECT_SECONDS)
