"""Searching: the newest texts that match a query, a page at a time.

A page is found by reading only `texts`, window by window (`archiver.store.search_walk`). The last
row of a page is the cursor for the next one. Messages that arrive meanwhile are newer, so they are
on no later page, and nothing is skipped or repeated.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from msgspec import Struct
from sqlalchemy import (
    ColumnElement,
    Select,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    table,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on
from sqlalchemy.types import Integer

from archiver.domain.query import All, Filter, Node
from archiver.errors import ArchiverError
from archiver.store.asking import in_words
from archiver.store.connection import Engine, Transaction
from archiver.store.engine import CANCELED, DatabaseError, sqlstate, transaction
from archiver.store.fetching import Query, fetch
from archiver.store.schema import texts
from archiver.store.search_conditions import condition
from archiver.store.search_meaning import Meaning
from archiver.store.search_texts import EPOCH
from archiver.store.search_walk import (
    Extent,
    Window,
    cells,
    cut,
    first_window,
    next_window,
    whole,
)

CROWDED = 2_000
"""A window with more hits than this, and than twice as many as are wanted, is cut."""
HOUR = timedelta(hours=1)


class Hit(Struct, frozen=True, order=True):
    """A message that was found; hits are ordered by age."""

    said_at: datetime
    flow_key: int
    message_id: int
    ordinal: int = 0
    """Which of its texts was found: 0 for its present text."""


class TookTooLong(ArchiverError):
    """A search was stopped before it found anything."""

    def __init__(self, told: str, searched_from: Hit | None = None) -> None:
        super().__init__(told)
        self.searched_from = searched_from
        """Everything that is not older than this was searched; None if that is not known."""


class Page(Struct, frozen=True, kw_only=True):
    """The hits of one page, the newest first."""

    hits: Sequence[Hit]
    is_last: bool
    """Whether there are no older hits."""
    searched_from: Hit | None = None
    """How far back the search came before its time ran out: what is older than this was not
    searched. None if the search was completed."""


@asynccontextmanager
async def limited(engine: Engine, seconds: float) -> AsyncIterator[Transaction]:
    """A transaction for reading, in which no statement may take longer than *seconds*.

    Raises:
        TookTooLong: a statement took longer.
    """
    try:
        async with transaction(engine) as tx:
            # A statement of its own, since a limit applies only to the statements that follow.
            await fetch(tx, _LIMIT, {"timeout": f"{max(1, seconds * 1000):.0f}".encode()})
            yield tx
    except DatabaseError as error:
        if sqlstate(error) != CANCELED:
            raise
        raise TookTooLong(
            f"the archive did not answer in {in_words(seconds)}: another session may have locked "
            "it; wait, or allow more with --timeout"
        ) from error


async def search(
    engine: Engine,
    meaning: Meaning,
    *,
    most: int,
    older_than: Hit | None = None,
    seconds: float,
) -> Page:
    """The newest messages that match, at most *most*, after the cursor *older_than*.

    Raises:
        TookTooLong: nothing was found within *seconds*.
    """
    found: list[Hit] = []
    searched_from: Hit | None = None
    until = monotonic() + seconds
    wanted = most + 1
    try:
        async with limited(engine, seconds) as tx:
            ((*_, rows, first_hour, last_hour),) = await fetch(tx, _BEGIN)
            extent = _bounded(Extent(rows, first_hour, last_hour), meaning, older_than)
            window = whole(extent) if _names_one(meaning.query.root) else first_window(extent)
            look = _Look(meaning, older_than=older_than)
            was_cut = False
            while window is not None and len(found) < wanted:
                searched_from = Hit(_beginning_of(window.end), 0, 0)
                left = wanted - len(found)
                if monotonic() > until:
                    break
                hits = (await tx.execute(*look.into(window, most=left))).all()
                if hits and hits[0].crowd > max(CROWDED, 2 * left) and window.hours > 1:
                    window, was_cut = cut(window), True
                    continue
                found += [Hit(*row[:4]) for row in hits]
                window = next_window(extent, window, is_rare=not (found or was_cut))
            else:
                searched_from = None
    except TookTooLong:
        if searched_from is None:
            raise
    if searched_from is not None and not found:
        raise TookTooLong(advice(seconds, searched_from), searched_from)
    is_last = searched_from is None and len(found) < wanted
    return Page(hits=found[:most], is_last=is_last, searched_from=searched_from)


def advice(seconds: float, searched_from: Hit) -> str:
    """The message for a search that found nothing within *seconds*: how to find something."""
    said_at = searched_from.said_at
    back = f" since {said_at:%Y-%m-%d}" if said_at > EPOCH else ""
    return (
        f"nothing was found{back} in {in_words(seconds)}, and the search was stopped: add a word "
        "of three letters or more, from:, in: or after:, or allow more with --timeout"
    )


def _spine(node: Node | None) -> Iterator[Node]:
    """The conditions that every hit must meet: the terms that the query joins by AND."""
    if node is not None:
        yield from node.terms if isinstance(node, All) else (node,)


def _names_one(node: Node | None) -> bool:
    return any(isinstance(one, Filter) and one.name == "id" for one in _spine(node))


def _bounded(extent: Extent, meaning: Meaning, older_than: Hit | None) -> Extent:
    """The part of *extent* in which anything can be found."""
    first, last = extent.first_hour, extent.last_hour
    if older_than is not None:
        last = min(last, _hour(older_than.said_at))
    for one in _spine(meaning.query.root):
        if isinstance(one, Filter) and one.value in meaning.spans:
            begin, end = meaning.spans[one.value]
            if one.name in {"after", "on"}:
                first = max(first, _hour(begin))
            if one.name in {"before", "on"}:
                last = min(last, _hour(begin if one.name == "before" else end))
    share = (last - first + 1) / (extent.last_hour - extent.first_hour + 1)
    return Extent(extent.rows * max(0.0, share), first, last)


def _hour(at: datetime) -> int:
    return max(0, (at - EPOCH) // HOUR)


def _beginning_of(hour: int) -> datetime:
    return EPOCH + min(hour, _hour(datetime.max.replace(tzinfo=UTC))) * HOUR


class _Look:
    """The query for the newest hits in a window, and for how many there are.

    It counts no further than to where the window is crowded. The statement is built once for all
    windows, since building it takes as long as running it.
    """

    def __init__(self, meaning: Meaning, *, older_than: Hit | None) -> None:
        t = texts.c
        # Adding 0 keeps Postgres from using the index that has only the hours.
        hour = t.hour + 0
        inside = [hour >= _BEGINS, hour < _ENDS, condition(meaning), _OVERLAPS]
        if older_than is not None:
            limit = (older_than.said_at, older_than.flow_key, older_than.message_id)
            inside.append(
                tuple_(t.said_at, t.flow_key, t.message_id) < tuple_(*map(literal, limit))
            )
        columns = [t.said_at, t.flow_key, t.message_id, t.ordinal]
        hits = select(*columns).where(*inside).limit(_CROWD).cte("hits")
        self._statement = _NEWEST.add_cte(hits.prefix_with("MATERIALIZED"))

    def into(self, window: Window, *, most: int) -> tuple[Select[Any], dict[str, Any]]:
        """The statement and its parameters to find at most *most* hits in *window*."""
        # A window that cannot be cut further is searched completely.
        crowd = max(CROWDED, 2 * most) + 1 if window.hours > 1 else None
        asked = {"begins": window.begin, "ends": window.end, "cells": list(cells(window))}
        return self._statement, {**asked, "crowd": crowd, "most": most}


_BEGINS = bindparam("begins", type_=Integer)
_ENDS = bindparam("ends", type_=Integer)
_CROWD = bindparam("crowd", type_=Integer)
_MOST = bindparam("most", type_=Integer)
_OVERLAPS: ColumnElement[bool] = func.store.cells(texts.c.hour, type_=ARRAY(Integer)).bool_op("&&")(
    bindparam("cells", type_=ARRAY(Integer))
)

_KEY: list[ColumnElement[Any]] = [
    literal_column(f"hits.{name}") for name in ("said_at", "flow_key", "message_id")
]
_TOLD: list[ColumnElement[Any]] = [
    literal_column("hits.*"),
    literal_column("(SELECT count(*) FROM hits)").label("crowd"),
]
_NEWEST: Select[Any] = (
    select(*_TOLD)
    .select_from(table("hits"))
    .ext(distinct_on(*_KEY))
    .order_by(*(column.desc() for column in _KEY), literal_column("hits.ordinal"))
    .limit(_MOST)
)

_LIMIT = Query.of("SELECT set_config('statement_timeout', CAST(%(timeout)s AS text), true)")

_BEGIN = Query.of("""
    SELECT set_config('enable_seqscan', 'off', true),
           set_config('jit', 'off', true),
           set_config('max_parallel_workers_per_gather', '0', true),
           set_config('plan_cache_mode', 'force_custom_plan', true),
           set_config('work_mem', '32MB', true),
           greatest(CAST(c.reltuples AS float8), pg_relation_size(c.oid) / 1000.0) AS rows,
           coalesce((SELECT hour FROM store.texts ORDER BY hour LIMIT 1), 0) AS first_hour,
           coalesce((SELECT hour FROM store.texts ORDER BY hour DESC LIMIT 1), 0) AS last_hour
    FROM pg_class AS c WHERE c.oid = CAST('store.texts' AS regclass)
""")
