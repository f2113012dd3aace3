"""Comparing the stored rows with those that should be stored; Postgres does the comparison.

The expected rows of a stretch of ids are sent as JSON, which Postgres converts to rows of the same
table. So values are compared as SQL values, whatever their form in JSON or Python.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import Table, TextClause, and_, select, text, true

from archiver.store.bulk import Key
from archiver.store.connection import Transaction
from archiver.store.messages import Held, History, Shown, thread_rank
from archiver.store.rebuilding import Stretch
from archiver.store.schema import messages, revisions, threads

TOLD_LETTERS = 120


class Difference(Struct, frozen=True, kw_only=True):
    """A difference between a derived row and the replay of the journal."""

    table: str
    id: str
    """The id of the message or thread."""
    revision: int | None
    """If the row is a revision, its ordinal in the history of the message."""
    field: str | None
    """None if the whole row is missing, or should not be there."""
    stored: str | None
    """The start of the value, as text; for a whole row, ``row``, or None if there is no such
    row."""
    expected: str | None

    @property
    def is_missing(self) -> bool:
        """Tell whether the whole row is missing."""
        return self.field is None and self.stored is None

    @property
    def is_unfounded(self) -> bool:
        """Tell whether nothing in the journal accounts for the row."""
        return self.field is None and self.expected is None


async def compare_messages(
    tx: Transaction, stretch: Stretch, held: Mapping[Key, Held]
) -> list[Difference]:
    """How the stored messages of a stretch differ from *held*, which should be stored."""
    if not await _holds_any(tx, messages, "id", stretch):
        return [_missing(messages, key) for key in held]
    rows = [_message_row(key, one) for key, one in held.items()]
    return await _differences(tx, messages, rows, "id > :after AND id <= :last", _asked(stretch))


async def compare_revisions(
    tx: Transaction, stretch: Stretch, histories: Mapping[Key, History]
) -> list[Difference]:
    """How the stored revisions of a stretch differ from *histories*, which should be stored."""
    if not await _holds_any(tx, revisions, "message_id", stretch):
        return [
            _missing(revisions, key, ordinal)
            for key, history in histories.items()
            for ordinal, _ in enumerate(history.revisions)
        ]
    rows = [
        _named(asdict(revision), {"id": "revision", "user": "user_id", "thread": "thread_id"})
        | {"flow_key": key[0], "message_id": key[1], "ordinal": ordinal}
        for key, history in histories.items()
        for ordinal, revision in enumerate(history.revisions)
    ]
    scope = "message_id > :after AND message_id <= :last"
    return await _differences(tx, revisions, rows, scope, _asked(stretch))


async def compare_threads(
    tx: Transaction, flow_key: int, asked: Collection[str], shown: Collection[Shown]
) -> list[Difference]:
    """How the stored threads with the ids *asked* differ from *shown*, which should be stored.

    *shown* has at most one state of each thread.
    """
    rows = [_thread_row(one) for one in shown]
    named = {"flow_key": flow_key, "threads": list(asked)}
    return await _differences(tx, threads, rows, "thread_id = ANY(:threads)", named)


async def newest(tx: Transaction, shown: Collection[Shown]) -> list[Shown]:
    """The newest state of each thread among *shown*, as Postgres orders them."""
    in_order = list(shown)
    if len({(one.flow_key, one.thread.id) for one in in_order}) == len(in_order):
        return in_order
    found = await tx.execute(_NEWEST, {"rows": _json([_thread_row(one) for one in in_order])})
    return [in_order[number - 1] for number in found.scalars()]


async def outdated_threads(
    tx: Transaction, shown: Collection[Shown]
) -> list[tuple[Shown, Difference]]:
    """The states in *shown* that are newer than the stored ones, or whose threads are not stored.

    *shown* has at most one state of each thread.
    """
    in_order = list(shown)
    if not in_order:
        return []
    found = await tx.execute(_OUTDATED, {"rows": _json([_thread_row(one) for one in in_order])})
    return [
        (
            in_order[number - 1],
            Difference(
                table="threads",
                id=in_order[number - 1].thread.id,
                revision=None,
                field=None if stored is None else "as_of",
                stored=None if stored is None else str(stored),
                expected="row" if stored is None else str(in_order[number - 1].as_of),
            ),
        )
        for number, stored in found
    ]


async def _differences(
    tx: Transaction,
    table: Table,
    rows: Sequence[Mapping[str, object]],
    scope: str,
    asked: Mapping[str, object],
) -> list[Difference]:
    parameters = {"rows": _json(rows), "letters": TOLD_LETTERS, **asked}
    found = await tx.execute(_comparison(table, scope), parameters)
    return [
        Difference(
            table=str(table.name),
            id=str(row.id),
            revision=row.ordinal,
            field=row.field,
            stored=row.stored,
            expected=row.expected,
        )
        for row in found
    ]


async def _holds_any(tx: Transaction, table: Table, id_: str, stretch: Stretch) -> bool:
    """Tell whether *table* has any row of a stretch; without any, there is nothing to compare."""
    of_flow = table.c.flow_key == stretch.flow_key
    within = and_(table.c[id_] > stretch.after, table.c[id_] <= stretch.last)
    return (await tx.execute(select(true()).where(of_flow, within).limit(1))).scalar() is not None


def _missing(table: Table, key: Key, ordinal: int | None = None) -> Difference:
    return Difference(
        table=str(table.name),
        id=str(key[1]),
        revision=ordinal,
        field=None,
        stored=None,
        expected="row",
    )


def _asked(stretch: Stretch) -> dict[str, object]:
    return {"flow_key": stretch.flow_key, "after": stretch.after, "last": stretch.last}


@cache
def _comparison(table: Table, scope: str) -> TextClause:
    """The query for the fields in which stored and expected rows differ.

    A row that exists on one side only is reported once, as a whole.
    """
    keys = [column.name for column in table.primary_key]
    values = [column.name for column in table.columns if not column.primary_key]
    fields = ", ".join(
        f"('{name}', left(CAST(s.{name} AS text), :letters),"
        f" left(CAST(e.{name} AS text), :letters),"
        f" s.flow_key = e.flow_key AND s.{name} IS DISTINCT FROM e.{name})"
        for name in values
    )
    whole = (
        "(NULL, CASE WHEN s.flow_key IS NOT NULL THEN 'row' END,"
        " CASE WHEN e.flow_key IS NOT NULL THEN 'row' END,"
        " s.flow_key IS NULL OR e.flow_key IS NULL)"
    )
    stored, expected = (", ".join(f"{side}.{name}" for name in values) for side in "se")
    ordinal = "ordinal" if "ordinal" in keys else "CAST(NULL AS integer)"
    return text(f"""
        SELECT {keys[1]} AS id, {ordinal} AS ordinal, field, stored, expected
        FROM (SELECT * FROM {table.fullname} WHERE flow_key = :flow_key AND {scope}) AS s
        FULL JOIN json_populate_recordset(NULL::{table.fullname}, CAST(:rows AS json)) AS e
            USING ({", ".join(keys)})
        CROSS JOIN LATERAL (VALUES {whole}, {fields}) AS d(field, stored, expected, differs)
        WHERE (s.flow_key IS NULL OR e.flow_key IS NULL
               OR ({stored}) IS DISTINCT FROM ({expected}))
        AND differs
        ORDER BY {", ".join(keys)}
    """)  # noqa: S608


def _message_row(key: Key, held: Held) -> dict[str, object]:
    """A row of `messages`. This does not reuse the writer's code, so that its mistakes show."""
    names = {"user": "user_id", "thread": "thread_id", "parent": "parent_id"}
    message = held.message
    return _named(asdict(message), names) | {
        "flow_key": key[0],
        "attachments": message.attachments or None,
        "reactions": dict(message.reactions) or None,
        "revisions": held.revisions,
    }


def _thread_row(shown: Shown) -> dict[str, object]:
    row = _named(asdict(shown.thread), {"id": "thread_id"})
    return row | {"flow_key": shown.flow_key, "as_of": shown.as_of, "told_at": shown.told_at}


def _named(fields: dict[str, Any], names: Mapping[str, str]) -> dict[str, object]:
    return {names.get(name, name): value for name, value in fields.items()}


def _json(rows: Sequence[Mapping[str, object]]) -> str:
    return msgspec.json.encode(rows).decode()


_SHOWN = """
    SELECT number, shown.*
    FROM json_array_elements(CAST(:rows AS json)) WITH ORDINALITY AS one(value, number)
    CROSS JOIN LATERAL json_populate_record(NULL::store.threads, value) AS shown
"""

_NEWEST = text(f"""
    SELECT DISTINCT ON (flow_key, thread_id) number FROM ({_SHOWN}) AS shown
    ORDER BY flow_key, thread_id, {thread_rank("shown")} DESC
""")  # noqa: S608

_OUTDATED = text(f"""
    SELECT number, stored.as_of FROM ({_SHOWN}) AS shown
    LEFT JOIN store.threads AS stored USING (flow_key, thread_id)
    WHERE stored.flow_key IS NULL OR {thread_rank("stored")} < {thread_rank("shown")}
    ORDER BY number
""")  # noqa: S608
