"""What is kept for a limited time is dropped after that time, and not before."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from archiver.ingest import pruning
from archiver.ingest.pruning import prune
from archiver.store import asides, coverage
from archiver.store.asides import StoredSignal
from archiver.store.coverage import Standing
from archiver.store.engine import connect, transaction
from tests.ingest.arriving import new_flow, query
from tests.store.test_coverage import page

KEPT = timedelta(days=30)
COUNT = "SELECT count(*) FROM store.pages"
OLD, YOUNG = KEPT + timedelta(days=1), KEPT - timedelta(days=1)


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(days=400), timedelta(days=-10)])
async def test_a_signal_is_dropped_when_it_is_old_by_two_clocks(
    database_url: str, ahead: timedelta
) -> None:
    def clock() -> datetime:
        return datetime.now(UTC) + ahead

    def is_pruned() -> bool:
        return query(
            database_url, "SELECT count(*) FROM store.signals WHERE event = 'ancient'"
        ) == [(0,)]

    ages = {"ancient": OLD * 9, "old": OLD, "young": YOUNG}
    signals = [
        StoredSignal(flow_key=None, event=kind, user=None, at=datetime.now(UTC) - age, payload="{}")
        for kind, age in ages.items()
    ]
    async with connect(database_url) as engine:
        async with transaction(engine) as tx:
            await asides.add_signals(tx, signals)
        pruning = asyncio.create_task(prune(engine, signals_kept=KEPT, now=clock))
        try:
            await until(is_pruned)
        finally:
            pruning.cancel()
    left = [("young",)] if ahead >= timedelta(0) else [("old",), ("young",)]
    assert query(database_url, "SELECT event FROM store.signals ORDER BY at") == left


async def test_pages_that_found_all_as_it_was_are_dropped_as_time_goes_by(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "PRUNE_SECONDS", 0.02)
    asked_at = datetime.now(UTC) - pruning.PAGES_KEPT
    times = iter([asked_at, asked_at + timedelta(days=1)])  # at the first look, none is old enough
    left = []

    def clock() -> datetime:
        left.extend(query(database_url, COUNT))
        return next(times, datetime.now(UTC))

    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        young, old = (
            replace(page(flow_key, "audit", (1, 9)), requested_at=asked_at + timedelta(hours=hours))
            for hours in (1, -1)
        )
        async with transaction(engine) as tx:
            gain = {flow_key: Standing(due=9)}
            await coverage.advance(tx, gain, pages=[young, old], now=asked_at)
        pruned = asyncio.create_task(prune(engine, signals_kept=KEPT, now=clock))
        try:
            await until(lambda: len(left) > 3)
        finally:
            pruned.cancel()
    assert left[:4] == [(2,), (2,), (2,), (1,)]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  (what is awaited happens in another session)
            await asyncio.sleep(0.02)
