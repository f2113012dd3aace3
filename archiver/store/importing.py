"""What a file tells of flows and people: it fills in what is unknown, and outweighs nothing."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import asdict, replace
from sqlalchemy import Table, case, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from archiver.domain.model import FlowId, User
from archiver.store.directory import as_rows, keys_of, set_aside
from archiver.store.schema import flows, users

Text = Annotated[str, Meta(pattern=r"\A[^\0]*\Z")]
"""What Postgres takes for a text."""
Moment = Annotated[datetime, Meta(tz=True)]


class KnownFlow(Struct, frozen=True, kw_only=True):
    """A flow, as another archive knows it."""

    flow_id: Annotated[FlowId, Meta(pattern=r"\A[^\0]*\Z")]
    path: Text
    organization: Text | None
    name: Text | None
    access_mode: Text | None
    joined: bool | None
    disabled: bool | None
    first_seen_at: Moment
    last_seen_at: Moment | None


class KnownUser(Struct, frozen=True, kw_only=True):
    """A person, as another archive knows them."""

    user_id: Text
    nick: Text | None
    name: Text | None
    email: Text | None
    disabled: bool | None
    first_seen_at: Moment
    last_seen_at: Moment


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
    if not told:
        return 0
    return len((await tx.execute(statement, as_rows(told, now=now))).all())


async def merge_flows(tx: AsyncConnection, told: Sequence[KnownFlow]) -> dict[FlowId, int]:
    """Store flows; of one that is known, the state that was seen last. Returns keys by id.

    Of flows that share a path, the one that goes by it here stays the one.
    """
    rows = await tx.execute(select(flows.c.path, flows.c.flow_id))
    taken: dict[str, str] = {row.path: row.flow_id for row in rows}
    free = [asdict(replace(flow, path=_path_beside(taken, flow))) for flow in told]
    await _merge(tx, flows, "flow_id", free)
    return await keys_of(tx, [flow.flow_id for flow in told])


def _path_beside(taken: Mapping[str, str], flow: KnownFlow) -> str:
    """What *flow* is to go by where paths are *taken*, by ids of flows."""
    path = flow.path.removesuffix(f"@{flow.flow_id}")
    if taken.get(path) == flow.flow_id:
        return path
    return flow.path if flow.path not in taken else set_aside(path, flow.flow_id)


async def merge_users(tx: AsyncConnection, told: Sequence[KnownUser]) -> None:
    """Store people; of one who is known, the state that was seen last."""
    await _merge(tx, users, "user_id", [asdict(user) for user in told])


async def _merge(
    tx: AsyncConnection, table: Table, key: str, rows: Sequence[dict[str, object]]
) -> None:
    if not rows:
        return
    new = insert(table)
    seen = ("first_seen_at", "last_seen_at")
    # A flow that was only named has no time of being listed: any listing is newer.
    is_newer = new.excluded.last_seen_at > func.coalesce(table.c.last_seen_at, func.to_timestamp(0))
    fields = {
        name: case((is_newer, new.excluded[name]), else_=table.c[name])
        for name in rows[0]
        if name not in {key, *seen}
    }
    times = {
        "first_seen_at": func.least(table.c.first_seen_at, new.excluded.first_seen_at),
        "last_seen_at": func.greatest(table.c.last_seen_at, new.excluded.last_seen_at),
    }
    await tx.execute(
        new.on_conflict_do_update(index_elements=[table.c[key]], set_=fields | times), rows
    )
