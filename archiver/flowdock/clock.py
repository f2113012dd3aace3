"""What time it is by a host's clock, and how much of it has passed whatever ours says."""

import time
from datetime import datetime

import aiohttp

from archiver.flowdock.retry import made_at

PATIENCE = aiohttp.ClientTimeout(total=10.0)


async def host_time(session: aiohttp.ClientSession, url: str) -> datetime | None:
    """The header Date of any answer, to a request without credentials; None when it has none.

    Raises:
        aiohttp.ClientError, TimeoutError: there is no answer.
    """
    async with session.get(url, timeout=PATIENCE, allow_redirects=False) as answer:
        return made_at(answer.headers)


def since_boot() -> float:
    """Seconds since this machine was started; those that it slept count where the system tells.

    Setting the clock does not change them.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
