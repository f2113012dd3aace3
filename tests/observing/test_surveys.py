"""Surveys of a real archive, as they reach the metrics."""

import asyncio

from typing_extensions import override

from archiver.observing.health import Observed
from archiver.observing.metrics import Dated, Metrics
from archiver.observing.surveys import keep_surveying
from archiver.store.engine import connect
from tests.observing.conftest import NOW
from tests.store.test_surveying import NOW as TODAY
from tests.store.test_surveying import given


class Noting(Metrics):
    """Metrics that tell when they were given a survey."""

    def __init__(self, observed: Observed, *, flows: int) -> None:
        super().__init__(observed, flows=flows)
        self.noted = asyncio.Event()

    @override
    def note(self, dated: Dated) -> None:
        super().note(dated)
        self.noted.set()


async def test_only_the_flows_that_are_wanted_are_told(
    observed: Observed, database_url: str
) -> None:
    given(database_url)
    metrics = Noting(observed, flows=10)
    unwanted: set[str] = set()

    async def told() -> str:
        """The page after the next survey."""
        async with connect(database_url) as engine:
            surveying = keep_surveying(
                engine, metrics, now=lambda: TODAY, wants=lambda path: path not in unwanted
            )
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                task = group.create_task(surveying)
                await metrics.noted.wait()
                metrics.noted.clear()
                task.cancel()
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
