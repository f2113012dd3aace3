"""Find what the archive claims but does not hold, judged by what the simulator knows.

This reads only the public views of the archive, in one snapshot, and the simulator's flows.
"""

import asyncio
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

import psycopg

from archiver.simulator.entities import Place
from archiver.simulator.server import Simulator
from tests.oracle.trial import Trial

Claim = tuple[str, int]
"""A flow and the id of a message; a flow is named by Flowdock's id, a conversation by its path."""

WATCH_SECONDS = 0.15
MOST_TOLD = 12

COVERAGE = "SELECT flow_id, from_id, to_id FROM archive.coverage JOIN archive.flows USING (flow)"
HELD = "SELECT flow_id, id FROM archive.events JOIN archive.flows USING (flow)"


def snapshot(database_url: str) -> tuple[list[tuple[str, int, int]], set[Claim]]:
    """The ranges that the archive claims and the ids that it holds, in one snapshot.

    Raises:
        psycopg.OperationalError: the database is unavailable.
    """
    with psycopg.connect(database_url, connect_timeout=2) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        return connection.execute(COVERAGE).fetchall(), set(connection.execute(HELD).fetchall())


def false_claims(
    flowdock: Simulator, claimed: Iterable[tuple[str, int, int]], held: set[Claim]
) -> Iterator[Claim]:
    """The messages that Flowdock lists and a claimed range covers, but the archive lacks."""
    places = own_places(flowdock)
    for flow, first, last in claimed:
        place = places.get(flow)
        if place is None:
            continue
        for message in place.timeline.oldest_first(first - 1, last + 1):
            if (flow, message.id) not in held:
                yield flow, message.id


def own_places(flowdock: Simulator) -> dict[str, Place]:
    """The flows and conversations that the account can read, by their ``flow_id`` in the views."""
    world, me = flowdock.world, flowdock.me
    places: dict[str, Place] = {flow.id: flow for flow in world.flows if me.id in flow.members}
    for talk in world.directory.conversations_of(me):
        places[f"private/{me.id}/{talk.other(me).id}"] = talk
    return places


def withheld(trial: Trial) -> set[Claim]:
    """The messages that the simulator withheld from the daemon without any sign of it."""
    kept = set()
    me = trial.me
    for frame in trial.flowdock.faults.withheld:
        body = json.loads(frame[frame.index(b"{") : frame.rindex(b"}") + 1])
        flow = body.get("flow")
        if flow is None and "to" in body:
            other = body["user"] if body["to"] == me else body["to"]
            flow = f"private/{me}/{other}"
        if flow is not None and "id" in body:
            kept.add((flow, body["id"]))
    return kept


class Watch:
    """Checks all the time that the archive claims nothing that it does not hold."""

    def __init__(self, trial: Trial) -> None:
        self.checks = 0
        self.deceptions: set[Claim] = set()
        self._trial = trial
        self._false: dict[Claim, str] = {}

    async def go_on(self) -> None:
        """Check again and again, until cancelled."""
        took = 0.0
        while True:
            await asyncio.sleep(max(WATCH_SECONDS, 4 * took))
            began = time.monotonic()
            with suppress(psycopg.OperationalError):
                claimed, held = await asyncio.to_thread(snapshot, self._trial.database_url)
                self.checks += 1
                self._judge(set(false_claims(self._trial.flowdock, claimed, held)))
            took = time.monotonic() - began

    def failures(self) -> Iterator[str]:
        """The false claims that were seen."""
        if self._false:
            told = [f"{flow} {id_} {when}" for (flow, id_), when in self._false.items()]
            yield "claimed and not held: " + "; ".join(told[:MOST_TOLD])
        if not self.checks:
            yield "the claims were never looked at"

    def _judge(self, wrong: set[Claim]) -> None:
        excused = withheld(self._trial) if wrong else set()
        self.deceptions |= wrong & excused
        for claim in wrong - excused:
            self._false.setdefault(claim, time.strftime("at %H:%M:%S"))
