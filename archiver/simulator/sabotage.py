"""How faults affect requests: answered with an error, held back, cut short, dropped."""

import asyncio
import json

from aiohttp import web

from archiver.simulator import wire
from archiver.simulator.access import Endpoint
from archiver.simulator.connection import drop
from archiver.simulator.faults import Fault, Side
from archiver.simulator.streaming import FAULTS, is_stream

CONTROL = "/_simulator"


@web.middleware
async def sabotage(request: web.Request, handler: Endpoint) -> web.StreamResponse:
    """Apply the fault that is due for a request, if any."""
    if request.path.startswith(CONTROL):
        return await handler(request)
    side: Side = "stream" if is_stream(request) else "rest"
    fault = request.app[FAULTS].on_request(side, request.path)
    match fault:
        case None:
            return _thinned(request, await handler(request))
        case Fault(kind="status"):
            return _error(fault)
        case Fault(kind="silence"):
            await asyncio.sleep(3600 if fault.seconds is None else fault.seconds)
            return await handler(request)
        case Fault(kind="cut"):
            return await _cut_short(request, await handler(request), fault)
        case _:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)


def _thinned(request: web.Request, whole: web.StreamResponse) -> web.StreamResponse:
    """Remove from a page of messages what a fault takes away."""
    faults = request.app[FAULTS]
    is_page = request.method == "GET" and request.path.endswith("/messages")
    is_page = is_page and faults.concern_pages(request.path)
    if not is_page or not isinstance(whole, web.Response) or whole.status != 200:
        return whole
    if isinstance(whole.body, bytes):
        page = [wire.encode(message) for message in json.loads(whole.body)]
        ascending = request.query.get("sort") == "asc"
        left = faults.on_page(request.path, page, ascending=ascending)
        if left is not None:
            whole.body = b"[" + b",".join(left) + b"]"
    return whole


def _error(fault: Fault) -> web.Response:
    headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
    if fault.body is not None:
        return web.Response(
            status=fault.status, text=fault.body, content_type="text/html", headers=headers
        )
    body = f'{{"message":"status {fault.status}"}}'
    return web.Response(
        status=fault.status, text=body, content_type="application/json", headers=headers
    )


async def _cut_short(
    request: web.Request, whole: web.StreamResponse, fault: Fault
) -> web.StreamResponse:
    body = whole.body if isinstance(whole, web.Response) else None
    if not isinstance(body, bytes):
        return whole
    cut = web.StreamResponse(status=whole.status, headers=whole.headers)
    cut.content_length = len(body)
    await cut.prepare(request)
    await cut.write(body[: len(body) // 2 if fault.after_bytes is None else fault.after_bytes])
    await drop(request.transport, "reset" if fault.how == "reset" else "abort")
    return cut
