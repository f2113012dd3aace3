"""The HTTP session for Flowdock: what it trusts, and how an account authenticates itself."""

from base64 import b64encode

import aiohttp
from aiohttp.abc import AbstractResolver

QUOTING = (
    aiohttp.ClientResponseError, aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError,
)  # fmt: skip
"""The errors of aiohttp that quote the answer."""


def open_session(resolver: AbstractResolver | None = None) -> aiohttp.ClientSession:
    """Return a session for requests to Flowdock; *resolver*, if given, resolves host names.

    It verifies TLS certificates, keeps no cookies, and takes neither proxies nor passwords from the
    environment. It does not limit concurrency: a `Gate` does.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, resolver=resolver),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


def authorization(token: str) -> str:
    """Return the header of Basic authentication with *token* as user name (rest documentation)."""
    return "Basic " + b64encode(f"{token}:".encode()).decode()
