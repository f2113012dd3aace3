"""Statements in a pipeline: several are one message to the server, and are waited for once.

What a small transaction costs, here and at the server, is mostly being sent and being waited for.
Psycopg's own pipeline sends each statement by itself, and spends on handing over three of them what
three waits would have cost; so this one is built of what libpq gives. Values go in the binary form
of their types, and so do answers come. A statement is prepared the first time that it is sent on a
connection, so their number must be small.
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
"""Under this name a connection keeps what the server knows its statements as, by their words."""
BINARY = pq.Format.BINARY
DONE = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK})

_numbers = count(1)
"""Of statements that are prepared; none is used twice, on whichever connection."""


class Statement(Struct, frozen=True):
    """A statement in SQL, and its values by number."""

    words: bytes
    values: Sequence[bytes | None] = ()


Answer = pq.abc.PGresult
"""What a statement tells."""

BEGIN, COMMIT = Statement(b"BEGIN"), Statement(b"COMMIT")


async def send(
    tx: Transaction, statements: Sequence[Statement], *, commits: bool = False
) -> list[Answer]:
    """Have *statements* done, one after the other; returns what each of them answers.

    If *commits*, the transaction may be committed when this returns; nothing is to follow then.

    Raises:
        psycopg.Error: Postgres refused one of them, or the connection broke.
    """
    async with driver(tx) as connection:
        pgconn, is_pooled = connection.pgconn, connection.prepare_threshold is None
        begins = pgconn.transaction_status == pq.TransactionStatus.IDLE
        # Behind a pooler it is looked afterwards on which server that was.
        commits = commits and not is_pooled
        sent = [*[BEGIN] * begins, *statements, *[COMMIT] * commits]
        # Left in that mode if cut off: nobody knows then what the server has done, nor asks.
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
    """Note in what is known of a connection that the server has forgotten its statements.

    After a rollback psycopg has it forget all of them, ours too, since what they are about may have
    been made in what was rolled back.
    """
    info.pop(PREPARED, None)


def _hand_over(
    pgconn: pq.abc.PGconn, statements: Sequence[Statement], known: Mapping[bytes, bytes] | None
) -> dict[bytes, tuple[int, bytes]]:
    """Give libpq all that is to be sent, and first what is to be prepared, as it is not *known*.

    Returns that, by its words: the place of the answer to it, and its name. Where *known* is None
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
    """All answers up to the end of the pipeline, errors too.

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
            if answer is None:  # all that one statement answers was told
                _refuse_end(pgconn)
            elif answer.status == pq.ExecStatus.PIPELINE_SYNC:
                return answers
            else:
                answers.append(answer)
    except psycopg.OperationalError:
        _refuse_errors(answers)  # it says more of why the connection broke
        raise


def _refuse_end(pgconn: pq.abc.PGconn) -> None:
    if pgconn.status != pq.ConnStatus.OK:
        raise psycopg.OperationalError("the connection is lost")


def _refuse_errors(answers: Sequence[Answer]) -> None:
    """Raise what the first error among *answers* is, without the values that Postgres tells of."""
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
    """Wait until *socket* can be read, or, if wanted, be written to."""
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
