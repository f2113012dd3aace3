"""Why a connection broke, or did not come about, in words that repeat nothing of the request."""

import os
import ssl

import aiohttp


def why_broken(error: BaseException) -> str:
    """What *error* says of a stream; up to the colon, one of few words."""
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "cut"
    if told := why_unconnected(error):
        return f"no connection: {told}"
    return f"cut: {type(error).__name__}"


def what_said(error: BaseException) -> str:
    """What *error* says; of one that says nothing, what kind it is."""
    return str(error) or type(error).__name__


def why_unconnected(error: BaseException) -> str | None:
    """Why there is no connection at all, as the system says it; None if something else failed."""
    # What asyncio and aiohttp make of it repeats the address.
    inner = getattr(error, "os_error", None)
    if not isinstance(inner, OSError):
        return None
    if inner.errno is not None and inner.errno > 0 and not isinstance(inner, ssl.SSLError):
        return os.strerror(inner.errno)
    return inner.strerror or str(inner)
