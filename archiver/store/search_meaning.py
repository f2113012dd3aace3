"""What the names and times in a query stand for in this archive, and how its words are stemmed."""

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
"""The pattern of all private conversations, as ``is:private`` asks for them."""

GROUPS = {
    **dict.fromkeys(("everyone", "everybody", "all", "anyone", "anybody"), ":user:everyone"),
    "team": ":user:team",
}
"""What is mentioned when no single person is (the service's own marks)."""

Span: TypeAlias = tuple[datetime, datetime]


class Meaning(Struct, frozen=True, kw_only=True):
    """What a query is about, as far as this archive decides it."""

    query: Query
    patterns: Mapping[Text, Pattern]
    stems: Mapping[str, tuple[str, ...]]
    """By word, the lexemes that other forms of it have as well; none of a word without meaning."""
    flows: Mapping[str, frozenset[int]]
    """By pattern, the keys of the flows that it chooses."""
    senders: Mapping[str, str]
    """By name, the tsquery of what they sent."""
    mentions: Mapping[str, str]
    """By name, the tsquery of what mentions them; empty when nothing can."""
    spans: Mapping[str, Span]
    finds_parts: bool
    """Whether there is an index of parts of words."""


async def understand(
    tx: Transaction, query: Query, *, now: datetime, localize: Localize
) -> Meaning:
    """What *query* stands for; *now* is on the reader's clock.

    Raises:
        BadQuery: a flow or a person of that name is not known, or a text is nothing.
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
    """The lexemes of each of *words*, as the texts are stemmed."""
    rows = await tx.execute(_STEMS, {"words": sorted(set(words))})
    return {row.word: frozenset(row.stems) for row in rows}


def leaves(node: Node | None) -> Iterable[Text | Filter]:
    """The texts and filters of which *node* is made."""
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
        raise BadQuery("there is nothing to be seen in this", query.source, text_.at)
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
            meant = f"did you mean {close[0]}?" if close else "archiver status lists them"
            raise BadQuery(f"no flow is named {name}: {meant}", query.source, one.at)
    return found


def _chosen(paths: Mapping[int, str], name: str) -> Iterable[int]:
    """The flows whose path, or whose name in whatever organization, fits *name*."""
    fits = _fits(name)
    is_path = "/" in name
    return (
        key
        for key, path in paths.items()
        if fits(path) or (not is_path and fits(path.rpartition("/")[2]))
    )


def _fits(name: str) -> Callable[[str], object]:
    """Whether a text is *name*, in which a star, and no other sign, stands for others."""
    # Not by a regular expression of ours: many stars would have it try for ever.
    plain = re.sub(r"[?[]", r"[\g<0>]", name)
    return re.compile(translate(plain), re.IGNORECASE).match


async def _people(tx: Transaction, query: Query, filters: Sequence[Filter]) -> dict[str, str]:
    """The tsquery of what each person of a filter sent, or is mentioned in."""
    users = (await tx.execute(_USERS)).all() if filters else ()
    called = {user_id: {fold(name) for name in names if name} for user_id, *names in users}
    found = {}
    for one in filters:
        fits = _fits(fold(one.value))
        ids = [id_ for id_, names in called.items() if id_ == one.value or any(map(fits, names))]
        own = _sent_by if one.name == "from" else _mentioning
        # Whom the service never listed goes by an id alone.
        known = own(one.value, ids or [one.value])
        if not ids and not await _is_held(tx, known):
            close = get_close_matches(one.value, [user.nick for user in users if user.nick], n=1)
            meant = f": did you mean {close[0]}?" if close else ""
            raise BadQuery(f"nobody is called {one.value}{meant}", query.source, one.at)
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
    """Tell whether any message answers to a tsquery."""
    return bool(known) and (await tx.execute(_HELD, {"query": known})).first() is not None


def any_of(lexemes: Iterable[str]) -> str:
    """A tsquery for any of *lexemes*."""
    return " | ".join(map(quoted, sorted(lexemes)))


def starred(mark: Callable[[str], str], value: str) -> str:
    """A tsquery for the mark, or for all marks that begin so when a star ends *value*."""
    return quoted(mark(value[:-1])) + ":*" if value.endswith("*") else quoted(mark(value))


def escaped(text_: str) -> str:
    """*text_* as a pattern of LIKE that means just that."""
    return text_.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")


def quoted(lexeme: str) -> str:
    """*lexeme* as a tsquery takes it, whatever it is."""
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

# With the limit alone, Postgres would read text after text until one answers, and mostly none does.
_HELD = text("""
    WITH held AS MATERIALIZED (
        SELECT FROM store.texts WHERE lexemes @@ CAST(:query AS tsquery)
    ) SELECT FROM held LIMIT 1
""")
