"""The URL of the database, and the advice to give when no connection can be made."""

import re
from collections.abc import Mapping

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from archiver.errors import ArchiverError
from archiver.store.url_options import is_plain

CROWDED = (
    "the server has no connection left: close some, or raise the limit (its max_connections, "
    "CONNECTION LIMIT of the role or of the database)"
)


class UrlRefused(ArchiverError):
    """The URL, or an option in it, cannot be used with any server."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"ARCHIVER_DATABASE_URL is not usable: {reason}")


class DatabaseUnreachable(ArchiverError):
    """No connection could be made; the text says why, and what to change."""

    def __init__(self, url: URL, reason: str) -> None:
        super().__init__(f"cannot reach the database {_safe(url)}: {reason}; {_advice(reason)}")


def parsed(url: str) -> URL:
    """*url* parsed, for SQLAlchemy with psycopg.

    Raises:
        ArchiverError: it is not a PostgreSQL URL.
    """
    try:
        found = make_url(url)
    except (ArgumentError, ValueError) as exc:
        raise ArchiverError(
            "ARCHIVER_DATABASE_URL is not a URL: expected postgresql://user@host:5432/database"
        ) from exc
    if found.get_backend_name() not in {"postgresql", "postgres"}:
        raise ArchiverError(
            f"ARCHIVER_DATABASE_URL names {found.drivername!r}: only postgresql:// works"
        )
    return found.set(drivername="postgresql+psycopg")


_REFUSED = re.compile(r"\bFATAL\b|failed: [^\s:]+:  ")
"""Matches an error of the server itself, by its severity, which may be in another language."""


def _advice(reason: str) -> str:
    """What to do about a connection that could not be made."""
    # There is no SQLSTATE, and what a server says may be in another language.
    for told, advice in _ADVICE.items():
        if told in reason:
            return advice
    if 'database "' in reason and "does not exist" in reason:
        return "create it, or correct its name in ARCHIVER_DATABASE_URL"
    if _REFUSED.search(reason):
        return (
            "the server answers: correct the user or the database in ARCHIVER_DATABASE_URL, or "
            "the rules and limits of the server"
        )
    return (
        "set ARCHIVER_DATABASE_URL to a PostgreSQL server that can be reached, "
        "or unset it to use a private one"
    )


_ADVICE: Mapping[str, str] = {
    "no password supplied": "set ARCHIVER_DATABASE_PASSWORD, or put it into ARCHIVER_DATABASE_URL",
    "password authentication failed": (
        "the server answers: correct the user in ARCHIVER_DATABASE_URL, or the password there or "
        "in ARCHIVER_DATABASE_PASSWORD"
    ),
    "does not support SSL": (
        "enable encryption on the server, or disable it with sslmode in ARCHIVER_DATABASE_URL"
    ),
    "too many": CROWDED,
    "connection slots": CROWDED,
    "the database system is": "the server is not ready: try again later, or look at its log",
    "is read-only": "use the primary, or turn default_transaction_read_only off",
    "certificate": "correct sslmode or sslrootcert in ARCHIVER_DATABASE_URL",
    "sslmode": "correct sslmode in ARCHIVER_DATABASE_URL",
}
"""The advice, by a part of the reason."""


def _safe(url: URL) -> str:
    secret = [name for name, value in url.query.items() if not is_plain(name, f"{value}")]
    url = url.difference_update_query(secret)
    return url.render_as_string(hide_password=True).replace("postgresql+psycopg", "postgresql", 1)
