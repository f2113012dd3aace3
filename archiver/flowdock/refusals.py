"""Errors on the wire, classed by what can be done about them.

None of them holds the headers of a request: aiohttp's own errors about answers do, and thereby the
token.
"""

from archiver.errors import ArchiverError


class TokenRefused(ArchiverError):
    """Flowdock does not know the token (401); the caller knows whose it is and where it is set."""

    def __init__(self) -> None:
        super().__init__("Flowdock refused the token (401)")


class Redirected(ArchiverError):
    """The host answers with a redirect, which is not followed: its target would get the token."""

    def __init__(self, path: str, *, status: int, setting: str) -> None:
        super().__init__(f"{path} was answered with a redirect ({status}); correct {setting}")


class FlowRefused(ArchiverError):
    """The flow does not exist, or the account may not see it."""

    def __init__(self, path: str, status: int) -> None:
        super().__init__(
            f"Flowdock refused {path} ({status}); join the flow, or exclude it in the settings"
        )


class ShardRefused(ArchiverError):
    """The account lost access to a flow of a stream; the server does not say which (403, 404)."""

    def __init__(self, status: int) -> None:
        super().__init__(f"Flowdock refused a stream because of one of its flows ({status})")


class HeadTooLong(ArchiverError):
    """A stream's request names more flows than the server takes in one head (400, 414, 431)."""

    def __init__(self, status: int, *, flows: int) -> None:
        super().__init__(
            f"Flowdock refused a request for a stream of {flows} flows as too long ({status})"
        )


class AnswerTooLong(ArchiverError):
    """An answer is longer than allowed; of what can be divided, than what came of it in time."""

    def __init__(self, path: str, limit_bytes: int) -> None:
        super().__init__(f"the answer to {path} is longer than {limit_bytes} bytes")


class StatusRefused(ArchiverError):
    """Any other status that does not mean success."""

    def __init__(self, path: str, status: int) -> None:
        super().__init__(f"{path} was answered with status {status}")
        self.status = status


class Garbled(ArchiverError):
    """An answer broke off, or is not HTTP.

    As in `BadAnswer`, none of it is quoted; aiohttp's own error quotes a line, or all headers.
    """

    def __init__(self, path: str) -> None:
        super().__init__(f"the answer to {path} is incomplete or is not HTTP")


class BadAnswer(ArchiverError):
    """An answer that is not the API's: a proxy's page, even with status 404, or truncated JSON.

    None of it is quoted: it may be chat, or a flow's secret ``api_token``.
    """

    def __init__(self, path: str, body: bytes) -> None:
        kinds = {b"<": "HTML", b"[": "JSON", b"{": "JSON", b"": "nothing"}
        kind = kinds.get(body.strip()[:1], "text")
        super().__init__(f"the answer to {path} is not the API's: {kind}, {len(body)} bytes")
