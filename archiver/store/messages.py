"""Messages as the flow shows them now, their history, and the threads they belong to.

All of it is derived from the journal by `archiver.domain.fold`; here it is only read and written.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import Table, select, true

from archiver.domain.model import Attachment, EventId, Message, Revision, Thread
from archiver.store.bulk import (
    NO_TEXTS,
    Key,
    document,
    key_table,
    keys_of,
    moment,
    reached,
    records,
    texts,
)
from archiver.store.connection import Transaction
from archiver.store.engine import carried
from archiver.store.fetching import fetch, query, rows_in
from archiver.store.files import noting
from archiver.store.pipelining import Answer, Statement, send
from archiver.store.rows import Row, Rows, add_rows
from archiver.store.schema import messages, revisions, threads
from archiver.store.search_queue import noted

COLUMNS = tuple(column.name for column in messages.columns)
CONTENT = COLUMNS.index("content")
REVISION_COLUMNS = tuple(column.name for column in revisions.columns)
REVISION_ID = REVISION_COLUMNS.index("revision")
REVISION_CONTENT = REVISION_COLUMNS.index("content")

_ASKED = key_table()
_STORED = reached(messages, messages.c.flow_key == _ASKED.c.flow_key, messages.c.id == _ASKED.c.id)
_HELD = query(select(_STORED).select_from(_ASKED.join(_STORED, true())))
_TOLD = reached(
    revisions, revisions.c.flow_key == _ASKED.c.flow_key, revisions.c.message_id == _ASKED.c.id
)
_HISTORIES = query(select(_TOLD).select_from(_ASKED.join(_TOLD, true())))
_POSITIONS = query(
    select(_STORED.c.flow_key, _STORED.c.id, _STORED.c.as_of).select_from(
        _ASKED.join(_STORED, true())
    )
)


class Held(Struct, frozen=True, gc=False):
    """A stored message, and the number of its stored revisions."""

    message: Message
    revisions: int


class Shown(Struct, frozen=True):
    """The state of a thread that the event *as_of* showed."""

    flow_key: int
    thread: Thread
    as_of: EventId
    told_at: datetime | None = None
    """When that event was sent, if the service does not date the thread."""


class History(Struct, frozen=True):
    """Revisions to store of one message; *first* is the ordinal of the first of them."""

    first: int
    revisions: tuple[Revision, ...]


NOTHING: Mapping[Key, Held] = MappingProxyType({})
NO_HISTORIES: Mapping[Key, History] = MappingProxyType({})


async def held(tx: Transaction, keys: Iterable[Key]) -> dict[Key, Held]:
    """The stored messages among *keys*."""
    (answer,) = await send(tx, [holding(keys)])
    return held_in(tx, answer)


def holding(keys: Iterable[Key]) -> Statement:
    """The statement that `held` sends, to be sent together with others."""
    return _HELD.about(keys_of(keys))


def held_in(tx: Transaction, answer: Answer) -> dict[Key, Held]:
    """The messages in the result of `holding`."""
    rows = rows_in(tx, answer)
    carried(tx, (len(row[CONTENT]) for row in rows))
    return dict(map(_held, rows))


async def stored_histories(tx: Transaction, keys: Iterable[Key]) -> dict[Key, tuple[Revision, ...]]:
    """The stored revisions of each message among *keys* that has any, in order."""
    rows = sorted(await fetch(tx, _HISTORIES, keys_of(keys)), key=itemgetter(0, 1, 2))
    carried(tx, (len(row[REVISION_CONTENT] or "") for row in rows))
    return {key: tuple(map(_revision, its)) for key, its in groupby(rows, key=itemgetter(0, 1))}


async def positions(tx: Transaction, keys: Iterable[Key]) -> dict[Key, int]:
    """For each stored message among *keys*, the newest id that it reflects."""
    rows = await fetch(tx, _POSITIONS, keys_of(keys))
    return {(flow_key, id_): as_of for flow_key, id_, as_of in rows}


async def store(
    tx: Transaction,
    *,
    added: Mapping[Key, Held] = NOTHING,
    changed: Mapping[Key, Held] = NOTHING,
    histories: Mapping[Key, History] = NO_HISTORIES,
    threads: Iterable[Shown] = (),
    files: Collection[tuple[int, Sequence[Attachment]]] = (),
    found_alike: AbstractSet[Key] = frozenset(),
    beside: Rows | None = None,
    commits: bool = False,
) -> None:
    """Store new messages (*added*), new states of stored ones (*changed*), and their revisions.

    A history that starts at 0 replaces the stored revisions of its message. Of each thread, the
    newest state by `thread_rank` is kept. The rows *beside* are inserted along with the others. The
    search is told of all these messages except *found_alike*, which it would find as before. From
    now on, *files* are wanted, each with the key of its flow. If *commits*, the transaction may be
    committed when this returns, so nothing may follow.
    """
    before = []
    if changed:
        states = records([_record(key, one) for key, one in changed.items()])
        before.append(Statement(_CHANGE, [states]))
    if afresh := [key for key, history in histories.items() if history.first == 0]:
        before.append(Statement(_FORGET, list(keys_of(afresh).values())))
    if shown := [_thread_record(one) for one in threads]:
        before.append(Statement(_SHOW, [records(shown)]))
    if noted_files := noting(files):
        before.append(noted_files)
    written = [
        key for key in dict.fromkeys([*added, *changed, *histories]) if key not in found_alike
    ]
    rows = Rows(messages, COLUMNS, list(added.items()), _row)
    new = [rows, _revisions(histories), noted(written)]
    await add_rows(tx, *([beside, *new] if beside else new), before=before, commits=commits)


def _revisions(histories: Mapping[Key, History]) -> Rows:
    rows = [
        (
            *key, ordinal, revision.id, revision.kind, moment(revision.at), revision.user,
            revision.content, texts(revision.tags), revision.event, revision.thread,
            moment(revision.edited_at), revision.edits, moment(revision.deleted_at),
            moment(revision.seen_at),
        )
        for key, history in histories.items()
        for ordinal, revision in enumerate(history.revisions, history.first)
    ]  # fmt: skip
    return Rows(revisions, REVISION_COLUMNS, rows)


def _revision(row: Sequence[Any]) -> Revision:
    """A row of `revisions`, in the order of `REVISION_COLUMNS`."""
    id_, kind, at, user, content, tags, event, thread, edited_at, edits, deleted_at, seen_at = row[
        REVISION_ID:
    ]
    return Revision(
        id=id_, kind=kind, at=at, user=user, content=content, tags=tuple(tags), event=event,
        thread=thread, edited_at=edited_at, edits=edits, deleted_at=deleted_at, seen_at=seen_at,
    )  # fmt: skip


def _thread_record(shown: Shown) -> dict[str, object]:
    fields = asdict(shown.thread)
    return {
        "flow_key": shown.flow_key,
        "thread_id": fields.pop("id"),
        "as_of": shown.as_of,
        "told_at": shown.told_at,
        **fields,
    }


def _row(added: tuple[Key, Held]) -> Row:
    """A row of `messages` to insert, in the order of `COLUMNS`."""
    key, held = added
    one = held.message
    return (
        *key, one.event, one.user, moment(one.sent_at), one.content,
        texts(one.tags) if one.tags else NO_TEXTS, one.thread, one.parent,
        one.edited_at and moment(one.edited_at), one.edits,
        one.deleted_at and moment(one.deleted_at), one.removed,
        document(one.attachments) if one.attachments else None,
        document(dict(one.reactions)) if one.reactions else None,
        one.app, one.uuid, one.external_user_name,
        None if one.detail is None else document(one.detail), one.as_of, held.revisions,
    )  # fmt: skip


def _record(key: Key, one: Held) -> dict[str, object]:
    """A row of `messages`, by column."""
    fields = asdict(one.message)
    return fields | {
        "flow_key": key[0],
        "user_id": fields["user"],
        "thread_id": fields["thread"],
        "parent_id": fields["parent"],
        "attachments": one.message.attachments or None,
        "reactions": dict(one.message.reactions) or None,
        "revisions": one.revisions,
    }


def _held(row: Sequence[Any]) -> tuple[Key, Held]:
    """A row of `messages`, in the order of `COLUMNS`."""
    (
        flow_key, id_, event, user, sent_at, content, tags, thread, parent, edited_at, edits,
        deleted_at, removed, attachments, reactions, app, uuid, external_user_name, detail, as_of,
        revisions,
    ) = row  # fmt: skip
    message = Message(
        id_, event, user, sent_at, content, tuple(tags), thread, parent, edited_at, edits,
        deleted_at, tuple(msgspec.convert(attachments, list[Attachment])) if attachments else (),
        tuple((emoji, tuple(reactions[emoji])) for emoji in sorted(reactions)) if reactions else (),
        app, uuid, external_user_name, detail, removed, as_of,
    )  # fmt: skip
    return (flow_key, id_), Held(message, revisions)


def _upsert(table: Table, source: str) -> str:
    """The statement that stores the rows of *source*, a query, replacing those with the same keys.

    ON CONFLICT finds these by the index, whatever the planner's statistics say of the table.
    """
    names = [column.name for column in table.columns if not column.primary_key]
    keys = ", ".join(column.name for column in table.primary_key)
    return (
        f"INSERT INTO {table.fullname} AS stored {source} ON CONFLICT ({keys}) DO UPDATE"
        f" SET ({', '.join(names)}) = ROW({', '.join(f'excluded.{name}' for name in names)})"
    )


def thread_rank(row: str) -> str:
    """The SQL expression by which states of a thread are ordered, the newest last.

    It is a total order, so the same state wins whatever the order of arrival.

    The service's date of the thread comes first, since a listing shows an old message with the
    present state of its thread. Exports of the service date all threads to 1970, which says no more
    than no date; such a state is as new as its event. But the service dates a thread some
    milliseconds before the message that changed it, and of the same change, the state with a date
    is the better one; hence the second that is subtracted.
    """
    told = f"{row}.told_at - interval '1 second'"
    at = f"greatest(coalesce({told}, {row}.updated_at), timestamptz '2000-01-01 00:00Z')"
    return f'({at}, {row}.as_of, CAST({row}.detail AS text) COLLATE "C")'


_CHANGE = _upsert(
    messages,
    "SELECT * FROM json_populate_recordset(NULL::store.messages, CAST($1 AS json))",
).encode()
_NEWEST = f"""
    SELECT DISTINCT ON (flow_key, thread_id) *
    FROM json_populate_recordset(NULL::store.threads, CAST($1 AS json)) AS new
    ORDER BY flow_key, thread_id, {thread_rank("new")} DESC
"""  # noqa: S608
_IS_NEWER = f"{thread_rank('stored')} < {thread_rank('excluded')}"
_SHOW = f"{_upsert(threads, _NEWEST)} WHERE {_IS_NEWER}".encode()
_FORGET = b"""
    DELETE FROM store.revisions WHERE ctid = ANY (ARRAY(
        SELECT its.ctid
        FROM unnest(CAST($1 AS integer[]), CAST($2 AS bigint[]))
             AS asked (flow_key, id)
        CROSS JOIN LATERAL (
            SELECT r.ctid FROM store.revisions AS r
            WHERE r.flow_key = asked.flow_key AND r.message_id = asked.id OFFSET 0
        ) AS its
    ))
"""
