"""What a file tells of flows and people: it fills in what is unknown, and outweighs nothing."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from archiver.domain.model import User
from archiver.store.schema import flows, users


async def path_of(tx: AsyncConnection, flow_key: int) -> str:
    """The path of a flow; its id while nobody has told the path."""
    found = await tx.execute(select(flows.c.path).where(flows.c.flow_key == flow_key))
    return str(found.scalar_one())


async def flow_at(tx: AsyncConnection, path: str) -> int | None:
    """The key of the flow that goes by *path*, if any."""
    found = await tx.execute(select(flows.c.flow_key).where(flows.c.path == path))
    return found.scalar()


async def name_path(tx: AsyncConnection, flow_key: int, path: str) -> None:
    """Let a flow go by *path*, unless it has one already."""
    nameless = flows.c.path == flows.c.flow_id
    await tx.execute(update(flows).where(flows.c.flow_key == flow_key, nameless).values(path=path))


async def introduce_users(tx: AsyncConnection, told: Sequence[User], *, now: datetime) -> int:
    """Store people whom the service has not listed; of others only what is unknown.

    Returns how many were new, or had something unknown.
    """
    new = insert(users)
    names = ["nick", "name", "email"]
    fields = {name: func.coalesce(users.c[name], new.excluded[name]) for name in names}
    statement = new.on_conflict_do_update(
        index_elements=[users.c.user_id],
        set_=fields,
        where=func.row(*(users.c[name] for name in names)).is_distinct_from(
            func.row(*fields.values())
        ),
    ).returning(users.c.user_id)
    rows = [
        {
            "user_id": user.id,
            "nick": user.nick,
            "name": user.name,
            "email": user.email,
            "disabled": user.disabled,
            "first_seen_at": now,
            "last_seen_at": now,
        }
        for user in told
    ]
    if not rows:
        return 0
    return len((await tx.execute(statement, rows)).all())
