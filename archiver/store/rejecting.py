"""Reading rejects, and removing them once they have been placed."""

from collections.abc import Collection
from datetime import datetime

from msgspec import Struct
from sqlalchemy import BigInteger, bindparam, delete, func, select

from archiver.store.connection import Transaction
from archiver.store.schema import pages, rejects

ERASED = "erased by the owner of the database"
"""The reason of a reject that is empty since it was erased: it cannot be read again."""


class Listed(Struct, frozen=True, kw_only=True):
    """A reject without its bytes."""

    id: int
    received_at: datetime
    origin: str
    reason: str
    size_bytes: int


class Kept(Struct, frozen=True, kw_only=True):
    """A reject as it was received."""

    id: int
    received_at: datetime
    origin: str
    reason: str
    raw: bytes


async def newest(tx: Transaction, *, most: int) -> list[Listed]:
    """The newest *most* rejects, the newest first."""
    size = func.octet_length(rejects.c.raw).label("size_bytes")
    about = (rejects.c.id, rejects.c.received_at, rejects.c.origin, rejects.c.reason)
    rows = await tx.execute(select(*about, size).order_by(rejects.c.id.desc()).limit(most))
    return [Listed(**row) for row in rows.mappings()]


async def count(tx: Transaction) -> int:
    """How many rejects there are."""
    return (await tx.execute(select(func.count()).select_from(rejects))).scalar_one()


async def ids(tx: Transaction) -> list[int]:
    """The ids of all rejects but those that were erased, the oldest first."""
    left = select(rejects.c.id).where(rejects.c.reason != ERASED).order_by(rejects.c.id)
    return list((await tx.execute(left)).scalars())


async def kept(tx: Transaction, id_: int) -> Kept | None:
    """The reject with this id; None if there is none."""
    columns = [column for column in rejects.columns if column.name != "digest"]
    row = (await tx.execute(select(*columns).where(rejects.c.id == id_))).mappings().first()
    return Kept(**row) if row else None


async def listed_as_of(tx: Transaction, flow_key: int, id_: int, *, at: datetime) -> int | None:
    """The position of the page that showed *id_* at that time; None if no such page is known."""
    found = await tx.execute(
        select(pages.c.as_of)
        .where(
            pages.c.flow_key == flow_key,
            pages.c.requested_at <= at,
            pages.c.asked.contains(bindparam("id", id_, type_=BigInteger)),
            pages.c.messages > 0,
        )
        .order_by(pages.c.requested_at.desc())
        .limit(1)
    )
    return found.scalar()


async def remove(tx: Transaction, placed: Collection[int]) -> int:
    """Remove rejects that have been placed; returns how many of them were still there."""
    return (await tx.execute(delete(rejects).where(rejects.c.id.in_(placed)))).rowcount
