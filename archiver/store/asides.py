"""What is received beside events: signals and rejects, kept as received."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from msgspec import Struct
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from archiver.store.bulk import moment
from archiver.store.connection import Transaction
from archiver.store.erasure import digest
from archiver.store.rows import Rows, add_rows
from archiver.store.schema import rejects, signals


class StoredSignal(Struct, frozen=True, kw_only=True):
    """A signal, which the service never stores, as received."""

    flow_key: int | None
    event: str
    user: str | None
    at: datetime
    payload: str


class Reject(Struct, frozen=True, kw_only=True):
    """Input that could not be placed, with the reason."""

    received_at: datetime
    origin: str
    reason: str
    raw: bytes


async def add_signals(tx: Transaction, received: Sequence[StoredSignal]) -> None:
    """Keep signals, as received."""
    columns = ["flow_key", "event", "user_id", "at", "payload"]
    rows = [(one.flow_key, one.event, one.user, moment(one.at), one.payload) for one in received]
    await add_rows(tx, Rows(signals, columns, rows))


async def clock(tx: Transaction) -> datetime:
    """The present time by the clock of the database server."""
    told: datetime = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
    return told


async def drop_signals(tx: Transaction, *, before: datetime) -> int:
    """Drop signals from *before*; returns how many there were."""
    result = await tx.execute(delete(signals).where(signals.c.at < before))
    return result.rowcount


async def add_rejects(tx: Transaction, refused: Sequence[Reject]) -> None:
    """Keep input that could not be placed; the same bytes once for each origin."""
    rows = [
        {
            "received_at": one.received_at,
            "origin": one.origin,
            "reason": one.reason,
            "raw": one.raw,
            "digest": str(UUID(bytes=digest(one.origin.encode() + b"\0" + one.raw))),
        }
        for one in refused
    ]
    await tx.execute(insert(rejects).on_conflict_do_nothing(), rows)
