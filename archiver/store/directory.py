"""Flows and people: their names and states, and when they were first and last seen.

A flow gets a row when it is listed, or when the first event names it. Nothing here is ever deleted:
flows are renamed, left and disabled, but their history stays.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Table, bindparam, func, not_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from archiver.domain.model import PRIVATE, Flow, FlowId, User
from archiver.store import search_queue
from archiver.store.connection import Transaction
from archiver.store.schema import flows, ledger, users

LONGEST_PATH = 400
"""How many letters are kept of a path that is set aside; with an id they fit into the index, in any
script."""

SEEN_EVERY = timedelta(hours=1)
"""How exactly it is kept when a flow or a person was last listed.

Each account of each process lists all of them every few minutes: to write all rows each time would
be gigabytes of WAL a day for some thousand people."""

_OF_FLOW = ("path", "organization", "name", "access_mode", "joined", "disabled")
_OF_USER = ("nick", "name", "email", "disabled")


async def flow_keys(tx: Transaction) -> dict[FlowId, int]:
    """The key of every known flow."""
    rows = await tx.execute(select(flows.c.flow_id, flows.c.flow_key))
    return {FlowId(flow_id): flow_key for flow_id, flow_key in rows}


async def listed_flows(tx: Transaction) -> set[FlowId]:
    """The ids of the flows that the service has listed; others are only named by events."""
    listed = select(flows.c.flow_id).where(flows.c.last_seen_at.is_not(None))
    return {FlowId(flow_id) for flow_id in await tx.scalars(listed)}


async def paths_of(tx: Transaction, keys: Iterable[int]) -> list[str]:
    """The paths of these flows, sorted."""
    asked = flows.c.flow_key == func.any(bindparam("keys", list(keys)))
    return list(await tx.scalars(select(flows.c.path).where(asked).order_by(flows.c.path)))


async def flow_paths(tx: Transaction) -> dict[int, str]:
    """By flow key: the path of every known flow, in the order of paths."""
    statement = select(flows.c.flow_key, flows.c.path).order_by(flows.c.path, flows.c.flow_key)
    return {row.flow_key: row.path for row in await tx.execute(statement)}


async def path_of(tx: Transaction, flow_key: int) -> str:
    """The path of a flow; its id as long as the path is not known."""
    found = await tx.execute(select(flows.c.path).where(flows.c.flow_key == flow_key))
    return str(found.scalar_one())


async def first_seen(tx: Transaction, flow_key: int) -> tuple[FlowId, datetime]:
    """The id of a flow, and when it was first listed or named."""
    asked = select(flows.c.flow_id, flows.c.first_seen_at).where(flows.c.flow_key == flow_key)
    flow_id, first_seen_at = (await tx.execute(asked)).one()
    return FlowId(flow_id), first_seen_at


async def flow_at(tx: Transaction, path: str) -> int | None:
    """The key of the flow that has *path*, if any."""
    found = await tx.execute(select(flows.c.flow_key).where(flows.c.path == path))
    return found.scalar()


async def name_path(tx: Transaction, flow_key: int, path: str) -> None:
    """Give a flow the path *path*, unless it has one already."""
    nameless = flows.c.path == flows.c.flow_id
    await tx.execute(update(flows).where(flows.c.flow_key == flow_key, nameless).values(path=path))


async def see_flows(tx: Transaction, listed: Sequence[Flow], *, now: datetime) -> dict[FlowId, int]:
    """Store flows as the service lists them; returns their keys."""
    if not listed:
        return {}
    await begin_naming(tx)
    paths = await _settle_paths(tx, listed)
    known = set(await tx.scalars(_KNOWN, {"ids": list(paths)}))
    rows = [
        {
            "flow_id": flow.id,
            "path": paths[flow.id],
            "organization": flow.organization,
            "name": flow.name,
            "access_mode": flow.access_mode,
            "joined": flow.joined,
            "disabled": flow.disabled,
            "first_seen_at": now,
            "last_seen_at": now,
        }
        for flow in sorted(listed, key=lambda flow: flow.id)
    ]
    # Even where it finds a row, INSERT takes a key from the sequence, which ends at 2^31.
    if new := [row for row in rows if row["flow_id"] not in known]:
        await tx.execute(insert(flows).on_conflict_do_nothing(), new)
    lately = await _seen_lately(tx, flows, flows.c.flow_id, _OF_FLOW, list(paths), now=now)
    if seen := [row for row in rows if not _is_among(row, "flow_id", _OF_FLOW, lately)]:
        await tx.execute(_SEE, seen)
    return await complete_flows(tx, [flow.id for flow in listed])


async def name_flows(
    tx: Transaction, named: Iterable[FlowId], *, now: datetime
) -> dict[FlowId, int]:
    """Make sure that the flows that events name have rows; returns their keys.

    Until a listing tells a flow's path, its id takes that place.
    """
    ids = sorted(set(named))
    rows = [{"flow_id": id_, "path": id_, "first_seen_at": now} for id_ in ids]
    await tx.execute(insert(flows).on_conflict_do_nothing(), rows)
    return await complete_flows(tx, ids)


async def lose_flow(tx: Transaction, *, flow_key: int) -> None:
    """Record that the flow cannot be read any more: it was left, disabled or refused."""
    await tx.execute(update(flows).where(flows.c.flow_key == flow_key).values(joined=False))


async def lose_unlisted(tx: Transaction, *, before: datetime, private: bool) -> list[str]:
    """Record that flows last listed *before* cannot be read any more; returns their paths.

    Among them are private conversations if *private* says so.

    It skips rows that are locked, since a flow that another transaction changes is being listed.
    """
    unlisted = (
        select(flows.c.flow_key)
        .where(flows.c.joined, flows.c.last_seen_at < before)
        .with_for_update(key_share=True, skip_locked=True)
    )
    if not private:
        unlisted = unlisted.where(not_(flows.c.path.startswith(PRIVATE)))
    lost = update(flows).where(flows.c.flow_key.in_(unlisted.scalar_subquery()))
    return sorted(await tx.scalars(lost.values(joined=False).returning(flows.c.path)))


async def see_users(tx: Transaction, listed: Sequence[User], *, now: datetime) -> None:
    """Store people as the service lists them."""
    if not listed:
        return
    ids = [user.id for user in listed]
    lately = await _seen_lately(tx, users, users.c.user_id, _OF_USER, ids, now=now)
    rows = as_rows(listed, now=now)
    if seen := [row for row in rows if not _is_among(row, "user_id", _OF_USER, lately)]:
        new = insert(users)
        shown = [*_OF_USER, "last_seen_at"]
        statement = new.on_conflict_do_update(
            index_elements=[users.c.user_id], set_={name: new.excluded[name] for name in shown}
        )
        await tx.execute(statement, seen)


async def _seen_lately(
    tx: Transaction,
    table: Table,
    id_: ColumnElement[str],
    shown: Sequence[str],
    ids: Sequence[str],
    *,
    now: datetime,
) -> dict[str, tuple[object, ...]]:
    """By id: what is *shown* of those of *ids* that were listed within `SEEN_EVERY` before *now*.

    What is dated after *now*, by a clock that was ahead, was not.
    """
    asked = id_ == func.any(bindparam("ids", ids))
    lately = table.c.last_seen_at.between(now - SEEN_EVERY, now)
    rows = await tx.execute(select(id_, *(table.c[name] for name in shown)).where(asked, lately))
    return {row[0]: tuple(row[1:]) for row in rows}


def _is_among(
    row: Mapping[str, object],
    id_: str,
    shown: Sequence[str],
    known: Mapping[str, tuple[object, ...]],
) -> bool:
    """Tell whether *row* is *known* with all that it shows."""
    return known.get(str(row[id_])) == tuple(row[name] for name in shown)


def as_rows(people: Iterable[User], *, now: datetime) -> list[dict[str, object]]:
    """The rows of people seen for the first time, in the order in which rows are to be locked."""
    return [
        {
            "user_id": user.id,
            "nick": user.nick,
            "name": user.name,
            "email": user.email,
            "disabled": user.disabled,
            "first_seen_at": now,
            "last_seen_at": now,
        }
        for user in sorted(people, key=lambda user: user.id)
    ]


async def _settle_paths(tx: Transaction, listed: Sequence[Flow]) -> dict[FlowId, str]:
    """The paths of the *listed* flows; other flows lose them, as they were deleted or renamed.

    A path shared by two flows would mix their messages in every view. So the flow that had the path
    is set aside, under its path and id, until it is listed again. Two flows that are both read,
    as by two accounts, would take the path from each other at each listing; of these, the one that
    has it keeps it. If one listing gives a path to several flows, one that is not disabled gets it.
    """
    shown = {flow.id: flow.path for flow in listed}
    # As arrays: a statement has at most 65,535 parameters.
    is_path = flows.c.path == func.any(bindparam("paths", list(shown.values())))
    asked = is_path | (flows.c.flow_id == func.any(bindparam("ids", list(shown))))
    known = (
        await tx.execute(select(flows.c.flow_id, flows.c.path, flows.c.joined).where(asked))
    ).all()
    before = {flow_id: path for flow_id, path, _ in known}
    by_claim = sorted(listed, key=lambda one: (not one.disabled, before.get(one.id) == one.path))
    theirs = {flow.path: flow.id for flow in by_claim}
    paths = {
        flow_id: path if theirs.get(path) == flow_id else set_aside(path, flow_id)
        for flow_id, path in shown.items()
    }
    for flow_id, path, joined in known:
        new = theirs.get(path, flow_id)
        if new == flow_id:
            continue
        if joined and flow_id not in paths and before.get(new) == set_aside(path, new):
            paths[new] = before[new]
        else:
            renamed = update(flows).where(flows.c.flow_id == flow_id)
            await tx.execute(renamed.values(path=set_aside(path, flow_id)))
    return paths


async def begin_naming(tx: Transaction) -> None:
    """Wait for others who give flows their paths, and keep them waiting until *tx* ends."""
    await tx.execute(_ONE_AT_A_TIME)


def set_aside(path: str, flow_id: str) -> str:
    """The path of a flow while another flow has its real one."""
    return f"{path[:LONGEST_PATH]}@{flow_id}"


async def complete_flows(tx: Transaction, ids: Iterable[FlowId]) -> dict[FlowId, int]:
    """Create the other rows that new flows need; returns the keys of those flows that have rows."""
    asked = flows.c.flow_id == func.any(bindparam("ids", list(ids)))
    rows = await tx.execute(select(flows.c.flow_id, flows.c.flow_key).where(asked))
    keys = {FlowId(flow_id): flow_key for flow_id, flow_key in rows}
    if keys:
        all_ = [{"flow_key": key} for key in sorted(keys.values())]
        new = insert(ledger).on_conflict_do_nothing().returning(ledger.c.flow_key)
        await search_queue.pass_over(tx, (await tx.scalars(new, all_)).all())
    return keys


_KNOWN = text("SELECT flow_id FROM store.flows WHERE flow_id = ANY(:ids)")
_SEE = text("""
    UPDATE store.flows
    SET path = :path, organization = :organization, name = :name, access_mode = :access_mode,
        joined = :joined, disabled = :disabled, last_seen_at = :last_seen_at
    WHERE flow_id = :flow_id
""")

# This lock conflicts with itself, and with nothing else that a daemon does.
_ONE_AT_A_TIME = text("LOCK TABLE store.flows IN SHARE UPDATE EXCLUSIVE MODE")
