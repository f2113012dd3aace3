"""``/_simulator/…``: the truth, the faults and the traffic, for tests in other processes."""

from itertools import chain
from typing import Any, Protocol

from aiohttp import web

from archiver.simulator import truth, wire
from archiver.simulator.access import (
    WORLD,
    Endpoint,
    Refused,
    answer,
    invalid,
    parameters,
)
from archiver.simulator.faults import from_json
from archiver.simulator.schedule import Faults
from archiver.simulator.streaming import FAULTS, Streams

LATEST = 4_000_000_000_000
"""Limit for the times of traffic, in milliseconds: in the year 2096."""

BATCH = 500
"""How many lines of the truth are written at a time."""

MOST_EVENTS = 10_000_000
MOST_RATE = 10_000
"""Limits of traffic: more events would take for ever, and no machine keeps up a higher rate."""


class Playing(Protocol):
    """What the control endpoints need of a simulator."""

    faults: Faults
    streams: Streams

    async def play(
        self, *, seed: int, events: int, rate: float = ..., at: int | None = ...
    ) -> None:
        """Perform so many operations."""

    async def disconnect_streams(self) -> None:
        """Cut all streams."""

    def go_live(self, *, seed: int, rate: float) -> None:
        """Perform operations until stopped."""

    def stop_live(self) -> None:
        """Stop the operations that `go_live` began."""


def add_routes(router: web.UrlDispatcher, simulator: Playing) -> None:
    """Serve the control endpoints, which need no credentials, and refuse requests of web pages."""

    async def play(request: web.Request) -> web.StreamResponse:
        given = await parameters(request)
        seed, rate = _number(given, "seed"), _rate(given)
        events = _number(given, "events", below=MOST_EVENTS + 1)
        at = _number(given, "at", below=LATEST) if "at" in given else None
        if not events:
            if "rate" not in given:
                raise invalid(events="is missing; or rate, for traffic without end")
            if at is not None:
                raise invalid(at="goes with events alone")
            simulator.go_live(seed=seed, rate=rate or 1.0)
            return answer({"live": True})
        await simulator.play(seed=seed, events=events, rate=rate, at=at)
        return answer({"played": events})

    async def stop_traffic(_: web.Request) -> web.StreamResponse:
        simulator.stop_live()
        return answer({})

    async def disconnect(_: web.Request) -> web.StreamResponse:
        await simulator.disconnect_streams()
        return answer({})

    async def stats(request: web.Request) -> web.StreamResponse:
        return answer(_stats(simulator.streams, request.app[WORLD].log.published))

    for method, name, endpoint in (
        ("GET", "truth", tell_truth),
        ("GET", "faults", list_faults),
        ("POST", "faults", add_faults),
        ("DELETE", "faults", clear_faults),
        ("GET", "stats", stats),
        ("POST", "play", play),
        ("POST", "stop_traffic", stop_traffic),
        ("POST", "disconnect", disconnect),
    ):
        router.add_route(method, f"/_simulator/{name}", _for_programs(endpoint))


def _for_programs(endpoint: Endpoint) -> Endpoint:
    """Refuse web pages in a browser on this machine; their requests have the header Origin."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        if "Origin" in request.headers:
            raise Refused(403, "not for pages")
        return await endpoint(request)

    return guarded


async def tell_truth(request: web.Request) -> web.StreamResponse:
    """Answer with the records of the truth, one JSON object a line; ``flow`` asks for one flow.

    Records of files belong to no flow, and are only included without ``flow``.
    """
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    lines: list[bytes] = []
    world, flow = request.app[WORLD], request.query.get("flow")
    files = truth.contents(world.files if flow is None else {})
    for record in chain(truth.records(world.directory, flow), files):
        lines.append(wire.encode(record))
        if len(lines) >= BATCH:
            await response.write(b"\n".join(lines) + b"\n")
            lines.clear()
    if lines:
        await response.write(b"\n".join(lines) + b"\n")
    return response


async def list_faults(request: web.Request) -> web.StreamResponse:
    """Answer with the schedule and with what has fired."""
    faults = request.app[FAULTS]
    return answer({"faults": faults.describe(), "fired": faults.fired})


async def add_faults(request: web.Request) -> web.StreamResponse:
    """Add one fault, or those of ``{"faults": [...]}``."""
    given = await parameters(request)
    try:
        listed = given.get("faults", [given])
        if not isinstance(listed, list):
            raise invalid(faults="is not a list")
        added = [from_json(fault) for fault in listed]
    except ValueError as wrong:
        raise invalid(faults=str(wrong)) from None
    for fault in added:
        request.app[FAULTS].add(fault)
    return await list_faults(request)


async def clear_faults(request: web.Request) -> web.StreamResponse:
    """Take every fault off the schedule."""
    request.app[FAULTS].clear()
    return await list_faults(request)


def _stats(streams: Streams, published: int) -> dict[str, int]:
    return {
        "connections": len(streams.connections),
        "events_published": published,
        "events_sent": streams.events_sent,
        "backlog_bytes": streams.backlog_bytes(),
        "lagged": streams.lagged,
    }


def _rate(given: dict[str, Any]) -> float:
    try:
        rate = float(_told(given, "rate"))
    except (ValueError, OverflowError):
        raise invalid(rate="is not a number") from None
    if not 0 <= rate <= MOST_RATE:
        raise invalid(rate="is out of range")
    return rate


def _number(given: dict[str, Any], name: str, *, below: int | None = None) -> int:
    try:
        number = int(_told(given, name))
    except ValueError:
        raise invalid(**{name: "is not a number"}) from None
    if below is not None and not 0 <= number < below:
        raise invalid(**{name: "is out of range"})
    return number


def _told(given: dict[str, Any], name: str) -> str:
    value = given.get(name, 0)
    if type(value) not in {str, int, float}:
        raise ValueError
    return str(value)
