"""A pipeline of statements: several are sent as one message, and cost one wait for the server.

Most of the cost of a small transaction, for both sides, is sending and waiting. Psycopg's own
pipeline sends each statement separately, and its overhead for three of them is as high as that of
three round trips. So this pipeline uses libpq directly.

Values and results travel in the binary format of their types. A statement is prepared when a
connection first sends it, so there must not be many different ones.
"""

import asyncio
from collections.abc import Mapping, MutableMapping, Sequence
from itertools import count
from typing import Any

import psycopg
from msgspec import Struct
from psycopg import pq
from psycopg.errors import lookup

from archiver.store.connection import Transaction, driver

PREPARED = "prepared statements"
"""The key in a connection's ``info`` of its prepared statements: their names, by their SQL."""
BINARY = pq.Format.BINARY
DONE = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK})

_numbers = count(1)
"""Numbers for the names of prepared statements; no two connections share one."""


class Statement(Struct, frozen=True):
    """A statement in SQL, and the values of its numbered parameters."""

    words: bytes
    values: Sequence[bytes | None] = ()


Answer = pq.abc.PGresult
"""The result of a statement."""

BEGIN, COMMIT = Statement(b"BEGIN"), Statement(b"COMMIT")


async def send(
    tx: Transaction, statements: Sequence[Statement], *, commits: bool = False
) -> list[Answer]:
    """Run *statements*, one after the other, and return the result of each.

    If *commits*, the transaction may be committed when this returns, so nothing may follow.

    Raises:
        psycopg.Error: Postgres refused one of them, or the connection broke.
    """
    async with driver(tx) as connection:
        pgconn, is_pooled = connection.pgconn, connection.prepare_threshold is None
        begins = pgconn.transaction_status == pq.TransactionStatus.IDLE
        # Behind a pooler, the server's history is still to be checked before the commit.
        commits = commits and not is_pooled
        sent = [*[BEGIN] * begins, *statements, *[COMMIT] * commits]
        # If this is cancelled, the connection stays in pipeline mode: nobody knows what the server
        # has done, and the connection is discarded.
        pgconn.enter_pipeline_mode()
        known = None if is_pooled else tx.info.setdefault(PREPARED, {})
        new = _hand_over(pgconn, sent, known)
        answers = await _answers(pgconn)
        pgconn.exit_pipeline_mode()
        if known is not None:
            known |= {
                words: name for words, (place, name) in new.items() if _is_done(answers[place])
            }
        _refuse_errors(answers)
    places = {place for place, _ in new.values()}
    own = [answer for place, answer in enumerate(answers) if place not in places]
    return own[begins : len(own) - commits]


def forget(info: MutableMapping[Any, Any]) -> None:
    """Note in the *info* of a connection that it has no prepared statements any more.

    After a rollback, psycopg deallocates all of them, ours too, since the tables that they refer to
    may have been created in the transaction that was rolled back.
    """
    info.pop(PREPARED, None)


def _hand_over(
    pgconn: pq.abc.PGconn, statements: Sequence[Statement], known: Mapping[bytes, bytes] | None
) -> dict[bytes, tuple[int, bytes]]:
    """Hand *statements* over to libpq; before each that is not *known*, have it prepared.

    Returns what it has prepared, by SQL: the index of the result, and the name. If *known* is None,
    nothing can be prepared.
    """
    new: dict[bytes, tuple[int, bytes]] = {}
    for place, one in enumerate(statements):
        formats = [BINARY] * len(one.values)
        if known is None:
            pgconn.send_query_params(one.words, one.values, None, formats, BINARY)
            continue
        name = known.get(one.words)
        if name is None and one.words not in new:
            new[one.words] = place + len(new), b"archiver_%d" % next(_numbers)
            pgconn.send_prepare(new[one.words][1], one.words)
        name = name or new[one.words][1]
        pgconn.send_query_prepared(name, one.values, formats, BINARY)
    pgconn.pipeline_sync()
    return new


async def _answers(pgconn: pq.abc.PGconn) -> list[Answer]:
    """All results up to the end of the pipeline, including errors.

    Raises:
        psycopg.Error: the connection broke.
    """
    answers: list[Answer] = []
    socket = pgconn.socket
    try:
        while pgconn.flush():
            await _ready(socket, to_write=True)
            pgconn.consume_input()
        while True:
            while pgconn.is_busy():
                await _ready(socket)
                pgconn.consume_input()
            answer = pgconn.get_result()
            if answer is None:  # the end of the results of one statement
                _refuse_end(pgconn)
            elif answer.status == pq.ExecStatus.PIPELINE_SYNC:
                return answers
            else:
                answers.append(answer)
    except psycopg.OperationalError:
        _refuse_errors(answers)  # an error of the server says more about why the connection broke
        raise


def _refuse_end(pgconn: pq.abc.PGconn) -> None:
    if pgconn.status != pq.ConnStatus.OK:
        raise psycopg.OperationalError("the connection is lost")


def _refuse_errors(answers: Sequence[Answer]) -> None:
    """Raise the first error among *answers*, without the detail, which may quote values of rows."""
    for answer in answers:
        if not _is_done(answer):
            state = (answer.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
            message = answer.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
            try:
                kind = lookup(state)
            except KeyError:
                kind = psycopg.DatabaseError
            error = kind(message.decode(errors="replace") or answer.get_error_message())
            error.sqlstate = state or None
            raise error


def _is_done(answer: Answer) -> bool:
    return answer.status in DONE


async def _ready(socket: int, *, to_write: bool = False) -> None:
    """Wait until *socket* can be read or, if *to_write*, written to."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(socket, wake)
    if to_write:
        loop.add_writer(socket, wake)
    try:
        await ready
    finally:
        loop.remove_reader(socket)
        if to_write:
            loop.remove_writer(socket)
