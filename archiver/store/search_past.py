"""Searching what messages said at a past moment.

All texts that a message ever had are searched; a hit counts if it is the text that the message had
at the moment. A message that was deleted by then had none. For all other parts of a query, such as
sender and tags, the present state of the message counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace as changed
from datetime import datetime
from time import monotonic
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Select, bindparam, column, func, select, text, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import BigInteger, Integer, Text, TypeEngine

from archiver.domain.query_text import fold, space, with_names
from archiver.store.bulk import Key
from archiver.store.connection import Engine, Transaction
from archiver.store.schema import texts
from archiver.store.search import Hit, Page, TookTooLong, advice, limited, search
from archiver.store.search_conditions import condition, finds_deleted
from archiver.store.search_meaning import Meaning
from archiver.store.search_showing import NEIGHBOUR_LETTERS, Found, Neighbour, around, read

LARGEST_KEY = 2**31 - 1
FEWEST = 100
"""The fewest candidates that are searched for at once."""


async def search_as_of(
    engine: Engine,
    meaning: Meaning,
    *,
    moment: datetime,
    most: int,
    older_than: Hit | None,
    seconds: float,
) -> tuple[Page, list[Found]]:
    """The newest messages that matched at *moment*, as a page and as they were then.

    Raises:
        TookTooLong: nothing was found within *seconds*.
    """
    whole = of_the_past(meaning)
    until = monotonic() + seconds
    wanted = most + 1
    latest = Hit(moment, LARGEST_KEY, 0)
    start = at = latest if older_than is None else min(older_than, latest)
    hits: list[Hit] = []
    found: list[Found] = []
    while len(hits) < wanted:
        left = max(0.01, until - monotonic())
        try:
            page = await search(engine, whole, most=max(FEWEST, most), older_than=at, seconds=left)
            async with limited(engine, seconds) as tx:
                said = await matched_then(tx, meaning, page.hits, moment)
        except TookTooLong as error:
            if at == start:
                raise
            since = min(at, error.searched_from or at)
            if not hits:
                raise TookTooLong(advice(seconds, since), since) from error
            return Page(hits=hits, is_last=False, searched_from=since), found
        by_key = {(one.flow_key, one.id): one for one in said}
        for hit in page.hits:
            if one := by_key.get((hit.flow_key, hit.message_id)):
                hits.append(hit)
                found.append(one)
        if page.is_last or page.searched_from is not None:
            is_last = page.is_last and len(hits) < wanted
            came_to = page.searched_from if len(hits) < wanted else None
            return Page(hits=hits[:most], is_last=is_last, searched_from=came_to), found[:most]
        at = page.hits[-1]
    return Page(hits=hits[:most], is_last=False), found[:most]


def of_the_past(meaning: Meaning) -> Meaning:
    """*meaning*, applied to all texts that messages ever had."""
    return replace(meaning, query=changed(meaning.query, history=True))


async def matched_then(
    tx: Transaction, meaning: Meaning, hits: Sequence[Hit], moment: datetime
) -> list[Found]:
    """The messages of *hits* that matched *meaning* at *moment*, as they were then."""
    now = await read(tx, hits)
    then = await _then(tx, now, moment)
    said = [replace(one, **row) for one in now if (row := then.get((one.flow_key, one.id)))]
    if not finds_deleted(meaning.query):
        # Files and inbox items keep their text when they are deleted, and so do messages that are
        # gone from the service.
        said = [one for one in said if one.deleted_at is None]
    # The names of a message's files are part of its searched text, but not of earlier texts.
    asked = [
        (one.flow_key, one.id, space(fold(told)))
        for one in said
        for told in {one.said, with_names(one.said, one.file_names)}
    ]
    if not asked:
        return []
    keys = {(row.flow_key, row.id) for row in await tx.execute(_fitting(meaning, asked))}
    return [one for one in said if (one.flow_key, one.id) in keys]


def _fitting(meaning: Meaning, asked: Sequence[tuple[int, int, str]]) -> Select[tuple[int, int]]:
    """The query for the keys of those *asked*, each a key with a text, that match *meaning*."""
    # As arrays: Postgres refuses a condition with a term for each of ten thousand texts.
    types: Mapping[str, TypeEngine[Any]] = {
        "flow_key": Integer(),
        "id": BigInteger(),
        "spaced": Text(),
    }
    arrays = [
        bindparam(None, list(values), type_=ARRAY(type_))
        for values, type_ in zip(zip(*asked, strict=True), types.values(), strict=True)
    ]
    columns = [column(name, type_) for name, type_ in types.items()]
    its = func.unnest(*arrays).table_valued(*columns, name="asked").render_derived()
    t = texts.c
    # OFFSET keeps Postgres from looking for all texts with the words, instead of these by key.
    found = (
        select(t.ordinal)
        .where(t.flow_key == its.c.flow_key, t.message_id == its.c.id)
        .where(t.spaced == its.c.spaced, condition(of_the_past(meaning)))
        .correlate(its)
        .offset(0)
        .lateral()
    )
    return select(its.c.flow_key, its.c.id).select_from(its.join(found, true()))


async def _then(
    tx: Transaction, messages: Sequence[Found], moment: datetime
) -> dict[Key, Mapping[str, Any]]:
    """The state of each of *messages* at *moment*; those without a text then are left out."""
    found: dict[Key, Mapping[str, Any]] = {}
    for flow_key, flow in {(one.flow_key, one.flow) for one in messages}:
        ids = [one.id for one in messages if one.flow_key == flow_key]
        rows = await tx.execute(_THEN, {"moment": moment, "flow": flow, "ids": ids})
        for row in map(dict, rows.mappings()):
            found[flow_key, row.pop("id")] = {**row, "said": row["content"]}
    return found


async def around_then(
    tx: Transaction, keys: Iterable[Key], *, count: int, moment: datetime
) -> dict[Key, list[Neighbour]]:
    """Of the *count* messages on either side of each of *keys*, those that existed at *moment*.

    They are returned as they were then.
    """
    near = await around(tx, keys, count=count)
    then: dict[Key, Mapping[Any, Any]] = {}
    for flow_key in {key[0] for key in near}:
        ids = {one.id for key, some in near.items() if key[0] == flow_key for one in some}
        asked = {"moment": moment, "flow_key": flow_key, "ids": list(ids)}
        rows = await tx.execute(_NEAR_THEN, {**asked, "letters": NEIGHBOUR_LETTERS})
        then |= {(flow_key, row["id"]): row for row in rows.mappings()}
    return {
        key: [replace(one, **told) for one in some if (told := then.get((key[0], one.id)))]
        for key, some in near.items()
    }


_THEN = text("""
    SELECT id, event, content, tags, thread_id, edited_at, deleted_at
    FROM archive.messages_as_of(CAST(:moment AS timestamptz))
    WHERE flow = :flow AND id = ANY(CAST(:ids AS bigint[])) AND content <> ''
""")

_NEAR_THEN = text("""
    SELECT id, left(content, :letters) AS content, deleted_at IS NOT NULL AS is_deleted
    FROM archive.messages_as_of(CAST(:moment AS timestamptz))
    WHERE flow = (SELECT path FROM store.flows WHERE flow_key = :flow_key)
      AND id = ANY(CAST(:ids AS bigint[]))
""")
