"""A search, from the query to all that is shown of the result."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from archiver.cli.searching.marking import fitness, marks, merged, words_of
from archiver.domain.query import Query
from archiver.domain.query_pattern import Passage, Wild
from archiver.domain.query_time import Localize
from archiver.ingest.indexing import adopt_lexicon, catch_up
from archiver.store import search_queue, search_showing
from archiver.store.bulk import Key
from archiver.store.connection import Engine
from archiver.store.engine import transaction
from archiver.store.search import Hit, Page, limited, search
from archiver.store.search_meaning import Meaning, stems_of, understand
from archiver.store.search_past import around_then, search_as_of
from archiver.store.search_queue import Backlog
from archiver.store.search_showing import Found, Neighbour

RANKED = 500
"""How many of the newest matches are ranked, to choose the best."""


class Asked(Struct, frozen=True, kw_only=True):
    """What is to be searched, and how."""

    query: Query
    now: datetime
    """In the reader's time zone."""
    localize: Localize
    most: int
    older_than: Hit | None = None
    as_of: datetime | None = None
    by_fitness: bool = False
    neighbours: int = 0
    seconds: float = 10.0


class Shown(Struct, frozen=True, kw_only=True):
    """A message that was found, and where in it the matches are."""

    hit: Hit
    message: Found
    marks: Sequence[tuple[int, int]]
    around: Sequence[Neighbour]


class Outcome(Struct, frozen=True, kw_only=True):
    """The result of a search."""

    shown: Sequence[Shown]
    page: Page
    backlog: Backlog
    is_made: bool
    """Whether anything was ever made searchable."""
    lacks_parts: bool
    """Whether the query asks for parts of words, and the database has no index of them."""
    next_hit: Hit | None
    """The next page has what is older than this; None when there is no next page."""


class Refreshed(Struct, frozen=True):
    """The result of making messages searchable."""

    messages: int
    is_elsewhere: bool
    """Whether the rest is left to another process, which is already at it."""


async def refresh(engine: Engine, *, language: str) -> Refreshed:
    """Make all messages searchable, unless another process is already at it.

    The *language* only counts if none is searchable yet; otherwise the archive keeps its own.
    """
    made = 0

    def count(messages: int) -> None:
        nonlocal made
        made += messages

    async with transaction(engine) as tx:
        if await search_queue.lexicon_of(tx) is None:
            await adopt_lexicon(tx, language=language)
    is_elsewhere = await catch_up(engine, on_indexed=count)
    return Refreshed(made, is_elsewhere)


async def find(engine: Engine, asked: Asked) -> Outcome:
    """Search, and read what is found.

    Raises:
        BadQuery: the query names what the archive does not know.
        TookTooLong: nothing was found in time, or the database did not answer.
    """
    async with limited(engine, asked.seconds) as tx:
        meaning = await understand(tx, asked.query, now=asked.now, localize=asked.localize)
        backlog = await search_queue.backlog(tx)
        is_made = await search_queue.lexicon_of(tx) is not None
    page, found = await _search(engine, meaning, asked)
    hits = {(hit.flow_key, hit.message_id): hit for hit in page.hits}
    async with limited(engine, asked.seconds) as tx:
        stems = await stems_of(tx, words_of(one.said for one in found))
        marked = [(one, marks(one.said, meaning, stems)) for one in found]
        if asked.by_fitness:
            marked.sort(key=lambda pair: fitness(pair[0].said, pair[1]), reverse=True)
            marked = marked[: asked.most]
        keys = [(one.flow_key, one.id) for one, _ in marked]
        around: Mapping[Key, Sequence[Neighbour]] = {}
        if asked.neighbours and keys and asked.as_of is not None:
            around = await around_then(tx, keys, count=asked.neighbours, moment=asked.as_of)
        elif asked.neighbours and keys:
            around = await search_showing.around(tx, keys, count=asked.neighbours)
    shown = [
        Shown(hit=hits[key], message=one, marks=merged(spans), around=around.get(key, ()))
        for (one, spans), key in zip(marked, keys, strict=True)
    ]
    return Outcome(
        shown=shown,
        page=page,
        backlog=backlog,
        is_made=is_made,
        lacks_parts=not meaning.finds_parts and _asks_for_parts(meaning),
        next_hit=None if asked.by_fitness else _next(page),
    )


async def _search(engine: Engine, meaning: Meaning, asked: Asked) -> tuple[Page, list[Found]]:
    most = max(RANKED, asked.most) if asked.by_fitness else asked.most
    if asked.as_of is not None:
        return await search_as_of(
            engine,
            meaning,
            moment=asked.as_of,
            most=most,
            older_than=asked.older_than,
            seconds=asked.seconds,
        )
    page = await search(
        engine, meaning, most=most, older_than=asked.older_than, seconds=asked.seconds
    )
    async with limited(engine, asked.seconds) as tx:
        return page, await search_showing.read(tx, page.hits)


def _next(page: Page) -> Hit | None:
    if page.searched_from is not None:
        # All that is newer was searched, so no time need be spent on it again.
        return page.searched_from
    return None if page.is_last else page.hits[-1]


def _asks_for_parts(meaning: Meaning) -> bool:
    return any(
        isinstance(pattern, Wild) or (isinstance(pattern, Passage) and pattern.is_part)
        for pattern in meaning.patterns.values()
    )
