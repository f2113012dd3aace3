"""Queries that people write themselves: they can read, and neither change anything nor run on."""

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
"""Functions of the server, which tell refusals of one code apart in whatever language it speaks."""
SERVER_AWAY = frozenset({"08", "53", "57", "58"})
"""Not all that a writer would wait for: what a query is refused for, the query must mend."""
CHANGE = re.compile(
    r"\s*(INSERT|UPDATE|DELETE|MERGE|TRUNCATE|CREATE|ALTER|DROP|GRANT|REVOKE|REFRESH|VACUUM)\b",
    re.IGNORECASE,
)
AT_ONCE = 1000
"""Rows that are fetched together: an answer may be larger than memory."""
EXPLAIN = re.compile(
    r"""\s*EXPLAIN\b\s*
    (?:\( (?!\s*(?:SELECT|VALUES|WITH|TABLE)\b) (?P<options>[\w\s,]+) \)
      | (?P<words>(?:ANALY[SZ]E\b\s*)?(?:VERBOSE\b)?))
    (?P<query>.*)""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
"""Options hold nothing that could begin a quote or a comment: behind them is the query."""


class QueryRefused(ArchiverError):
    """Postgres does not take the query, or it took too long; the text says why."""


class Json(str):
    """A value of JSON, as Postgres writes it: reading it would lose digits of its numbers."""

    __slots__ = ()


class Answer(Struct, frozen=True, kw_only=True):
    """The answer to a query."""

    columns: Sequence[str]
    is_plan: bool = False
    """Whether it tells how a query would be answered; then each row is some lines of that."""
    rows: AsyncIterator[Sequence[Any]]
    """Values of Python's; JSON, and times that Python has no value for, as Postgres writes them.

    They come while they are asked for, of one moment.
    """


@asynccontextmanager
async def ask(
    engine: Engine, query: str, *, schema: str, seconds: float, zone: str = "UTC"
) -> AsyncIterator[Answer]:
    """The answer to *query*, in which tables of *schema* need not be qualified.

    Before a query may stand ``EXPLAIN``: the answer is its plan.

    Days and hours are those of the time zone *zone*; so are the times in the answer.

    Raises:
        QueryRefused: it is no query, would change something, takes longer than *seconds* until
            rows come or go on to come, or there is no such zone.
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
            # A cursor takes a query and nothing else: COPY could write files and run programs.
            # It must be one statement only, so that nothing can end our transaction before it. The
            # simple protocol takes several; what wants a binary result is sent by the other one,
            # behind a pooler too, where nothing is prepared. What is fetched is text nevertheless.
            await connection.execute(f"{before}{asked}", binary=True)
            cursor = _reading_exactly(connection)
            if explained:
                # By itself it would take, and ANALYZE would run, what makes tables: a transaction
                # that only reads does not keep it from that. The cursor has.
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
    """What *cursor* has fetched and, unless that is all, what there is to fetch besides."""
    while rows := await cursor.fetchall():
        for row in rows:
            yield row
        if is_all:
            return
        await cursor.execute(_FETCH)


def _place(error: DBAPIError | psycopg.Error, query: str, asked: str, before: str) -> str:
    """On lines of its own, where in *query* the error is, if the server tells.

    It was sent *asked*, with which *query* ends, and *before* that.
    """
    cause = error.orig if isinstance(error, DBAPIError) else error
    position = cause.diag.statement_position if isinstance(cause, psycopg.Error) else None
    at = int(position or 0) - 1 - len(before)
    if at < 0 or not query.strip():
        return ""
    return f"\n{pointed(query, len(query) - len(asked) + at)}"


def _options(explained: re.Match[str]) -> str:
    """The options of an EXPLAIN, as they stand between its parentheses."""
    return explained["options"] or ", ".join((explained["words"] or "").split()) or "COSTS"


def _reading_exactly(connection: psycopg.AsyncConnection) -> psycopg.AsyncCursor:
    """A cursor that gives no value otherwise than it is in the database."""
    cursor = connection.cursor()
    set_json_loads(_json, cursor)
    for name in ("date", "time", "timetz", "timestamp", "timestamptz", "interval"):
        cursor.adapters.register_loader(name, _TimeLoader)
    return cursor


def _json(data: str | bytes) -> Json:
    return Json(data.decode() if isinstance(data, bytes) else data)


class _TimeLoader(Loader):
    """A time or a span of time; as Postgres writes it, where Python has no such value."""

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        known = psycopg.adapters.get_loader(oid, pq.Format.TEXT)
        self._known = None if known is None else known(oid, context)

    @override
    def load(self, data: Buffer) -> Any:
        told = bytes(data)
        try:
            # psycopg makes days of months, and nothing of a span without end.
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
    " set_config('cursor_tuple_fraction', '1', true)"  # all rows are wanted, not the first soon
)


def in_words(seconds: float) -> str:
    """So many *seconds*, as a person says it."""
    return f"{seconds:g} {'second' if seconds == 1 else 'seconds'}"


def _refusal(error: DBAPIError | psycopg.Error, query: str, seconds: float) -> str | None:
    """What is wrong with the query; None when it is not the query that is wrong."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    state, told = sqlstate(error), first_line(error)
    diag = cause.diag if isinstance(cause, psycopg.Error) else None
    severity, source = diag and diag.severity_nonlocalized, diag and diag.source_function
    if state == CANCELED:
        return f"the query took longer than {in_words(seconds)}; allow more with --timeout"
    # What a WITH would change is told as a cursor's lack of a feature.
    changes = state == NOT_SUPPORTED and source == CHECKS_CHANGES
    if changes or state in {READ_ONLY, NOT_UPDATABLE} or (state == NOT_SQL and CHANGE.match(query)):
        return "the archive can be read here, not changed"
    # FATAL would be what a pooler says of a connection that it ends.
    if state == PROTOCOL and severity == "ERROR":
        return "nobody gives a value for $1: write the value itself into the query"
    if state == NOT_SQL:
        more = f"{told}; one query is taken and nothing else: SELECT something"
        return "one query at a time" if source == COUNTS_STATEMENTS else more
    if not state or (state[:2] in SERVER_AWAY and state != LIMITED):
        return None if fault(error) is Fault.SERVER else told
    hint = diag and diag.message_hint
    if state == NO_RELATION and source == OPENS_RELATION:
        hint = "archiver sql --help names the views"
    return f"{told}; {hint}" if hint else told
