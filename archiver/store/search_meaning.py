"""Resolving a query in this archive: what its names and times refer to, and the stems of words."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from fnmatch import translate
from typing import TypeAlias

from msgspec import Struct
from sqlalchemy import text

from archiver.domain import query_marks as marks
from archiver.domain.model import PRIVATE
from archiver.domain.query import All, BadQuery, Either, Filter, Node, Not, Query, Text
from archiver.domain.query_pattern import Pattern, Word, pattern
from archiver.domain.query_text import fold
from archiver.domain.query_time import Localize, read_moment, span
from archiver.store import bulk, fetching
from archiver.store.connection import Transaction

ALL_PRIVATE = f"{PRIVATE}*"
"""The pattern of all private conversations, for ``is:private``."""

GROUPS = {
    **dict.fromkeys(("everyone", "everybody", "all", "anyone", "anybody"), ":user:everyone"),
    "team": ":user:team",
}
"""By the name of a group, the tag that the service gives to a message that mentions it."""

MOST_NESTED = 1_000

Span: TypeAlias = tuple[datetime, datetime]


class Meaning(Struct, frozen=True, kw_only=True):
    """A query, and what it refers to in this archive."""

    query: Query
    patterns: Mapping[Text, Pattern]
    stems: Mapping[str, tuple[str, ...]]
    """By word, the lexemes that it shares with its other forms; none for a stop word."""
    flows: Mapping[str, frozenset[int]]
    """By pattern, the keys of the flows that match it."""
    senders: Mapping[str, str]
    """By name, the tsquery for the messages that these people sent."""
    mentions: Mapping[str, str]
    """By name, the tsquery for the messages that mention these people; empty if none can."""
    spans: Mapping[str, Span]
    finds_parts: bool
    """Whether there is an index for parts of words."""


async def understand(
    tx: Transaction, query: Query, *, now: datetime, localize: Localize
) -> Meaning:
    """Resolve *query*; *now* is the reader's local time.

    Raises:
        BadQuery: the query names a flow or a person that is unknown, or a text in it is empty.
    """
    terms = list(leaves(query.root))
    filters = [one for one in terms if isinstance(one, Filter)]
    patterns = {one: _pattern(query, one) for one in terms if isinstance(one, Text)}
    words = {one.word for one in patterns.values() if isinstance(one, Word)}
    asked = {"words": bulk.texts(sorted(words))}
    ((finds_parts, ordered, stems),) = await fetching.fetch(tx, _INDEX, asked)
    return Meaning(
        query=query,
        patterns=patterns,
        stems=dict(zip(ordered or (), map(tuple, stems or ()), strict=True)),
        flows=await _flows(tx, query, filters),
        senders=await _people(tx, query, [one for one in filters if one.name == "from"]),
        mentions=await _people(tx, query, [one for one in filters if one.name == "mentions"]),
        spans={
            one.value: _span(one.value, now=now, localize=localize)
            for one in filters
            if one.name in {"before", "after", "on"}
        },
        finds_parts=finds_parts,
    )


async def stems_of(tx: Transaction, words: Iterable[str]) -> Mapping[str, frozenset[str]]:
    """The lexemes of each of *words*, in the language in which the texts are stemmed."""
    rows = await tx.execute(_STEMS, {"words": sorted(set(words))})
    return {row.word: frozenset(row.stems) for row in rows}


def leaves(node: Node | None) -> Iterable[Text | Filter]:
    """All texts and filters in *node*."""
    match node:
        case None:
            pass
        case Text() | Filter():
            yield node
        case Not(term):
            yield from leaves(term)
        case All(terms) | Either(terms):
            for term in terms:
                yield from leaves(term)


def _pattern(query: Query, text_: Text) -> Pattern:
    found = pattern(text_)
    if found is None:
        raise BadQuery("this has no visible letters to search for", query.source, text_.at)
    return found


def _span(value: str, *, now: datetime, localize: Localize) -> Span:
    moment = read_moment(value)
    if moment is None:
        raise ValueError(f"a query was read with a time that is none: {value!r}")
    return span(moment, now=now, localize=localize)


async def _flows(
    tx: Transaction, query: Query, filters: Sequence[Filter]
) -> dict[str, frozenset[int]]:
    wanted = {one.value: one for one in filters if one.name == "in"}
    is_private = any((one.name, one.value) == ("is", "private") for one in filters)
    if not wanted and not is_private:
        return {}
    rows = (await tx.execute(_FLOWS)).all()
    paths = {row.flow_key: row.path for row in rows}
    found = {ALL_PRIVATE: frozenset(_chosen(paths, ALL_PRIVATE))}
    for name, one in wanted.items():
        found[name] = frozenset(_chosen(paths, name))
        if not found[name]:
            close = get_close_matches(name, paths.values(), n=1, cutoff=0.5)
            meant = f"did you mean {close[0]}?" if close else "archiver status lists all flows"
            raise BadQuery(f"there is no flow {name}: {meant}", query.source, one.at)
    return found


def _chosen(paths: Mapping[int, str], name: str) -> Iterable[int]:
    """The flows whose path matches *name*; without a slash, the name of the flow is enough."""
    fits = _fits(name)
    is_path = "/" in name
    return (
        key
        for key, path in paths.items()
        if fits(path) or (not is_path and fits(path.rpartition("/")[2]))
    )


def _fits(name: str) -> Callable[[str], object]:
    """A function that tells whether a text matches *name*, in which only ``*`` is a wildcard."""
    # `translate` makes a regular expression that does not backtrack for ever if there are many.
    plain = re.sub(r"[?[]", r"[\g<0>]", name)
    return re.compile(translate(plain), re.IGNORECASE).match


async def _people(tx: Transaction, query: Query, filters: Sequence[Filter]) -> dict[str, str]:
    """By the name in each filter, the tsquery for the messages it asks for: sent or mentioning."""
    users = (await tx.execute(_USERS)).all() if filters else ()
    called = {user_id: {fold(name) for name in names if name} for user_id, *names in users}
    found = {}
    for one in filters:
        fits = _fits(fold(one.value))
        ids = [id_ for id_, names in called.items() if id_ == one.value or any(map(fits, names))]
        own = _sent_by if one.name == "from" else _mentioning
        # A person whom the service never listed is known only by an id.
        known = own(one.value, ids or [one.value])
        if not ids and not await _is_held(tx, known):
            close = get_close_matches(one.value, [user.nick for user in users if user.nick], n=1)
            meant = f": did you mean {close[0]}?" if close else ""
            raise BadQuery(f"there is no person named {one.value}{meant}", query.source, one.at)
        found[one.value] = known
    return found


def _sent_by(name: str, ids: Sequence[str]) -> str:
    return f"{any_of(map(marks.of_user, ids))} | {starred(marks.of_stranger, name)}"


def _mentioning(name: str, ids: Sequence[str]) -> str:
    tags = [f":user:{id_}" for id_ in ids]
    if group := GROUPS.get(name.casefold()):
        tags.append(group)
    return any_of(map(marks.of_tag, tags))


async def _is_held(tx: Transaction, known: str) -> bool:
    """Tell whether any message matches the tsquery *known*."""
    return bool(known) and (await tx.execute(_HELD, {"query": known})).first() is not None


def any_of(lexemes: Iterable[str]) -> str:
    """A tsquery for any of *lexemes*."""
    return _any_of([quoted(one) for one in sorted(lexemes)])


def _any_of(terms: Sequence[str]) -> str:
    # In one row, each term would be nested in the next one, deeper than Postgres allows.
    if len(terms) <= MOST_NESTED:
        return " | ".join(terms)
    half = len(terms) // 2
    return f"({_any_of(terms[:half])}) | ({_any_of(terms[half:])})"


def starred(mark: Callable[[str], str], value: str) -> str:
    """A tsquery for the mark of *value* or, if that ends with a star, for all with its prefix."""
    return quoted(mark(value[:-1])) + ":*" if value.endswith("*") else quoted(mark(value))


def escaped(text_: str) -> str:
    """*text_* escaped for a pattern of LIKE, where it matches only itself."""
    return text_.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")


def quoted(lexeme: str) -> str:
    """*lexeme* quoted for a tsquery."""
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"


_STEMS_OF_WORD = """
    tsvector_to_array(to_tsvector(CAST(coalesce(
        (SELECT language FROM store.lexicon LIMIT 1), 'simple') AS regconfig), word))
"""
_INDEX = fetching.Query.of(f"""
    SELECT to_regclass('store.texts_parts') IS NOT NULL AS finds_parts,
           (SELECT array_agg(word ORDER BY word) FROM unnest(CAST(%(words)s AS text[])) AS word)
               AS words,
           (SELECT jsonb_agg({_STEMS_OF_WORD} ORDER BY word)
            FROM unnest(CAST(%(words)s AS text[])) AS word) AS stems
""")  # noqa: S608

_STEMS = text(f"""
    SELECT word, {_STEMS_OF_WORD} AS stems FROM unnest(CAST(:words AS text[])) AS word
""")  # noqa: S608

_FLOWS = text("SELECT flow_key, path FROM store.flows ORDER BY path")

_USERS = text("SELECT user_id, nick, name, email FROM store.users ORDER BY nick")

# With LIMIT alone, Postgres would scan the table for the first match, and mostly there is none.
_HELD = text("""
    WITH held AS MATERIALIZED (
        SELECT FROM store.texts WHERE lexemes @@ CAST(:query AS tsquery)
    ) SELECT FROM held LIMIT 1
""")
