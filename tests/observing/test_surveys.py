"""Surveys of a real archive, as they reach the metrics."""

import asyncio
from contextlib import suppress

from archiver.observing.health import Observed
from archiver.observing.metrics import Metrics
from archiver.observing.surveys import keep_surveying
from archiver.store.engine import connect
from tests.observing.conftest import NOW
from tests.store.test_surveying import NOW as TODAY
from tests.store.test_surveying import given


async def test_only_the_flows_that_are_wanted_are_told(
    observed: Observed, database_url: str
) -> None:
    given(database_url)
    metrics = Metrics(observed, flows=10)
    unwanted: set[str] = set()

    async def told() -> str:
        """The page after the next survey."""
        async with connect(database_url) as engine:
            surveying = keep_surveying(
                engine, metrics, now=lambda: TODAY, wants=lambda path: path not in unwanted
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(surveying, 2)
        return metrics.page("", now=NOW)[0].decode()

    page = await told()
    assert "archiver_gaps 2.0" in page
    assert "archiver_lag_seconds 0.0" not in page
    unwanted.add("acme/behind")
    page = await told()
    assert "archiver_gaps 0.0" in page
    assert "archiver_lag_seconds 0.0" in page
    assert "acme/behind" not in page
    assert 'flow="acme/doubted"' in page
    assert "archiver_flows_lost 1.0" in page
    unwanted.add("acme/left")
    assert "archiver_flows_lost 0.0" in await told()
