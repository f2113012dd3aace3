"""Surveys the archive periodically, so that requests for metrics cost the database nothing."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import NoReturn

from archiver.observing.metrics import Dated, Metrics
from archiver.store.connection import Engine
from archiver.store.engine import DatabaseError, transaction
from archiver.store.surveying import survey

log = logging.getLogger(__name__)

SURVEY_SECONDS = 15.0


async def keep_surveying(
    engine: Engine, metrics: Metrics, *, now: Callable[[], datetime]
) -> NoReturn:
    """Give *metrics* surveys of the archive; while the database is away, the last one stays."""
    clock = asyncio.get_running_loop().time
    while True:
        try:
            async with transaction(engine) as tx:
                metrics.note(Dated(await survey(tx, now=now()), clock()))
        except DatabaseError as error:
            log.debug("cannot read how complete the archive is", extra={"reason": error})
        await asyncio.sleep(SURVEY_SECONDS)
