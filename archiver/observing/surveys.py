"""Surveys the archive periodically, so that requests for metrics cost the database nothing."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import NoReturn

from msgspec.structs import replace

from archiver.domain.model import is_private
from archiver.observing.metrics import Dated, Metrics
from archiver.store.connection import Engine
from archiver.store.engine import DatabaseError, transaction
from archiver.store.surveying import survey

log = logging.getLogger(__name__)

SURVEY_SECONDS = 15.0


async def keep_surveying(
    engine: Engine,
    metrics: Metrics,
    *,
    now: Callable[[], datetime],
    wants: Callable[[str], bool],
) -> NoReturn:
    """Give *metrics* surveys of the archive; while the database is away, the last one stays.

    They cover the flows that *wants* selects, by path: nobody fills the gaps of the others.
    """
    clock = asyncio.get_running_loop().time
    while True:
        try:
            async with transaction(engine) as tx:
                found = await survey(tx, now=now())
            flows = [one for one in found.flows if wants(one.flow)]
            # Nothing could be done about a private conversation: none can be excluded alone.
            lost = [path for path in found.lost if wants(path) and not is_private(path)]
            metrics.note(Dated(replace(found, flows=flows, lost=lost), clock()))
        except DatabaseError as error:
            log.debug("cannot read how complete the archive is", extra={"reason": error})
        await asyncio.sleep(SURVEY_SECONDS)
