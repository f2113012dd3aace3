"""What is kept for some time only: passing signals, and pages that found all as it was."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import NoReturn

from archiver.ingest.apply import when_possible
from archiver.store import asides, coverage
from archiver.store.engine import Engine

PRUNE_SECONDS = 3600.0
PAGES_KEPT = timedelta(days=90)
"""Of the audit and of `verify`, and of what failed; what first proved a range is kept for good."""


async def prune(
    engine: Engine, *, signals_kept: timedelta, now: Callable[[], datetime]
) -> NoReturn:
    """Drop signals whose time is over, and what pages proved that nobody asks after any more."""
    while True:
        before = now() - signals_kept
        await when_possible(engine, partial(asides.drop_signals, before=before))
        before = now() - PAGES_KEPT
        await when_possible(engine, partial(coverage.drop_audits, before=before))
        await asyncio.sleep(PRUNE_SECONDS)
