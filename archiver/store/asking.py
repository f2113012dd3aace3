"""Queries that people write themselves: they can only read, and for a limited time."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from msgspec import Struct
from psycopg import pq
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.types.json import set_json_loads
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from typing_extensions import override

from archiver.domain.query import pointed
from archiver.errors import ArchiverError
from archiver.store.connection import Engine, driver_of
from archiver.store.engine import CANCELED, LIMITED, READ_ONLY, Fault, fault, first_line, sqlstate

NOT_SQL = "42601"
NO_RELATION = "42P01"
NOT_UPDATABLE = "55000"
NOT_SUPPORTED = "0A000"
PROTOCOL = "08P01"
CHECKS_CHANGES = "transformDeclareCursorStmt"
COUNTS_STATEMENTS = "exec_parse_message"
OPENS_RELATION = "parserOpenTable"
"""Functions in the source of the server that report errors. They distinguish errors with the same
SQLSTATE, whatever the language of the message."""
SERVER_AWAY = frozenset({"08", "53", "57", "58"})
"""Not all the classes for which a writer waits; for the others, the query must be corrected."""
CHANGE = re.compile(
    r"\s*(INSERT|UPDATE|DELETE|MERGE|TRUNCATE|CREATE|ALTER|DROP|GRANT|REVOKE|REFRESH|VACUUM)\b",
    re.IGNORECASE,
)
AT_ONCE = 1000
"""How many rows are fetched together; the whole result may be larger than memory."""
EXPLAIN = re.compile(
    r"""\s*EXPLAIN\b\s*
    (?:\( (?!\s*(?:SELECT|VALUES|WITH|TABLE)\b) (?P<options>[\w\s,]+) \)
      | (?P<words>(?:ANALY[SZ]E\b\s*)?(?:VERBOSE\b)?))
    (?P<query>.*)""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
"""The options cannot contain the start of a quote or a comment, so what follows is the query."""


class QueryRefused(ArchiverError):
    """Postgres refused the query, or it took too long; the message says why."""


class Json(str):
    """A JSON value as Postgres writes it; parsing it would lose digits of numbers."""

    __slots__ = ()


class Answer(Struct, frozen=True, kw_only=True):
    """The answer to a query."""

    columns: Sequence[str]
    is_plan: bool = False
    """Whether this is the plan of a query; each row is then some lines of it."""
    rows: AsyncIterator[Sequence[Any]]
    """Values of Python's types. JSON, and times that Python cannot represent, are as Postgres
    writes them.

    Rows are fetched as they are consumed, all from one snapshot.
    """


@asynccontextmanager
async def ask(
    engine: Engine, query: str, *, schema: str, seconds: float, zone: str = "UTC"
) -> AsyncIterator[Answer]:
    """The answer to *query*, in which tables of *schema* need not be qualified.

    If the query begins with ``EXPLAIN``, the answer is its plan.

    Dates and times, in the query and in the answer, are in the time zone *zone*.

    Raises:
        QueryRefused: it is not a query, or would change something; it takes longer than *seconds*
            until the first rows or the next ones come; or there is no such time zone.
    """
    explained = EXPLAIN.fullmatch(query)
    asked = explained["query"] if explained else query
    before = _DECLARE
    try:
        async with engine.connect() as tx:
            await tx.execute(text("SET TRANSACTION READ ONLY"))
            limits = {"schema": schema, "timeout": f"{seconds * 1000:.0f}", "zone": zone}
            await tx.execute(_LIMITS, limits)
            connection = driver_of(tx)
            # DECLARE takes a query and nothing else: COPY could write files and run programs. It
            # must be a single statement, so that none before it can end our transaction. The simple
            # protocol accepts several. Asking for a binary result forces the extended protocol,
            # also behind a pooler, where nothing is prepared; FETCH returns text nevertheless.
            await connection.execute(f"{before}{asked}", binary=True)
            cursor = _reading_exactly(connection)
            if explained:
                # EXPLAIN alone would accept statements that create tables, and with ANALYZE run
                # them, which a read-only transaction does not prevent. DECLARE has refused those.
                before = f"EXPLAIN ({_options(explained)}) "
                await cursor.execute(f"{before}{asked}", binary=True)
            else:
                await cursor.execute(_FETCH)
            yield Answer(
                columns=[column.name for column in cursor.description or ()],
                is_plan=explained is not None,
                rows=_rows(cursor, is_all=explained is not None),
            )
    except (DBAPIError, psycopg.Error) as error:
        told = _refusal(error, asked, seconds)
        if told is None:
            raise
        raise QueryRefused(f"{told}{_place(error, query, asked, before)}") from error


async def _rows(cursor: psycopg.AsyncCursor, *, is_all: bool) -> AsyncIterator[Sequence[Any]]:
    """The rows that *cursor* has fetched and, unless *is_all*, those that remain to be fetched."""
    while rows := await cursor.fetchall():
        for row in rows:
            yield row
        if is_all:
            return
        await cursor.execute(_FETCH)


def _place(error: DBAPIError | psycopg.Error, query: str, asked: str, before: str) -> str:
    """Lines that point to the error in *query*, if the server tells its position.

    The server was sent *before* and *asked*, which is the end of *query*.
    """
    cause = error.orig if isinstance(error, DBAPIError) else error
    position = cause.diag.statement_position if isinstance(cause, psycopg.Error) else None
    at = int(position or 0) - 1 - len(before)
    if at < 0 or not query.strip():
        return ""
    return f"\n{pointed(query, len(query) - len(asked) + at)}"


def _options(explained: re.Match[str]) -> str:
    """The options of an EXPLAIN, in the form that goes between parentheses."""
    return explained["options"] or ", ".join((explained["words"] or "").split()) or "COSTS"


def _reading_exactly(connection: psycopg.AsyncConnection) -> psycopg.AsyncCursor:
    """A cursor that returns every value exactly as it is in the database."""
    cursor = connection.cursor()
    set_json_loads(_json, cursor)
    for name in ("date", "time", "timetz", "timestamp", "timestamptz", "interval"):
        cursor.adapters.register_loader(name, _TimeLoader)
    return cursor


def _json(data: str | bytes) -> Json:
    return Json(data.decode() if isinstance(data, bytes) else data)


class _TimeLoader(Loader):
    """Loads times and intervals; those that Python cannot represent, as Postgres writes them."""

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        known = psycopg.adapters.get_loader(oid, pq.Format.TEXT)
        self._known = None if known is None else known(oid, context)

    @override
    def load(self, data: Buffer) -> Any:
        told = bytes(data)
        try:
            # psycopg converts months to days, and cannot load an infinite interval.
            if self._known is not None and not _VAGUE.search(told):
                return self._known.load(told)
        except psycopg.DataError:
            pass
        return told.decode()


_DECLARE = "DECLARE answer CURSOR FOR "
_FETCH = f"FETCH {AT_ONCE} FROM answer"
_VAGUE = re.compile(rb"year|mon|infinity")

_LIMITS = text(
    "SELECT set_config('search_path', :schema, true),"
    " set_config('statement_timeout', :timeout, true),"
    " set_config('TimeZone', :zone, true),"
    " set_config('cursor_tuple_fraction', '1', true)"  # plan for all rows, not the first
)


def in_words(seconds: float) -> str:
    """A number of *seconds* in words, such as "30 seconds"."""
    return f"{seconds:g} {'second' if seconds == 1 else 'seconds'}"


def _refusal(error: DBAPIError | psycopg.Error, query: str, seconds: float) -> str | None:
    """What is wrong with the query; None if the error has another cause."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    state, told = sqlstate(error), first_line(error)
    diag = cause.diag if isinstance(cause, psycopg.Error) else None
    severity, source = diag and diag.severity_nonlocalized, diag and diag.source_function
    if state == CANCELED:
        return f"the query took longer than {in_words(seconds)}; allow more with --timeout"
    # A WITH that changes data is refused as a feature that cursors do not support.
    changes = state == NOT_SUPPORTED and source == CHECKS_CHANGES
    if changes or state in {READ_ONLY, NOT_UPDATABLE} or (state == NOT_SQL and CHANGE.match(query)):
        return "a query can only read the archive, not change it"
    # With FATAL, it would be a pooler that closes the connection.
    if state == PROTOCOL and severity == "ERROR":
        return "$1 has no value: write the value itself into the query"
    if state == NOT_SQL:
        more = f"{told}; expected one query, such as SELECT ..."
        return "one query at a time" if source == COUNTS_STATEMENTS else more
    if not state or (state[:2] in SERVER_AWAY and state != LIMITED):
        return None if fault(error) is Fault.SERVER else told
    hint = diag and diag.message_hint
    if state == NO_RELATION and source == OPENS_RELATION:
        hint = "archiver sql --help names the views"
    return f"{told}; {hint}" if hint else told
