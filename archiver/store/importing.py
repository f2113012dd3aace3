"""Storing the flows and people that an imported file names.

An official export only fills in what is unknown. An export of another archive says when each of
them was last seen, so the state that was seen last wins.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import asdict, replace
from sqlalchemy import ColumnElement, Table, case, func, select
from sqlalchemy.dialects.postgresql import insert

from archiver.domain.model import FlowId, User
from archiver.store.connection import Transaction
from archiver.store.directory import as_rows, begin_naming, complete_flows, set_aside
from archiver.store.schema import flows, users

Text = Annotated[str, Meta(pattern=r"\A[^\0]*\Z")]
"""A text that Postgres can store: one without NUL."""
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


async def introduce_users(tx: Transaction, told: Sequence[User], *, now: datetime) -> int:
    """Store people who are not known yet; of those who are, only fill in what is unknown.

    Returns how many people were added or completed.
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


async def merge_flows(tx: Transaction, told: Sequence[KnownFlow]) -> dict[FlowId, int]:
    """Store flows; if one is known, the state that was seen last wins. Returns keys by id.

    If flows share a path, the one that has it in this archive keeps it.
    """
    await begin_naming(tx)
    asked = select(flows.c.flow_id, flows.c.path, flows.c.last_seen_at)
    # Locked, since a daemon may list them meanwhile, which is newer.
    found = (await tx.execute(asked.order_by(flows.c.flow_id).with_for_update())).all()
    wanted = _paths_wanted({row.flow_id: (row.path, row.last_seen_at) for row in found}, told)
    owners = {path: id_ for id_, path, _ in found if wanted.get(id_, path) == path}
    for flow in told:
        if wanted[flow.flow_id] == flow.path:
            owners.setdefault(flow.path, flow.flow_id)
    paths = {
        id_: path if owners.get(path) == id_ else set_aside(path, id_)
        for id_, path in wanted.items()
    }
    await _merge(
        tx,
        flows,
        "flow_id",
        [asdict(replace(flow, path=paths[flow.flow_id])) for flow in told],
        settled=["path"],
    )
    return await complete_flows(tx, [flow.flow_id for flow in told])


def _paths_wanted(
    here: Mapping[str, tuple[str, datetime | None]], told: Sequence[KnownFlow]
) -> dict[str, str]:
    """The path that each flow of *told* should have, without regard to the others.

    *here* has the path and the time last seen of the flows of this archive, by id.
    """
    wanted: dict[str, str] = {}
    for flow in told:
        id_, path = flow.flow_id, flow.path
        known, seen_at = here.get(id_, (id_, None))
        is_newer = flow.last_seen_at is not None and (
            seen_at is None or flow.last_seen_at > seen_at
        )
        # A path that is the id stands for one that is not known yet.
        if path == id_ or (known != id_ and not is_newer):
            path = known
        wanted[id_] = path.removesuffix(f"@{id_}")
    return wanted


async def merge_users(tx: Transaction, told: Sequence[KnownUser]) -> None:
    """Store people; if one is known, the state that was seen last wins."""
    await _merge(tx, users, "user_id", [asdict(user) for user in told])


async def _merge(
    tx: Transaction,
    table: Table,
    key: str,
    rows: Sequence[dict[str, object]],
    *,
    settled: Collection[str] = (),
) -> None:
    """Store *rows*; if one is known, the state that was seen last wins.

    Fields that this state leaves unknown, as a list of ids and nicks does, are taken from the other
    state. Columns in *settled* are stored as given in any case.
    """
    if not rows:
        return
    new = insert(table)
    seen = ("first_seen_at", "last_seen_at")
    # A flow that was named but never listed has no time, so any listing is newer.
    is_newer = new.excluded.last_seen_at > func.coalesce(table.c.last_seen_at, func.to_timestamp(0))
    fields: dict[str, ColumnElement[Any]] = {
        name: case(
            (is_newer, func.coalesce(new.excluded[name], table.c[name])),
            else_=func.coalesce(table.c[name], new.excluded[name]),
        )
        for name in rows[0]
        if name not in {key, *seen, *settled}
    }
    fields |= {name: new.excluded[name] for name in settled}
    times = {
        "first_seen_at": func.least(table.c.first_seen_at, new.excluded.first_seen_at),
        "last_seen_at": func.greatest(table.c.last_seen_at, new.excluded.last_seen_at),
    }
    await tx.execute(
        new.on_conflict_do_update(index_elements=[table.c[key]], set_=fields | times), rows
    )
