"""Which requests are retried, and when.

`is_transient` decides whether to retry, and `Delays` how long to wait; `Backoff` counts attempts
for one stream, `retrying` for one REST call. Each host has one `Gate`, shared by all tasks that
send requests to it: it enforces the operator's rate limit, and waits when the host asks for that.
"""

import asyncio
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

import aiohttp
import tenacity
from msgspec import Struct

from archiver.flowdock.clock import made_at, read_date
from archiver.flowdock.refusals import BadAnswer, Garbled, StatusRefused

MAX_RETRY_AFTER_SECONDS = 3600.0


def is_transient(exc: BaseException) -> bool:
    """Tell whether the same request might succeed later."""
    match exc:
        case StatusRefused(status=status):
            return is_transient_status(status)
        case aiohttp.ClientConnectorCertificateError():
            return False
        case aiohttp.ClientConnectionError() | TimeoutError():
            return True
        case BadAnswer() | Garbled():
            return True
        case _:
            return False


def is_transient_status(status: int) -> bool:
    """Tell whether a status is due to the moment, not to the request."""
    # 409 is transient on Flowdock's streams: its own client retries.
    return status in {408, 409, 425, 429} or status >= 500


def retry_after(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Return how many seconds the server asks to wait; at most `MAX_RETRY_AFTER_SECONDS`.

    ``Retry-After`` is seconds or a date (RFC 9110, 10.2.3); a date is compared with the server's
    own clock, if the answer states its time.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), MAX_RETRY_AFTER_SECONDS)
    until = read_date(value)
    if until is None:
        return None
    seconds = (until - (made_at(headers) or now)).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


class Delays(Struct, frozen=True, kw_only=True):
    """How long to wait before a retry, by the figures of Flowdock's own Node client."""

    error_step_seconds: float = 0.2
    error_limit_seconds: float = 10.0
    refusal_start_seconds: float = 2.0
    refusal_limit_seconds: float = 120.0
    steady_seconds: float = 5.0
    """A connection that lasted this long may be followed by another at once."""

    def after_error(self, errors: int) -> float:
        """Return the delay after that many consecutive network errors."""
        return min(self.error_step_seconds * errors, self.error_limit_seconds)

    def after_refusal(self, refusals: int) -> float:
        """Return the delay after that many consecutive answers without success."""
        doubled = math.ldexp(self.refusal_start_seconds, min(refusals - 1, 30))
        return min(doubled, self.refusal_limit_seconds)


DELAYS = Delays()


class Backoff:
    """The delays of one stream, which reconnects forever; jitter shortens each by up to half."""

    def __init__(self, delays: Delays, chance: random.Random) -> None:
        self._delays = delays
        self._chance = chance
        self._errors = self._refusals = self._breaks = 0

    def after_error(self) -> float:
        """Return the delay after a network error before any answer."""
        self._errors += 1
        return self._jittered(self._delays.after_error(self._errors))

    def after_refusal(self) -> float:
        """Return the delay after an answer that is not a stream."""
        self._refusals += 1
        return self._jittered(self._delays.after_refusal(self._refusals))

    def after_end(self, lasted_seconds: float) -> float:
        """Return the delay after the end of a stream: none, unless it ended soon after it began."""
        self._errors = self._refusals = 0
        self._breaks = 0 if lasted_seconds >= self._delays.steady_seconds else self._breaks + 1
        return self._jittered(self._delays.after_error(self._breaks))

    def _jittered(self, seconds: float) -> float:
        return seconds * self._chance.uniform(0.5, 1.0)


def retrying(
    patience_seconds: float, delays: Delays, chance: random.Random
) -> tenacity.AsyncRetrying:
    """Return a retrier for transient errors; when patience runs out, it raises the last error."""
    clock = asyncio.get_running_loop().time
    began = clock()

    def wait(state: tenacity.RetryCallState) -> float:
        exc = state.outcome.exception() if state.outcome else None
        refused = isinstance(exc, StatusRefused | BadAnswer)
        after = delays.after_refusal if refused else delays.after_error
        return after(state.attempt_number) * chance.uniform(0.5, 1.0)

    def stop(state: tenacity.RetryCallState) -> bool:
        return clock() - began + state.upcoming_sleep > patience_seconds

    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(is_transient),
        wait=wait,
        stop=stop,
        reraise=True,
    )


class Gate:
    """Admits requests to one host: in order, with limits on their concurrency and rate."""

    def __init__(self, *, requests_per_second: float, concurrency: int) -> None:
        self._interval = 1 / requests_per_second
        self._slots = asyncio.Semaphore(concurrency)
        self._order = asyncio.Lock()
        self._next_at = 0.0
        self._held_until = 0.0
        self.passed = 0
        """How many requests were admitted."""
        self.waited_seconds = 0.0
        """How long requests have waited for their turn, in total."""
        self.answers: Counter[str] = Counter()
        """The outcomes of requests: by status, or by type of error if there was no answer."""

    @asynccontextmanager
    async def request(self) -> AsyncIterator[None]:
        """Wait until a request may be sent; keep one of the slots until the block ends."""
        async with self._slots:
            await self.turn()
            yield

    async def turn(self) -> None:
        """Wait until the next request may be sent, first come, first served."""
        clock = asyncio.get_running_loop().time
        began = clock()
        async with self._order:
            while True:
                wait = max(self._next_at, self._held_until) - clock()
                if wait <= 0:
                    break
                await asyncio.sleep(wait)  # then check again: the host may have asked for more
            self._next_at = clock() + self._interval
        self.passed += 1
        self.waited_seconds += clock() - began

    def answered(self, told: int | BaseException) -> None:
        """Count the outcome of a request: its status, or the error that came instead."""
        self.answers[str(told) if isinstance(told, int) else type(told).__name__] += 1

    def held_seconds(self) -> float:
        """How much is left of the pause that the host has asked for."""
        return max(0.0, self._held_until - asyncio.get_running_loop().time())

    def hold(self, seconds: float) -> None:
        """Admit no request for *seconds*, since the host asked for that."""
        until = asyncio.get_running_loop().time() + seconds
        self._held_until = max(self._held_until, until)
