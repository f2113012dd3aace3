"""What is kept for some time only: passing signals, and pages that found all as it was.

A clock far ahead would have all of it dropped at once. So the time is over when it is both by this
machine's clock and by the database's.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import NoReturn

from archiver.ingest.apply import when_possible
from archiver.store import asides, coverage
from archiver.store.connection import Engine

PRUNE_SECONDS = 3600.0
PAGES_KEPT = timedelta(days=90)
"""Of the audit and of `verify`, and of what failed; what first proved a range is kept for good."""


async def prune(
    engine: Engine, *, signals_kept: timedelta, now: Callable[[], datetime]
) -> NoReturn:
    """Drop signals whose time is over, and what pages proved that nobody asks after any more."""
    while True:
        at = min(now(), await when_possible(engine, asides.clock))
        await when_possible(engine, partial(asides.drop_signals, before=at - signals_kept))
        await when_possible(engine, partial(coverage.drop_audits, before=at - PAGES_KEPT))
        await asyncio.sleep(PRUNE_SECONDS)
