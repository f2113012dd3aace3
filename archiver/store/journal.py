"""What was received, as received: the journal, its sightings, and what could not be placed.

An event may come in several *forms*: the stream's, a listing's, another listing's after an edit.
Each is kept once. When a listing shows a form that is here already, only the position of that
newest sighting is kept, since the same words said later can outweigh what came in between.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Literal
from uuid import UUID

from msgspec import Struct
from msgspec.structs import asdict, astuple
from sqlalchemy import (
    Join,
    TableValuedAlias,
    Text,
    and_,
    case,
    cast,
    delete,
    func,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from archiver.store.bulk import Key, copy, key_table, keys_of
from archiver.store.schema import flows, journal, rejects, sightings, signals

Witness = Literal["stream", "list", "show", "import"]

COLUMNS = (
    "flow_key", "id", "form", "digest", "witness", "event", "user_id", "sent_at", "target_id",
    "payload", "as_of", "received_at",
)  # fmt: skip
BEFORE_ALL = datetime.min.replace(tzinfo=UTC)
_ENTRY = [journal.c[name] for name in COLUMNS[:9]] + [cast(journal.c.payload, Text)]
NEWEST_SIGHTING = (
    func.coalesce(sightings.c.as_of, journal.c.as_of),
    func.coalesce(
        sightings.c.shown_at,
        # Nobody knows when the file was made: any listing of the same position is newer.
        case((journal.c.witness == "import", BEFORE_ALL), else_=journal.c.received_at),
    ),
)
_WITNESS = case(
    (and_(journal.c.witness == "stream", sightings.c.as_of.is_not(None)), "list"),
    else_=journal.c.witness,
)
_SHOWN_AT = case((_WITNESS == "stream", BEFORE_ALL), else_=NEWEST_SIGHTING[1])


class Entry(Struct, frozen=True):
    """One form in which an event was received; the columns of `journal`, in their order here."""

    flow_key: int
    id: int
    form: int
    digest: str
    witness: Witness
    event: str
    user: str | None
    sent_at: datetime | None
    target: int | None
    payload: str
    as_of: int
    received_at: datetime


class StoredSignal(Struct, frozen=True, kw_only=True):
    """What the service never stores, as received."""

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


class KnownForm(Struct, frozen=True):
    """A form that the journal holds, and the position of its newest sighting.

    A form that only a stream brought was never shown by a listing: any is newer.
    """

    form: int
    digest: str
    as_of: int
    shown_at: datetime


class Sighting(Struct, frozen=True, kw_only=True):
    """A listing of the position *as_of* showed a form that the journal holds."""

    flow_key: int
    id: int
    form: int
    as_of: int
    shown_at: datetime


def digest(payload: bytes) -> str:
    """The identity of a payload's bytes."""
    return str(UUID(bytes=blake2b(payload, digest_size=16).digest()))


async def known(tx: AsyncConnection, keys: Iterable[Key]) -> dict[Key, list[KnownForm]]:
    """The forms that the journal holds of each of *keys*; none for what is new."""
    statement = select(
        journal.c.flow_key,
        journal.c.id,
        journal.c.form,
        journal.c.digest,
        NEWEST_SIGHTING[0],
        _SHOWN_AT,
    ).select_from(_forms_of(key_table()))
    forms: dict[Key, list[KnownForm]] = {}
    for flow_key, id_, *form in await tx.execute(statement, keys_of(keys)):
        forms.setdefault((flow_key, id_), []).append(KnownForm(*form))
    return forms


async def append(tx: AsyncConnection, entries: Sequence[Entry]) -> None:
    """Keep *entries*, none of which the journal holds."""
    await copy(tx, journal, COLUMNS, map(astuple, entries))


async def sight(tx: AsyncConnection, seen: Sequence[Sighting]) -> None:
    """Keep the newest sighting of each form; an older one changes nothing."""
    new = insert(sightings)
    held = tuple_(sightings.c.as_of, sightings.c.shown_at)
    statement = new.on_conflict_do_update(
        index_elements=[sightings.c.flow_key, sightings.c.id, sightings.c.form],
        set_={"as_of": new.excluded.as_of, "shown_at": new.excluded.shown_at},
        where=held < tuple_(new.excluded.as_of, new.excluded.shown_at),
    )
    await tx.execute(statement, [asdict(one) for one in seen])


async def about(tx: AsyncConnection, keys: Collection[Key]) -> list[Entry]:
    """All that the journal holds of the messages *keys*: their own forms, and what targets them.

    A form that a listing showed again carries the position and time of its newest sighting, and
    the listing is its witness.
    """
    fields = [_WITNESS if column is journal.c.witness else column for column in _ENTRY]
    own = select(*fields, *NEWEST_SIGHTING).select_from(_forms_of(key_table()))
    rows = await tx.execute(own, keys_of(keys))
    return [Entry(*tuple(row)) for row in rows] + await targeting(tx, keys)


async def targeting(tx: AsyncConnection, keys: Collection[Key]) -> list[Entry]:
    """The events that change the messages *keys*."""
    asked = key_table()
    statement = select(*_ENTRY, journal.c.as_of, journal.c.received_at).join_from(
        asked,
        journal,
        and_(journal.c.flow_key == asked.c.flow_key, journal.c.target_id == asked.c.id),
    )
    rows = await tx.execute(statement, keys_of(keys))
    return [Entry(*tuple(row)) for row in rows]


async def newest(tx: AsyncConnection) -> dict[int, int]:
    """By flow key: the newest id in the journal; flows without events are left out."""
    last = (
        select(journal.c.id)
        .where(journal.c.flow_key == flows.c.flow_key)
        .order_by(journal.c.id.desc())
        .limit(1)
        .lateral("last")
    )
    rows = await tx.execute(select(flows.c.flow_key, last.c.id).join_from(flows, last, true()))
    return {flow_key: id_ for flow_key, id_ in rows}  # noqa: C416  (typed so, dict() is not)


async def add_signals(tx: AsyncConnection, received: Sequence[StoredSignal]) -> None:
    """Keep signals, as received."""
    rows = ((one.flow_key, one.event, one.user, one.at, one.payload) for one in received)
    await copy(tx, signals, ["flow_key", "event", "user_id", "at", "payload"], rows)


async def drop_signals(tx: AsyncConnection, *, before: datetime) -> int:
    """Drop the signals that are older than *before*; returns how many they were."""
    result = await tx.execute(delete(signals).where(signals.c.at < before))
    return result.rowcount


async def add_rejects(tx: AsyncConnection, refused: Sequence[Reject]) -> None:
    """Keep input that could not be placed, once for each origin."""
    rows = [
        {
            "received_at": one.received_at,
            "origin": one.origin,
            "reason": one.reason,
            "raw": one.raw,
            "digest": digest(one.origin.encode() + b"\0" + one.raw),
        }
        for one in refused
    ]
    await tx.execute(insert(rejects).on_conflict_do_nothing(), rows)


def _forms_of(asked: TableValuedAlias) -> Join:
    """The journal's forms of the keys *asked* for, each with its newest sighting, if any."""
    return asked.join(
        journal, and_(journal.c.flow_key == asked.c.flow_key, journal.c.id == asked.c.id)
    ).outerjoin(
        sightings,
        and_(
            sightings.c.flow_key == journal.c.flow_key,
            sightings.c.id == journal.c.id,
            sightings.c.form == journal.c.form,
        ),
    )
