"""What an export contains: which messages or events, as conditions in SQL.

What a query chooses is found in `texts`, as in a search. For a past moment, texts are compared with
what each message said then: by SQL for messages that never changed, and here for the others.
"""

from datetime import UTC, datetime
from typing import Any, Literal

import psycopg
from msgspec import Struct
from msgspec.structs import replace
from psycopg import sql
from sqlalchemy import ColumnElement, Select, and_, select, tuple_

from archiver.domain.query import Query
from archiver.store.connection import Transaction, driver_of
from archiver.store.schema import flows, messages, texts
from archiver.store.search import Hit
from archiver.store.search_conditions import condition
from archiver.store.search_meaning import Meaning, understand
from archiver.store.search_past import matched_then, of_the_past

Subject = Literal["messages", "events"]
"""What an export contains: messages as they are, or the journal as it was received."""

UNDATED = "undated"
"""The "month" of messages that do not tell when they were sent."""
ALWAYS = "always"
"""The "month" of a part with all that a flow ever said."""
LOOKED_AT = 500
"""How many changed messages are compared with the past at once."""


class Selection(Struct, frozen=True, kw_only=True):
    """Which part of the archive is wanted."""

    flows: tuple[str, ...]
    """The paths of the flows."""
    since: datetime | None = None
    until: datetime | None = None
    as_of: datetime | None = None
    """The moment as of which messages are wanted; None for their present state."""
    query: Query | None = None
    asked_at: datetime | None = None
    """The time to which relative times in the query refer; in UTC, as all times in it are."""
    files: bool = False
    """Whether the contents of their files are wanted too."""
    by_query: str | None = None
    """The query as SQL that yields paths and ids, made by `settled`."""


class Part(Struct, frozen=True, kw_only=True):
    """What one flow said in one month."""

    flow: str
    month: str
    """``2024-05``, in UTC; or `UNDATED`; or `ALWAYS`."""
    rows: int
    first_id: int
    last_id: int

    @property
    def name(self) -> str:
        """The name by which an export keeps track of it."""
        return name_of(self.flow, self.month)


def name_of(flow: str, month: str) -> str:
    """The name of the part for this flow and month."""
    return f"{flow} {month}"


async def settled(tx: Transaction, chosen: Selection) -> Selection:
    """*chosen* with its query resolved in the archive that *tx* sees, as `by_query`.

    Raises:
        BadQuery: the query names a flow or a person that the archive does not know.
    """
    if chosen.query is None:
        return chosen
    now = chosen.asked_at or datetime.now(UTC)
    meaning = await understand(tx, chosen.query, now=now, localize=in_utc)
    if chosen.as_of is None:
        return replace(chosen, by_query=_as_text(tx, _found(condition(meaning))))
    whole = of_the_past(meaning)
    same = and_(messages.c.revisions == 0, texts.c.ordinal == 0)
    unchanged = _as_text(tx, _found(and_(same, condition(whole))))
    changed = await _changed(tx, meaning, chosen.as_of)
    listed = sql.SQL(
        "SELECT path, id FROM unnest({}::int[], {}::bigint[]) AS n (flow_key, id)"
        " JOIN store.flows USING (flow_key)"
    ).format(sql.Literal([key for key, _ in changed]), sql.Literal([id_ for _, id_ in changed]))
    both = f"{unchanged} UNION ALL {listed.as_string(driver_of(tx))}"
    return replace(chosen, by_query=both)


def in_utc(at: datetime) -> datetime:
    """A time in a query, read as UTC, so that it means the same on every machine."""
    return at.replace(tzinfo=UTC)


def source(subject: Subject, chosen: Selection) -> sql.Composable:
    """The SQL for the table of messages or events to read."""
    if subject == "events":
        return _EVENTS
    if chosen.as_of is None:
        return sql.SQL("archive.messages")
    return sql.SQL("archive.messages_as_of({})").format(sql.Literal(chosen.as_of))


def wanted(chosen: Selection, part: Part | None = None) -> sql.Composable:
    """The condition that a row ``m`` is chosen and, if *part* is given, belongs to that."""
    conditions: list[sql.Composable] = []
    if part is None:
        paths = sql.Literal(list(chosen.flows))
        conditions.append(sql.SQL("m.flow = ANY({}::text[])").format(paths))
    else:
        conditions += _inside(part)
    if chosen.since is not None:
        conditions.append(sql.SQL("m.sent >= {}").format(sql.Literal(chosen.since)))
    if chosen.until is not None:
        conditions.append(sql.SQL("m.sent < {}").format(sql.Literal(chosen.until)))
    if chosen.by_query is not None:
        conditions.append(_by_query(chosen.by_query, part))
    return sql.SQL(" AND ").join(conditions)


def _inside(part: Part) -> list[sql.Composable]:
    conditions: list[sql.Composable] = [
        sql.SQL("m.flow = {}").format(sql.Literal(part.flow)),
        sql.SQL("m.id BETWEEN {} AND {}").format(
            sql.Literal(part.first_id), sql.Literal(part.last_id)
        ),
    ]
    if part.month == UNDATED:
        conditions.append(sql.SQL("m.sent IS NULL"))
    elif part.month != ALWAYS:
        first = sql.Literal(f"{part.month}-01 00:00:00+00")
        month = "m.sent >= {0}::timestamptz AND m.sent < {0}::timestamptz + interval '1 month'"
        conditions.append(sql.SQL(month).format(first))
    return conditions


def _by_query(by_query: str, part: Part | None) -> sql.Composable:
    # The SQL contains its values, so nothing in it is a placeholder.
    found = sql.SQL(by_query)
    narrowed: sql.Composable = sql.SQL("true")
    if part is not None:
        narrowed = sql.SQL("q.path = {} AND q.id BETWEEN {} AND {}").format(
            sql.Literal(part.flow), sql.Literal(part.first_id), sql.Literal(part.last_id)
        )
    return sql.SQL(
        "(m.flow, m.id) IN (SELECT q.path, q.id FROM ({}) AS q (path, id) WHERE {})"
    ).format(found, narrowed)


def _found(holds: ColumnElement[bool]) -> Select[Any]:
    """The query for paths and ids of messages that have a text of which *holds* is true."""
    same = and_(messages.c.flow_key == texts.c.flow_key, messages.c.id == texts.c.message_id)
    return (
        select(flows.c.path, texts.c.message_id)
        .join_from(texts, flows, flows.c.flow_key == texts.c.flow_key)
        .join(messages, same)
        .where(holds)
    )


def _as_text(tx: Transaction, statement: Select[Any]) -> str:
    """*statement* with its values inserted, since COPY takes no parameters."""
    compiled = statement.compile(dialect=tx.dialect)
    cursor = psycopg.AsyncClientCursor(driver_of(tx))
    return cursor.mogrify(str(compiled), compiled.params)


async def _changed(tx: Transaction, meaning: Meaning, moment: datetime) -> list[tuple[int, int]]:
    """Flow keys and ids of messages that have changed at some time and that matched at *moment*."""
    t = texts.c
    key = (t.flow_key, t.message_id)
    same = and_(messages.c.flow_key == t.flow_key, messages.c.id == t.message_id)
    candidates = (
        select(*key)
        .distinct()
        .join_from(texts, messages, same)
        .where(messages.c.revisions > 0, condition(of_the_past(meaning)))
        .order_by(*key)
        .limit(LOOKED_AT)
    )
    found: list[tuple[int, int]] = []
    after = (0, 0)
    while rows := (await tx.execute(candidates.where(tuple_(*key) > after))).all():
        hits = [Hit(moment, flow_key, id_) for flow_key, id_ in rows]
        said = await matched_then(tx, meaning, hits, moment)
        found += [(one.flow_key, one.id) for one in said]
        after = hits[-1].flow_key, hits[-1].message_id
    return found


_EVENTS = sql.SQL(
    "(SELECT f.path AS flow, j.*, j.sent_at AS sent FROM store.journal AS j"
    " JOIN store.flows AS f USING (flow_key))"
)
