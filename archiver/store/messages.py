"""Messages as the flow shows them now, their history, and the threads they belong to.

All of it is derived: `archiver.domain.fold` makes it of the journal, and here it is only put down.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import (
    Row,
    Text,
    Tuple,
    and_,
    bindparam,
    cast,
    delete,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from archiver.domain.model import Attachment, EventId, Message, Revision, Thread
from archiver.store.bulk import Key, copy, key_table, keys_of
from archiver.store.schema import messages, revisions, threads

COLUMNS = tuple(column.name for column in messages.columns)
REVISION_COLUMNS = tuple(column.name for column in revisions.columns)


class Held(Struct, frozen=True):
    """A stored message, and how many revisions are stored of it."""

    message: Message
    revisions: int


class Shown(Struct, frozen=True):
    """A thread as the event *as_of* showed it."""

    flow_key: int
    thread: Thread
    as_of: EventId


class History(Struct, frozen=True):
    """Revisions to store of one message; *first* is the ordinal of the first of them."""

    first: int
    revisions: tuple[Revision, ...]


async def held(tx: AsyncConnection, keys: Iterable[Key]) -> dict[Key, Held]:
    """The stored messages among *keys*."""
    asked = key_table()
    statement = select(messages).join_from(
        asked,
        messages,
        and_(messages.c.flow_key == asked.c.flow_key, messages.c.id == asked.c.id),
    )
    rows = await tx.execute(statement, keys_of(keys))
    return {(row.flow_key, row.id): Held(_message(row), row.revisions) for row in rows}


async def positions(tx: AsyncConnection, keys: Iterable[Key]) -> dict[Key, int]:
    """The newest id that each stored message among *keys* reflects."""
    asked = key_table()
    statement = select(messages.c.flow_key, messages.c.id, messages.c.as_of).join_from(
        asked,
        messages,
        and_(messages.c.flow_key == asked.c.flow_key, messages.c.id == asked.c.id),
    )
    rows = await tx.execute(statement, keys_of(keys))
    return {(flow_key, id_): as_of for flow_key, id_, as_of in rows}


async def add(tx: AsyncConnection, new: Mapping[Key, Held]) -> None:
    """Store messages none of which is stored."""
    rows = ((*key, *_fields(one).values()) for key, one in new.items())
    await copy(tx, messages, COLUMNS, rows)


async def change(tx: AsyncConnection, changed: Mapping[Key, Held]) -> None:
    """Store the new state of messages that are stored."""
    fields = {
        column.name: cast(bindparam(column.name, type_=Text), JSONB)
        if isinstance(column.type, JSONB)
        else bindparam(column.name)
        for column in messages.columns
        if not column.primary_key
    }
    statement = (
        update(messages)
        .where(messages.c.flow_key == bindparam("its_flow"), messages.c.id == bindparam("its_id"))
        .values(fields)
    )
    rows = [{"its_flow": key[0], "its_id": key[1], **_fields(one)} for key, one in changed.items()]
    await tx.execute(statement, rows)


async def write_history(tx: AsyncConnection, histories: Mapping[Key, History]) -> None:
    """Store revisions; a history that starts at 0 replaces what is stored of its message."""
    afresh = [key for key, history in histories.items() if history.first == 0]
    if afresh:
        asked = key_table()
        statement = delete(revisions).where(
            revisions.c.flow_key == asked.c.flow_key, revisions.c.message_id == asked.c.id
        )
        await tx.execute(statement, keys_of(afresh))
    rows = (
        (
            *key, ordinal, revision.id, revision.kind, revision.at, revision.user,
            revision.content, list(revision.tags), revision.event, revision.thread,
            revision.edited_at, revision.edits, revision.deleted_at, revision.seen_at,
        )
        for key, history in histories.items()
        for ordinal, revision in enumerate(history.revisions, history.first)
    )  # fmt: skip
    await copy(tx, revisions, REVISION_COLUMNS, rows)


async def show_threads(tx: AsyncConnection, shown: Iterable[Shown]) -> None:
    """Store the state of threads; the state that the newest event showed wins."""
    new = insert(threads)
    columns = [column.name for column in threads.columns if not column.primary_key]
    stored = _rank(threads.c)
    statement = new.on_conflict_do_update(
        index_elements=[threads.c.flow_key, threads.c.thread_id],
        set_={name: new.excluded[name] for name in columns},
        where=stored < _rank(new.excluded),
    )
    await tx.execute(statement, [_thread_row(one) for one in shown])


def _rank(row: Any) -> Tuple:
    """The order in which states of a thread are newer; total, so that any arrival ends the same."""
    updated_at = func.coalesce(row.updated_at, func.to_timestamp(0))
    return tuple_(row.as_of, updated_at, cast(row.detail, Text).collate("C"))


def _thread_row(shown: Shown) -> dict[str, object]:
    fields = asdict(shown.thread)
    return {
        "flow_key": shown.flow_key,
        "thread_id": fields.pop("id"),
        "as_of": shown.as_of,
        **fields,
    }


def _fields(one: Held) -> dict[str, object]:
    """The columns of `messages` beside its key, in their order."""
    message = one.message
    return {
        "event": message.event,
        "user_id": message.user,
        "sent_at": message.sent_at,
        "content": message.content,
        "tags": list(message.tags),
        "thread_id": message.thread,
        "parent_id": message.parent,
        "edited_at": message.edited_at,
        "edits": message.edits,
        "deleted_at": message.deleted_at,
        "removed": message.removed,
        "attachments": _json(message.attachments) if message.attachments else None,
        "reactions": _json(dict(message.reactions)) if message.reactions else None,
        "app": message.app,
        "uuid": message.uuid,
        "external_user_name": message.external_user_name,
        "detail": None if message.detail is None else _json(message.detail),
        "as_of": message.as_of,
        "revisions": one.revisions,
    }


def _message(row: Row[Any]) -> Message:
    reactions = row.reactions or {}
    return Message(
        id=EventId(row.id),
        event=row.event,
        user=row.user_id,
        sent_at=row.sent_at,
        content=row.content,
        tags=tuple(row.tags),
        thread=row.thread_id,
        parent=row.parent_id,
        edited_at=row.edited_at,
        edits=row.edits,
        deleted_at=row.deleted_at,
        removed=row.removed,
        attachments=tuple(msgspec.convert(row.attachments or (), list[Attachment])),
        reactions=tuple((emoji, tuple(reactions[emoji])) for emoji in sorted(reactions)),
        app=row.app,
        uuid=row.uuid,
        external_user_name=row.external_user_name,
        detail=row.detail,
        as_of=EventId(row.as_of),
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
