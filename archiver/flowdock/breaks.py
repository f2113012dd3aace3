"""Why a connection broke or could not be made, in words that repeat nothing of the request."""

import os
import ssl

import aiohttp

NOT_IN_TIME = "no answer in time"


def why_broken(error: BaseException) -> str:
    """Why *error* ended a stream; the part before the colon is one of a few phrases."""
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "cut"
    return reason_of(error) if why_unconnected(error) else f"cut: {type(error).__name__}"


def reason_of(error: BaseException) -> str:
    """Why a request failed: what kept it from connecting, or the message or type of *error*."""
    if told := why_unconnected(error):
        return f"no connection: {told}"
    return str(error) or (NOT_IN_TIME if isinstance(error, TimeoutError) else type(error).__name__)


def why_unconnected(error: BaseException) -> str | None:
    """Why no connection could be made, as the system says it; None if something else failed."""
    # The messages of asyncio and aiohttp repeat the address.
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return NOT_IN_TIME
    inner = getattr(error, "os_error", None)
    if not isinstance(inner, OSError):
        return None
    if inner.errno is not None and inner.errno > 0 and not isinstance(inner, ssl.SSLError):
        return os.strerror(inner.errno)
    return inner.strerror or str(inner)
