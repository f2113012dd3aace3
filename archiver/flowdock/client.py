"""Flowdock's REST API, as one account sees it.

Every call is a GET, which is retried while errors are transient and patience lasts. The token goes
into the Authorization header and nowhere else; redirects are not followed, so it is sent to no
other host.
"""

import logging
import random
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
from msgspec import Struct
from yarl import URL

from archiver.domain.model import Flow, FlowId, User, UserId, is_private
from archiver.errors import ArchiverError
from archiver.flowdock.clock import made_at, since_boot
from archiver.flowdock.directory import conversation_of, flow_of, user_of
from archiver.flowdock.envelope import read_json
from archiver.flowdock.fields import read_user
from archiver.flowdock.pages import Page, split
from archiver.flowdock.redaction import redact
from archiver.flowdock.refusals import (
    AnswerTooLong,
    BadAnswer,
    FlowRefused,
    Garbled,
    Redirected,
    StatusRefused,
    TokenRefused,
)
from archiver.flowdock.retry import DELAYS, Delays, Gate, retry_after, retrying
from archiver.flowdock.session import QUOTING, authorization

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_PAGE = 100
"""The most messages that one page holds (messages documentation)."""

UNANSWERED = (ArchiverError, aiohttp.ClientError, TimeoutError)
"""What a call raises when the service does not give what was asked for. `TokenRefused` is among it:
whoever goes on without an answer lets that one through."""

LONG_HOLD_SECONDS = 10.0
"""From this length on, a pause that a host asks for is logged."""


class Limits(Struct, frozen=True, kw_only=True):
    """What a call may cost."""

    patience_seconds: float = 60.0
    """How long a call is retried before its error is raised."""
    answer_seconds: float = 60.0
    """How long one request may take, including its body."""
    connect_seconds: float = 10.0
    body_bytes: int = 256 * 1024 * 1024
    """The greatest length of an answer, decompressed."""
    page_bytes: int = 8 * 1024 * 1024
    """The same for a page of more than one message: a longer one is requested in smaller parts. So
    is one whose body takes longer than *answer_seconds*."""


LIMITS = Limits()


class _Answer(Struct, frozen=True):
    status: int
    body: bytes
    requested_at: datetime
    answered_at: datetime


class Client:
    """One account at one API. Calls may run concurrently; the gate limits how many do.

    Every call raises `TokenRefused` when the token is unknown, `Redirected`, `StatusRefused`,
    `BadAnswer`, `Garbled` or `AnswerTooLong` depending on the answer, and aiohttp's errors or
    `TimeoutError` when no answer came in time.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        token: str,
        *,
        gate: Gate,
        clock: Callable[[], datetime],
        chance: random.Random,
        limits: Limits = LIMITS,
        delays: Delays = DELAYS,
        stopwatch: Callable[[], float] = since_boot,
    ) -> None:
        self._session = session
        self._base = base_url.rstrip("/")
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Authorization": authorization(token),
        }
        self._gate = gate
        self._clock = clock
        self._limits = limits
        self._delays = delays
        self._chance = chance
        self._timeout = aiohttp.ClientTimeout(
            total=limits.answer_seconds, sock_connect=limits.connect_seconds
        )
        self.user_id: UserId | None = None
        """The user whose token it is, according to the last answer."""
        self._stopwatch = stopwatch
        self._service_told: tuple[datetime, float] | None = None
        """A time by the service's clock, and the reading of the stopwatch that belongs to it."""

    def service_time(self) -> datetime:
        """The time by the service's clock, from its last successful answer; before one, by ours.

        It is behind by a second at most, the precision of the header. Setting our clock does not
        affect it.
        """
        if self._service_told is None:
            return self._clock()
        told, at = self._service_told
        return told + timedelta(seconds=self._stopwatch() - at)

    async def me(self) -> User:
        """Return the account's own user."""
        user = await self._ask("/user", lambda answer: _required(user_of(read_json(answer.body))))
        self.user_id = user.id
        return user

    async def flows(self) -> list[Flow]:
        """Return the flows that the account has joined."""
        return await self._listed("/flows", flow_of)

    async def users(self) -> list[User]:
        """Return the people of all organizations that the account belongs to."""
        return await self._listed("/users", user_of)

    async def conversations(self) -> list[Flow]:
        """Return the account's private conversations."""
        me = self.user_id or (await self.me()).id
        return await self._listed("/private", lambda item: conversation_of(item, me))

    async def page(
        self,
        flow_path: str,
        *,
        since: int | None = None,
        until: int | None = None,
        newest: bool,
        limit: int = MAX_PAGE,
    ) -> Page:
        """Return messages with ids above *since* and below *until*.

        If there are more than *limit*, the newest or the oldest of them, as *newest* says.

        Raises:
            FlowRefused: the flow does not exist, or this account may not read it.
            AnswerTooLong: the messages together are too large, or more than came in time; with a
                *limit* of 1, a single one is too large.
        """
        asked = {"limit": limit, "since_id": since, "until_id": until}
        query = {name: str(value) for name, value in asked.items() if value is not None}
        if not newest:
            query["sort"] = "asc"

        def read(answer: _Answer) -> Page:
            _require_flow(answer, flow_path)
            return Page(
                path=flow_path,
                since=since,
                until=until,
                newest=newest,
                limit=limit,
                frames=tuple(map(redact, split(answer.body))),
                requested_at=answer.requested_at,
                answered_at=answer.answered_at,
            )

        path = _messages(flow_path)
        return await self._ask(path, read, query, accepted={200, 403, 404}, divisible=limit > 1)

    async def show(self, flow_path: str, message_id: int) -> bytes | None:
        """Return one message as the server shows it; None when there is none.

        The answer is the same if the flow is gone: a caller that draws conclusions from None must
        make sure that the flow can still be read.

        Raises:
            FlowRefused: this account may not read the flow.
        """

        def read(answer: _Answer) -> bytes | None:
            if answer.status == 403:
                raise FlowRefused(flow_path, answer.status)
            body = _object(answer)
            return redact(body) if answer.status == 200 else None

        path = f"{_messages(flow_path)}/{message_id}"
        return await self._ask(path, read, accepted={200, 403, 404})

    async def flow_at(self, flow_path: str) -> FlowId | None:
        """Return the id of the flow that *flow_path* leads to now; None if it is not told.

        Raises:
            FlowRefused: the flow does not exist, or this account may not read it.
        """

        def read(answer: _Answer) -> FlowId | None:
            _require_flow(answer, flow_path)
            described = flow_of(read_json(_object(answer)))
            return None if described is None else described.id

        return await self._ask(_flow(flow_path), read, accepted={200, 403, 404})

    async def _listed(self, path: str, read: Callable[[Any], T | None]) -> list[T]:
        """Return what *read* makes of the items at *path*; log how many it does not understand."""
        items = await self._ask(path, _items)
        found = [value for value in map(read, items) if value is not None]
        if left_out := len(items) - len(found):
            log.warning(
                "some listed items cannot be read: left out",
                extra={"path": path, "items": left_out},
            )
        return found

    async def _ask(
        self,
        path: str,
        read: Callable[[_Answer], T],
        query: Mapping[str, str] | None = None,
        *,
        accepted: AbstractSet[int] = frozenset({200}),
        divisible: bool = False,
    ) -> T:
        """Return what *read* makes of the answer; a ValueError in *read* means a bad answer.

        What is *divisible* can be requested in smaller parts.
        """

        async def ask_once() -> T:
            async with self._gate.request():
                try:
                    answer = await self._send(path, query or {}, accepted, divisible)
                except (aiohttp.ClientError, OSError) as error:
                    self._gate.answered(error)
                    if isinstance(error, QUOTING):
                        raise Garbled(path) from None
                    raise
            try:
                return read(answer)
            except ValueError:
                raise BadAnswer(path, answer.body) from None

        again = retrying(self._limits.patience_seconds, self._delays, self._chance)
        return await again(ask_once)

    async def _send(
        self,
        path: str,
        query: Mapping[str, str],
        accepted: AbstractSet[int],
        divisible: bool,
    ) -> _Answer:
        url = URL(f"{self._base}{path}?{urlencode(query)}".rstrip("?"), encoded=True)
        requested_at, asked = self._clock(), self._stopwatch()
        async with self._session.get(
            url, headers=self._headers, timeout=self._timeout, allow_redirects=False
        ) as response:
            status = response.status
            self._gate.answered(status)
            told = read_user(response.headers.get("Flowdock-User"))
            if told and told.isascii() and told.isdigit():
                self.user_id = told
            if status in {429, 503}:
                self._hold(path, status, retry_after(response.headers, now=self._clock()) or 0.0)
            if status == 401:
                raise TokenRefused
            if 300 <= status < 400:
                raise Redirected(
                    path, status=status, setting="ARCHIVER_API_URL (api_url in the file)"
                )
            if status not in accepted:
                raise StatusRefused(path, status)
            # Not from a refusal: it may come from a proxy, which has a clock of its own.
            if date := made_at(response.headers):
                self._service_told = date, asked
            body = await self._read(path, response, divisible)
        return _Answer(status, body, requested_at, self._clock())

    def _hold(self, path: str, status: int, seconds: float) -> None:
        """Pause requests as the host asks; log a long pause, since nothing is requested in it."""
        if seconds - self._gate.held_seconds() >= LONG_HOLD_SECONDS:
            about = {"path": path, "status": status, "in_seconds": round(seconds)}
            log.warning("Flowdock asked for a pause: no requests until then", extra=about)
        self._gate.hold(seconds)

    async def _read(self, path: str, response: aiohttp.ClientResponse, divisible: bool) -> bytes:
        most_bytes = self._limits.body_bytes
        if divisible:
            most_bytes = min(most_bytes, self._limits.page_bytes)
        chunks = []
        length = 0
        try:
            async for chunk in response.content.iter_any():
                chunks.append(chunk)
                length += len(chunk)
                if length > most_bytes:
                    response.close()
                    raise AnswerTooLong(path, most_bytes)
        except TimeoutError:
            # To ask for as much again would take as long, on a slow line for ever.
            if divisible and length:
                raise AnswerTooLong(path, length) from None
            raise
        return b"".join(chunks)


def _items(answer: _Answer) -> list[Any]:
    items = read_json(answer.body)
    if not isinstance(items, list):
        raise ValueError("not a list")  # noqa: TRY004  (the answer is bad, not the call)
    return items


def _require_flow(answer: _Answer, flow_path: str) -> None:
    """Raise `FlowRefused` if *answer* says that there is no such flow, or that it may not be read.

    A 404 that is not the API's raises ValueError.
    """
    if answer.status == 404:
        _object(answer)
    if answer.status != 200:
        raise FlowRefused(flow_path, answer.status)


def _object(answer: _Answer) -> bytes:
    """The body of an answer, if it is a JSON object: Flowdock's 404 is one, a proxy's is not."""
    body = answer.body.strip()
    if not (body.startswith(b"{") and body.endswith(b"}")):
        raise ValueError("not a JSON object")
    return body


def _required(value: T | None) -> T:
    if value is None:
        raise ValueError("it has no id")
    return value


def _messages(flow_path: str) -> str:
    """Return the path at which the messages of a flow or a private conversation are listed."""
    if is_private(flow_path):
        other = flow_path.rpartition("/")[2]
        return f"/private/{quote(other, safe='')}/messages"
    return f"{_flow(flow_path)}/messages"


def _flow(flow_path: str) -> str:
    """Return the path at which a flow is described."""
    return "/flows/" + "/".join(quote(segment, safe="") for segment in flow_path.split("/"))
