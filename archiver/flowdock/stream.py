"""Follows the stream of one shard, connection after connection.

`follow` connects, cuts what it receives into frames, notices silence, and reconnects::

    async with aclosing(follow(session, url, shard, …)) as occurrences:
        async for occurrence in occurrences:
            match occurrence:
                case Opened(): …
                case Frames(frames=frames): …
                case Closed(): …

All frames between an `Opened` and the next `Closed` came on one unbroken connection. Only a small
buffer is read ahead, so a slow consumer slows down the server.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, closing
from datetime import datetime
from typing import Literal

import aiohttp
from msgspec import Struct
from yarl import URL

from archiver.flowdock.breaks import why_broken
from archiver.flowdock.clock import made_at
from archiver.flowdock.framing import (
    MAX_FRAME_BYTES,
    EventStreamFramer,
    JsonFramer,
    escape_newlines,
)
from archiver.flowdock.redaction import redact_all
from archiver.flowdock.refusals import HeadTooLong, Redirected, ShardRefused, TokenRefused
from archiver.flowdock.retry import (
    DELAYS,
    MAX_RETRY_AFTER_SECONDS,
    Backoff,
    Delays,
    Gate,
    is_transient_status,
    retry_after,
)
from archiver.flowdock.session import authorization
from archiver.flowdock.shards import Shard, query_of

Format = Literal["event-stream", "json"]
_ACCEPT = {"event-stream": "text/event-stream", "json": "application/json"}
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10.0)


class Opened(Struct, frozen=True, kw_only=True):
    """A connection is established: from now on, events are received."""

    connection: int
    """Its number since `follow` began, from 1."""
    answered_at: datetime
    """When it was established, by the service's own clock, to the second."""


class Frames(Struct, frozen=True, kw_only=True):
    """Frames, in the order of their arrival."""

    frames: list[bytes]
    received_at: datetime
    truncated: int = 0
    """How many of them were too long and are truncated."""


class Closed(Struct, frozen=True, kw_only=True):
    """A connection has ended or failed; the next attempt is made after *retry_in_seconds*."""

    url: str
    """The origin of the service that it was made to."""
    connection: int | None
    """Its number; None when it was never established."""
    reason: str
    retry_in_seconds: float


Occurrence = Opened | Frames | Closed


async def follow(
    session: aiohttp.ClientSession,
    base_url: str,
    shard: Shard,
    *,
    token: str,
    gate: Gate,
    clock: Callable[[], datetime],
    service_time: Callable[[], datetime],
    chance: random.Random,
    stream_format: Format = "event-stream",
    silence_seconds: float = 90.0,
    delays: Delays = DELAYS,
    frame_limit_bytes: int = MAX_FRAME_BYTES,
) -> AsyncGenerator[Occurrence, None]:
    """Yield what happens on *shard*, connection after connection, until it is closed.

    A connection that brings no byte for *silence_seconds* is considered cut: the server sends
    keep-alives more often (its own IRC gateway waits 90 s). A stream counts as opened at the time
    of its header Date or at *service_time*, whichever is later; Flowdock's streams had no such
    header (a capture of 2012).

    Raises:
        TokenRefused: the token is unknown.
        ShardRefused: at least one of the flows is lost; list them again.
        HeadTooLong: the server takes fewer flows in one request; halve the shard.
        Redirected: the stream is elsewhere.
    """
    stream = _Stream(
        session,
        URL(f"{base_url.rstrip('/')}/flows?{query_of(shard)}", encoded=True),
        flows=len(shard.flows),
        headers={
            "Accept": _ACCEPT[stream_format],
            "Accept-Encoding": "identity",
            "Authorization": authorization(token),
        },
        gate=gate,
        clock=clock,
        service_time=service_time,
        backoff=Backoff(delays, chance),
        silence_seconds=silence_seconds,
        frame_limit_bytes=frame_limit_bytes,
    )
    while True:
        pause = 0.0
        async with aclosing(stream.connect()) as occurrences:
            async for occurrence in occurrences:
                yield occurrence
                if isinstance(occurrence, Closed):
                    pause = occurrence.retry_in_seconds
        await asyncio.sleep(pause)


class _Stream:
    """The state that outlives a connection: the position, the backoff, the count."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: URL,
        *,
        flows: int,
        headers: Mapping[str, str],
        gate: Gate,
        clock: Callable[[], datetime],
        service_time: Callable[[], datetime],
        backoff: Backoff,
        silence_seconds: float,
        frame_limit_bytes: int,
    ) -> None:
        self._session = session
        self._url = url
        self._flows = flows
        self._headers = headers
        self._gate = gate
        self._clock = clock
        self._service_time = service_time
        self._backoff = backoff
        self._silence_seconds = silence_seconds
        self._frame_limit_bytes = frame_limit_bytes
        self._connections = 0
        self._last_event_id = ""

    async def connect(self) -> AsyncGenerator[Occurrence, None]:
        """Yield what happens on one connection, ending with a `Closed`."""
        await self._gate.turn()
        try:
            async with asyncio.timeout(self._silence_seconds):
                response = await self._request()
        except (aiohttp.ClientError, OSError) as exc:
            self._gate.answered(exc)
            delay = self._backoff.after_error()
            yield self._closed(why_broken(exc), delay)
            return
        self._gate.answered(response.status)
        try:
            framer = self._framer(response)
            if framer is None:
                yield self._refusal(response)
                return
            content = _Content(response.content, silence_seconds=self._silence_seconds)
            with closing(content):
                # The host of the streams may have a slow clock, which makes a replay seem new.
                told = (made_at(response.headers), self._service_time())
                answered_at = max(moment for moment in told if moment)
                async with aclosing(self._listen(content, framer, answered_at)) as occurrences:
                    async for occurrence in occurrences:
                        yield occurrence
        finally:
            response.close()

    async def _request(self) -> aiohttp.ClientResponse:
        headers = dict(self._headers)
        if self._last_event_id:
            headers["Last-Event-ID"] = self._last_event_id
        return await self._session.get(
            self._url, headers=headers, timeout=_TIMEOUT, allow_redirects=False
        )

    async def _listen(
        self,
        content: "_Content",
        framer: JsonFramer | EventStreamFramer,
        answered_at: datetime,
    ) -> AsyncGenerator[Occurrence, None]:
        clock = asyncio.get_running_loop().time
        began = clock()
        self._connections += 1
        yield Opened(connection=self._connections, answered_at=answered_at)
        while isinstance(received := await content.receive(), bytes):
            before = framer.truncated
            if frames := framer.feed(received):
                cut = framer.truncated - before
                frames = [escape_newlines(frame) for frame in frames]
                yield Frames(frames=redact_all(frames), received_at=self._clock(), truncated=cut)
                if isinstance(framer, EventStreamFramer):
                    self._last_event_id = _sendable(framer.last_event_id)
        delay = self._backoff.after_end(clock() - began)
        if isinstance(framer, EventStreamFramer):
            delay = max(delay, min(framer.retry_seconds or 0.0, MAX_RETRY_AFTER_SECONDS))
        yield self._closed(received, delay, connection=self._connections)

    def _framer(self, response: aiohttp.ClientResponse) -> JsonFramer | EventStreamFramer | None:
        """Return the framer for the answer; None when the answer is not a stream."""
        if response.status != 200:
            return None
        match response.content_type:
            case "application/json":
                return JsonFramer(self._frame_limit_bytes)
            case "text/event-stream":
                last = self._last_event_id
                return EventStreamFramer(self._frame_limit_bytes, last_event_id=last)
            case _:
                return None

    def _refusal(self, response: aiohttp.ClientResponse) -> Closed:
        """Return the `Closed` for an answer that is not a stream, or raise the error it means."""
        status = response.status
        asked = retry_after(response.headers, now=self._clock()) or 0.0
        if status in {429, 503}:
            self._gate.hold(asked)
        if status == 401:
            raise TokenRefused
        if 300 <= status < 400:
            raise Redirected(
                "/flows", status=status, setting="ARCHIVER_STREAM_URL (stream_url in the file)"
            )
        if status in {403, 404}:
            raise ShardRefused(status)
        if self._last_event_id and not is_transient_status(status):
            self._last_event_id = ""  # perhaps the server refused the position
        elif status in {400, 414, 431} and self._flows > 1:
            raise HeadTooLong(status, flows=self._flows)
        reason = f"status {status}" if status != 200 else f"{response.content_type}, not a stream"
        delay = max(self._backoff.after_refusal(), asked)
        return self._closed(reason, delay)

    def _closed(self, reason: str, delay: float, *, connection: int | None = None) -> Closed:
        url = str(self._url.origin())
        return Closed(url=url, connection=connection, reason=reason, retry_in_seconds=delay)


class _Content:
    """The body of one answer, with a timeout for silence.

    A timeout around each read would cost as much as the read itself. So there is one timer; when it
    fires, it checks how long the current read has been waiting.
    """

    def __init__(self, reader: aiohttp.StreamReader, *, silence_seconds: float) -> None:
        self._reader = reader
        self._silence_seconds = silence_seconds
        self._loop = asyncio.get_running_loop()
        self._waiting_since: float | None = None
        self._timer = self._loop.call_later(silence_seconds, self._look)

    async def receive(self) -> bytes | str:
        """Return the next bytes, or why there are no more."""
        self._waiting_since = self._loop.time()
        try:
            return await self._reader.readany() or "ended"
        except TimeoutError:
            return "silence"
        except (aiohttp.ClientError, OSError) as exc:
            return why_broken(exc)
        finally:
            self._waiting_since = None

    def close(self) -> None:
        """Stop the timer."""
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        since = now if self._waiting_since is None else self._waiting_since
        left = since + self._silence_seconds - now
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            # While this process was held up, bytes may have arrived: let their reader run first.
            self._timer = self._loop.call_later(0, self._give_up, since)

    def _give_up(self, since: float) -> None:
        if self._waiting_since == since:
            self._reader.set_exception(TimeoutError())
        else:
            self._look()


def _sendable(event_id: str) -> str:
    """Return *event_id* if a header can hold it, otherwise an empty text."""
    return event_id if event_id.isprintable() else ""
