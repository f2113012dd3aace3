"""What sends requests to Flowdock: whom it trusts, and how an account makes itself known."""

from base64 import b64encode

import aiohttp
from aiohttp.abc import AbstractResolver

QUOTING = (
    aiohttp.ClientResponseError, aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError,
)  # fmt: skip
"""What aiohttp raises with words of the answer in it."""


def open_session(resolver: AbstractResolver | None = None) -> aiohttp.ClientSession:
    """Return what sends requests to Flowdock; with *resolver*, to the addresses that this finds.

    Whom it talks to must prove by TLS who it is. It keeps no cookies, and takes neither proxies nor
    passwords from the environment. How many requests there are at a time is for a `Gate` to say.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, resolver=resolver),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


def authorization(token: str) -> str:
    """Return the header of Basic authentication with *token* as user name (rest documentation)."""
    return "Basic " + b64encode(f"{token}:".encode()).decode()
