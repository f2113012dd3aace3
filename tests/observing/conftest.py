"""A daemon to observe, made of the counters that a real one keeps."""

import pytest

from archiver.flowdock.retry import Gate
from archiver.ingest.intake import Intake
from archiver.ingest.tally import Link, Tally
from archiver.observing.health import Observed

NOW = 1000.0


@pytest.fixture
async def observed() -> Observed:
    """One account at work, capturing two flows on one stream, as of the time `NOW`."""
    tally = Tally.of(["work"])
    account = tally.accounts["work"]
    account.begin(now=900.0)
    account.paths = {1: "acme/main", 2: 'acme/"odd\\name'}
    link = Link()
    account.links.add(link)
    account.open(link)
    account.match(1, now=NOW - 10)
    account.match(2, now=NOW - 40)
    tally.turned(now=NOW - 0.2)
    return Observed(
        tally=tally,
        intake=Intake(limit_bytes=1000, settling_seconds=3),
        gates={"api.example": Gate(requests_per_second=10, concurrency=4)},
        heads_seconds=300,
        began_at=100.0,
    )
