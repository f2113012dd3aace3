"""The course of the demonstration: watch, cut the streams once, let it settle, compare."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archiver.cli.demonstration.comparison import (
    Difference,
    FlowTruth,
    compare,
    compare_files,
    read_contents,
    read_truth,
)
from archiver.cli.demonstration.display import Display
from archiver.cli.demonstration.programs import Program
from archiver.cli.demonstration.scene import Scene
from archiver.cli.demonstration.simulation import Simulation
from archiver.cli.demonstration.verdict import CUT_SECONDS, Verdict
from archiver.domain.model import is_private
from archiver.store import showing
from archiver.store.connection import Engine
from archiver.store.showing import FlowShown

LOOK_SECONDS = 0.5
ENDING_SECONDS = 9.0
"""The part of the requested time that settling and comparing take."""
SHORTEST_LIVE_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
"""How long the archive may take to prove everything after the last event."""
LAST_SECONDS = 5.0
"""How long differences may remain when nothing is to be listed again: edits may be on their way."""
NEWS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long the demonstration lasts, and when it began, by the monotonic clock."""

    seconds: float
    began: float


class Performance:
    """One demonstration, whose programs are running."""

    def __init__(
        self,
        plan: Plan,
        engine: Engine,
        simulation: Simulation,
        *,
        display: Display,
        programs: Sequence[Program],
        me: int,
    ) -> None:
        self._plan = plan
        self._engine = engine
        self._simulation = simulation
        self._display = display
        self._programs = programs
        self._me = me
        self._scene = Scene(seconds=plan.seconds)
        self._shown: list[FlowShown] = []
        self._news_after: dict[int, int] = {}

    async def run(self) -> Verdict:
        """Run the demonstration; returns what the comparison found."""
        began = self._now()
        ends = max(self._plan.seconds - ENDING_SECONDS, began + SHORTEST_LIVE_SECONDS)
        await self._watch("archiving", until=began + (ends - began) / 3)
        self._scene.cut_at = self._now()
        await self._simulation.refuse_streams(seconds=CUT_SECONDS)
        await self._watch("cut off", until=min(ends, self._now() + CUT_SECONDS))
        await self._watch("archiving", until=ends)
        await self._simulation.stop_traffic()
        return await self._judge()

    def _now(self) -> float:
        """Seconds since the demonstration began."""
        return time.monotonic() - self._plan.began

    async def _watch(self, phase: str, *, until: float) -> None:
        self._scene.phase = phase
        while self._now() < until:
            await self._look()
            await asyncio.sleep(min(LOOK_SECONDS, max(0.0, until - self._now())))

    async def _look(self) -> None:
        """Read the present state of the archive, and show it."""
        for program in self._programs:
            program.require_running()
        streams = await self._simulation.streams()
        async with self._engine.connect() as tx:
            self._shown = await showing.flows_shown(tx)
            for flow in self._shown:
                # What is older than the first look is history, not news.
                if flow.standing.due:
                    self._news_after.setdefault(flow.flow_key, flow.standing.due)
            news = await showing.happenings(tx, self._news_after, most=NEWS)
        for one in news:
            self._news_after[one.flow_key] = max(one.id, self._news_after[one.flow_key])
        self._scene.streams = streams
        self._scene.look(self._shown, news, now=self._now())
        self._display.show(self._scene)

    async def _judge(self) -> Verdict:
        """Compare the archive once it has settled, and again until it is right or time is up."""
        until = self._now() + PATIENCE_SECONDS
        was_listed = False
        records = await self._simulation.truth()
        truth, contents = read_truth(records, me=self._me), read_contents(records)
        self._scene.phase = "settling"
        while True:
            await self._look()
            is_settled = self._is_settled(truth)
            if is_settled and not was_listed and not self._has_doubts():
                was_listed, until = True, self._now() + LAST_SECONDS
            is_over = self._now() > until
            if is_settled or is_over:
                differences, files = await self._compare(truth, contents)
                if not differences or is_over:
                    return await self._verdict(truth, differences, files=files)
            await asyncio.sleep(LOOK_SECONDS)

    def _is_settled(self, truth: dict[str, FlowTruth]) -> bool:
        """Tell whether everything that can be listed is proven."""
        dues = {flow.path: flow.standing.due for flow in self._shown}
        is_known = all(dues.get(path, 0) >= true.newest for path, true in truth.items())
        return is_known and not any(flow.gaps for flow in self._shown)

    def _has_doubts(self) -> bool:
        """Tell whether anything is still to be listed again after a stream was opened."""
        return any(flow.standing.doubted for flow in self._shown)

    async def _compare(
        self, truth: dict[str, FlowTruth], contents: dict[str, str]
    ) -> tuple[list[Difference], int]:
        """The differences, and how many files are archived, all of which were compared."""
        async with self._engine.connect() as tx:
            messages = await showing.messages_shown(tx)
            threads = await showing.threads_shown(tx)
            attachments = await showing.attachments_shown(tx)
        found = [*compare(truth, messages, threads), *compare_files(contents, attachments)]
        return found, sum(one["sha256"] is not None for one in attachments)

    async def _verdict(
        self, truth: dict[str, FlowTruth], differences: list[Difference], *, files: int
    ) -> Verdict:
        return Verdict(
            differences=tuple(differences),
            flows=sum(not is_private(path) for path in truth),
            conversations=sum(is_private(path) for path in truth),
            events=self._scene.events,
            messages=sum(len(true.messages) for true in truth.values()),
            threads=sum(len(true.threads_in_use) for true in truth.values()),
            edited=sum(one["edited"] is not None for one in _messages(truth)),
            deleted=sum(one["deleted"] for one in _messages(truth)),
            files=files,
            gaps_left=len(self._scene.open_gaps),
            gaps_closed=self._scene.gaps_closed,
            disconnections=await self._simulation.refusals(),
            seconds=self._now(),
        )


def _messages(truth: Mapping[str, FlowTruth]) -> Iterator[Mapping[str, Any]]:
    for true in truth.values():
        yield from true.messages.values()
