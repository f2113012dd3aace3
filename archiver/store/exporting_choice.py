"""What an export is about: which messages or events, as conditions of SQL on them.

What a query chooses is told by `texts`, as in a search. Of a past moment, texts are compared with
what each message said then: what never changed is decided by SQL alone, the others here.
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
from archiver.store.search_past import of_the_past, said_then

Subject = Literal["messages", "events"]
"""What an export is of: messages as they are, or the journal as it was received."""

UNDATED = "undated"
"""Instead of the month of what does not tell when it was sent."""
ALWAYS = "always"
"""Instead of a month: all that a flow ever said is one part."""
LOOKED_AT = 500
"""Messages that have changed, compared with the past at once."""


class Selection(Struct, frozen=True, kw_only=True):
    """Which of what is archived is wanted."""

    flows: tuple[str, ...]
    """Paths."""
    since: datetime | None = None
    until: datetime | None = None
    as_of: datetime | None = None
    """Messages as their flows showed them then; None for as they are."""
    query: Query | None = None
    asked_at: datetime | None = None
    """What times in the query are counted back from; in UTC, as all times in it are."""
    files: bool = False
    """Whether what their files hold is wanted as well."""
    by_query: str | None = None
    """A query of SQL for flows and ids, as `settled` makes it."""


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
        """What it is called in an export's own books."""
        return name_of(self.flow, self.month)


def name_of(flow: str, month: str) -> str:
    """What that part is called."""
    return f"{flow} {month}"


async def settled(tx: Transaction, chosen: Selection) -> Selection:
    """*chosen*, with what its query means in the archive that *tx* sees.

    Raises:
        BadQuery: the query names what the archive does not know.
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
    """A time of a query as a moment: the same on every machine."""
    return at.replace(tzinfo=UTC)


def source(subject: Subject, chosen: Selection) -> sql.Composable:
    """What is read, as a table of messages or events."""
    if subject == "events":
        return _EVENTS
    if chosen.as_of is None:
        return sql.SQL("archive.messages")
    return sql.SQL("archive.messages_as_of({})").format(sql.Literal(chosen.as_of))


def wanted(chosen: Selection, part: Part | None = None) -> sql.Composable:
    """The condition that a row ``m`` is chosen; and is in *part*, if one is given."""
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
    # What was made of the query holds no placeholders; it is the SQL that it is.
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
    """The flows and ids of messages of whose texts *holds* is true."""
    same = and_(messages.c.flow_key == texts.c.flow_key, messages.c.id == texts.c.message_id)
    return (
        select(flows.c.path, texts.c.message_id)
        .join_from(texts, flows, flows.c.flow_key == texts.c.flow_key)
        .join(messages, same)
        .where(holds)
    )


def _as_text(tx: Transaction, statement: Select[Any]) -> str:
    """*statement* with its values in it, since COPY takes none beside it."""
    compiled = statement.compile(dialect=tx.dialect)
    cursor = psycopg.AsyncClientCursor(driver_of(tx))
    return cursor.mogrify(str(compiled), compiled.params)


async def _changed(tx: Transaction, meaning: Meaning, moment: datetime) -> list[tuple[int, int]]:
    """Flow keys and ids of messages that have changed, and said then what is searched."""
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
        said = await said_then(tx, meaning, hits, moment)
        found += [(one.flow_key, one.id) for one in said]
        after = hits[-1].flow_key, hits[-1].message_id
    return found


_EVENTS = sql.SQL(
    "(SELECT f.path AS flow, j.*, j.sent_at AS sent FROM store.journal AS j"
    " JOIN store.flows AS f USING (flow_key))"
)
