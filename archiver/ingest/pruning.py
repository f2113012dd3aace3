"""Dropping what is kept only for some time: signals, and ledger rows of pages.

A clock that is far ahead would have all of it dropped at once. So a time counts as over only when
it is over by both this machine's clock and the database's.
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
"""How long to keep rows of the audit, of `verify`, and of failed requests.

Kept for good are the pages that filled a gap, the last failure at each range, and what came of the
last requests for the newest message of each flow."""


async def prune(
    engine: Engine, *, signals_kept: timedelta, now: Callable[[], datetime]
) -> NoReturn:
    """Keep dropping old signals, and ledger rows of pages that are no longer needed."""
    looked_through = 0
    while True:
        at = min(now(), await when_possible(engine, asides.clock))
        await when_possible(engine, partial(asides.drop_signals, before=at - signals_kept))
        drop = partial(
            coverage.drop_audits, before=at - PAGES_KEPT, until=at, looked_through=looked_through
        )
        looked_through = await when_possible(engine, drop)
        await asyncio.sleep(PRUNE_SECONDS)
