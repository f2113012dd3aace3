"""Run one scenario, watch its claims all the while, and judge whether the archive is the truth.

Only public results are judged: the views of the schema ``archive``.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg

from archiver.errors import leaves
from archiver.simulator import truth
from tests.oracle.claims import Watch, own_places
from tests.oracle.postgres import Postgres
from tests.oracle.programs import run_once
from tests.oracle.scenario import Scenario
from tests.oracle.trial import Trial, begin, slowness
from tests.oracle.troubles.trouble import Trouble
from tests.truth import differences

PATIENCE_SECONDS = 60.0
"""How long the archive may take to match the truth once nothing more goes wrong."""

HAPPENING_SECONDS = 90.0

AFTERPLAY_RATE = 20.0
"""Operations a second while the last troubles wait for an event to act on."""

IN_DOUBT = 2
"""The exit status of ``archiver verify`` when doubts remain."""

VERIFIED_EVERY = 4
"""One scenario in this many ends with ``archiver verify``, which takes some seconds."""

SHOWN = 12
HALVES = re.compile("[\ud800-\udfff]")


@dataclass(slots=True, kw_only=True)
class Judgment:
    """The result of a scenario."""

    seed: int
    troubles: str
    failures: list[str] = field(default_factory=list)
    fired: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    checks: int = 0
    """How often the claims were checked, each time in one snapshot."""
    seconds: float = 0.0
    converged_seconds: float = 0.0
    """How long it took from the end of all troubles until the archive matched the truth."""
    deceived: int = 0
    """How many messages the archive claimed but lacked because the service had withheld them
    without a sign. In a scenario that passed, all of them were found in the end."""
    home: str = ""

    def as_json(self) -> dict[str, Any]:
        """All fields by name."""
        return {name: getattr(self, name) for name in self.__slots__}


async def judge(
    scenario: Scenario, home: Path, postgres: Postgres, *, has_small_disk: bool
) -> Judgment:
    """Run *scenario* and judge it."""
    async with begin(
        scenario.seed, scenario.size, home, postgres, has_small_disk=has_small_disk
    ) as trial:
        conclude = verify if scenario.seed % VERIFIED_EVERY == 0 else None
        happening = happen(scenario, trial)
        return await judge_trial(trial, scenario.describe(), happening, conclude=conclude)


async def judge_trial(
    trial: Trial,
    what: str,
    happening: Coroutine[None, None, None],
    *,
    patience_seconds: float = PATIENCE_SECONDS,
    conclude: Callable[[Trial], Awaitable[None]] | None = None,
) -> Judgment:
    """Watch *trial* while *happening* runs; wait for the truth, *conclude*, and judge it all."""
    judgment = Judgment(seed=trial.seed, troubles=what, home=str(trial.home))
    began = time.monotonic()
    watch = Watch(trial)
    watching = [asyncio.create_task(watch.go_on()), asyncio.create_task(trial.supervise())]
    try:
        await happening
        judgment.converged_seconds = await converge(trial, patience_seconds=patience_seconds)
        if conclude:
            await conclude(trial)
    except Exception as error:  # noqa: BLE001 - whatever it is, the scenario has failed
        judgment.failures += map(str, leaves(error))
    finally:
        for task in watching:
            task.cancel()
        await asyncio.wait(watching)
    judgment.failures += [*trial.failures, *watch.failures()]
    judgment.failures += [str(task.exception()) for task in watching if not task.cancelled()]
    judgment.fired = trial.fired
    judgment.checks, judgment.deceived = watch.checks, len(watch.deceptions)
    judgment.messages = sum(len(place.timeline) for place in own_places(trial.flowdock).values())
    judgment.seconds = time.monotonic() - began
    return judgment


async def happen(scenario: Scenario, trial: Trial) -> None:
    """Run the traffic and all the troubles; returns when every trouble has happened."""
    flowdock, size = trial.flowdock, scenario.size
    if not scenario.is_early:
        trial.start_daemon()
        await flowdock.connected()
    events = round(size.rate * size.seconds)
    async with asyncio.TaskGroup() as group:
        group.create_task(flowdock.play(seed=scenario.seed, events=events, rate=size.rate))
        if scenario.is_early:
            await asyncio.sleep(size.seconds / 4)
            trial.start_daemon()
        for number, (moment, trouble) in enumerate(scenario.troubles):
            group.create_task(suffer(trial, trouble, number=number, moment=moment))
        calm = group.create_task(murmur(scenario, trial))
        calm.add_done_callback(lambda _: None)
        await all_happened(scenario, trial)
        calm.cancel()


async def suffer(trial: Trial, trouble: Trouble, *, number: int, moment: float) -> None:
    """Inflict *trouble* after *moment* seconds, and count it."""
    await asyncio.sleep(moment)
    try:
        await trouble.inflict(trial, trial.chance_of(f"{number}/{trouble.name}"))
    except Exception as error:
        raise RuntimeError(f"{trouble.name} did not happen: {error!r}") from error
    trial.fired[trouble.name] += 1


async def all_happened(scenario: Scenario, trial: Trial) -> None:
    """Wait until each trouble has happened as often as it should."""
    expected = Counter(trouble.name for _, trouble in scenario.troubles)
    try:
        await trial.until(lambda: not expected - trial.fired, seconds=HAPPENING_SECONDS)
    except TimeoutError:
        raise RuntimeError(f"did not happen: {', '.join(expected - trial.fired)}") from None


async def murmur(scenario: Scenario, trial: Trial) -> None:
    """Keep some traffic going after the play, so that troubles that wait for an event find one."""
    await asyncio.sleep(scenario.size.seconds)
    await trial.until(lambda: any(not flow.disabled for flow in trial.flowdock.world.flows))
    await trial.flowdock.play(seed=scenario.seed + 1, events=10**9, rate=AFTERPLAY_RATE)


async def converge(trial: Trial, *, patience_seconds: float = PATIENCE_SECONDS) -> float:
    """Wait until the archive matches the truth and claims all of it; returns how long it took.

    Raises:
        AssertionError: it did not in time; the message lists what differs.
    """
    began = time.monotonic()
    left = ["nothing was compared"]
    took = 0.0
    while left and time.monotonic() - began < patience_seconds * slowness():
        # The simulator runs in this process, too: constant comparing must not starve it.
        await asyncio.sleep(max(0.1, 3 * took))
        asked = time.monotonic()
        with suppress(psycopg.OperationalError):
            left = await differing(trial)
        took = time.monotonic() - asked
    assert not left, "\n".join(
        [f"after {time.monotonic() - began:.0f} s the archive is not the truth ({len(left)}):"]
        + [line[:300] for line in left[:SHOWN]]
    )
    return time.monotonic() - began


async def verify(trial: Trial) -> None:
    """Stop the daemons and run ``archiver verify``.

    Raises:
        AssertionError: it finds differences that the judge did not find, or leaves doubts.
    """
    for daemon in trial.daemons:
        daemon.kill()
    ran = await asyncio.to_thread(run_once, "verify", settings=trial.settings())
    # The killed daemon may have left doubts; the first run lists their ranges again, so the second
    # must find none.
    if ran.returncode == IN_DOUBT:
        ran = await asyncio.to_thread(run_once, "verify", settings=trial.settings())
    assert ran.returncode == 0, f"verify ends with {ran.returncode}: {ran.stdout}{ran.stderr}"
    trial.fired["(verified by archiver verify)"] += 1


async def differing(trial: Trial) -> list[str]:
    """What is a gap, in doubt or not claimed; if nothing is, what differs from the truth."""
    heads = {
        flow: max((message.id for message in place.timeline), default=0)
        for flow, place in own_places(trial.flowdock).items()
    }
    left = await asyncio.to_thread(remainder, trial.database_url, heads)
    if left:
        return left
    records = [sayable(one) for one in truth.records(trial.flowdock.world.directory)]
    left = await asyncio.to_thread(differences, trial.database_url, records, me=trial.me)
    if left:
        return left
    held = trial.flowdock.world.files.items()
    digests = {sayable(path): sha256(data).hexdigest() for path, (_, data) in held}
    return await asyncio.to_thread(misplaced, trial.database_url, digests, flows=set(heads))


def remainder(database_url: str, heads: dict[str, int]) -> list[str]:
    """The gaps and doubts that are left, and the flows whose newest message is not yet claimed."""
    with psycopg.connect(database_url, connect_timeout=2) as connection:
        found = [
            f"{view} {row}"
            for view in ("gaps", "doubts")
            for row in connection.execute(f"SELECT flow, from_id, to_id FROM archive.{view}")
        ]
        newest: dict[str, int] = dict(
            connection.execute(
                "SELECT flow_id, max(to_id) FROM archive.coverage"
                " JOIN archive.flows USING (flow) GROUP BY flow_id"
            ).fetchall()
        )
    return found + [
        f"{flow}: {head} is not claimed"
        for flow, head in heads.items()
        if newest.get(flow, 0) < head
    ]


def misplaced(database_url: str, digests: dict[str, str], *, flows: set[str]) -> list[str]:
    """The files that the archiver never asked for, and those that it keeps with wrong contents."""
    with psycopg.connect(database_url, connect_timeout=2) as connection:
        found = connection.execute(
            "SELECT flow_id, message_id, a.path, sha256, attempts"
            " FROM archive.attachments AS a JOIN archive.flows USING (flow)"
        ).fetchall()
    return [
        f"{flow} {id_}: the file {path} is kept as {kept}, asked for {attempts} times in vain"
        for flow, id_, path, kept, attempts in found
        if (attempts == 0 and flow in flows) or (kept and kept != digests.get(path))
    ]


def sayable(value: Any) -> Any:
    """*value* with lone surrogates, which Postgres cannot store, replaced by U+FFFD."""
    match value:
        case str():
            return HALVES.sub("\ufffd", value)
        case dict():
            return {sayable(name): sayable(inner) for name, inner in value.items()}
        case _:
            return value
