"""A query as conditions on `texts`.

One function defines what a query matches: `condition`. As much of the query as possible becomes one
tsquery, which the index answers alone. The rest is checked row by row; where the index of lexemes
can exclude rows beforehand, a tsquery for that is added.
"""

from collections.abc import Sequence
from typing import assert_never

from sqlalchemy import (
    ColumnElement,
    String,
    and_,
    any_,
    bindparam,
    cast,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY
from sqlalchemy.types import Integer

from archiver.domain import query_marks as marks
from archiver.domain.query import All, Either, Filter, Node, Not, Query, Text
from archiver.domain.query_pattern import Passage, Wild, Word
from archiver.store.schema import flows, texts
from archiver.store.search_meaning import ALL_PRIVATE, Meaning, any_of, escaped, quoted, starred
from archiver.store.search_texts import EPOCH

HAVING = {
    "file": marks.HAS_FILE,
    "link": marks.HAS_LINK,
    "edit": marks.HAS_EDIT,
    "reaction": marks.HAS_REACTION,
    "thread": marks.HAS_THREAD,
}
MOST_FLOWS = 50
"""If a filter chooses more flows than this, rows are checked for it instead of using the index."""


def condition(meaning: Meaning) -> ColumnElement[bool]:
    """The condition that a row of `texts` matches the query."""
    query = meaning.query
    conditions = [_node(query.root, meaning)] if query.root is not None else []
    if not query.history:
        if _asks_for_deleted(query.root):
            # A deleted message has no present text, so its earlier texts are searched.
            conditions.append(or_(texts.c.ordinal == 0, _has(quoted(marks.IS_DELETED))))
        else:
            conditions += [texts.c.ordinal == 0, not_(_has(quoted(marks.IS_DELETED)))]
    return and_(true(), *conditions)


def finds_deleted(query: Query) -> bool:
    """Tell whether *query* also finds deleted messages."""
    return query.history or _asks_for_deleted(query.root)


def _asks_for_deleted(node: Node | None) -> bool:
    match node:
        case Filter("is", "deleted"):
            return True
        case All(terms) | Either(terms):
            return any(map(_asks_for_deleted, terms))
        case _:
            return False


def _node(node: Node, meaning: Meaning) -> ColumnElement[bool]:
    if whole := _tsquery(node, meaning):
        return _has(whole)
    match node:
        case Text():
            return _text(node, meaning)
        case Filter():
            return _filter(node, meaning)
        case Not(term):
            return not_(_node(term, meaning))
        case All(terms):
            by_index = [one for term in terms if (one := _tsquery(term, meaning))]
            rest = [_node(term, meaning) for term in terms if not _tsquery(term, meaning)]
            return and_(*([_has(_all_of(by_index))] if by_index else ()), *rest)
        case Either(terms):
            either = or_(*(_node(term, meaning) for term in terms))
            narrowed = _narrow(node, meaning)
            return and_(_has(narrowed), either) if narrowed else either
    assert_never(node)


def _tsquery(node: Node, meaning: Meaning) -> str | None:
    """A tsquery that is exactly equivalent to *node*; None if there is none."""
    match node:
        case Text():
            found = meaning.patterns[node]
            return _forms(found.word, meaning) if isinstance(found, Word) else None
        case Filter():
            return _marked(node, meaning)
        case All(terms) | Either(terms):
            every = [_tsquery(term, meaning) for term in terms]
            some = [one for one in every if one]
            if len(some) < len(every):
                return None
            return _all_of(some) if isinstance(node, All) else _one_of(some)
        case Not():
            return None  # an index cannot find rows by what they do not contain
    assert_never(node)


def _narrow(node: Node, meaning: Meaning) -> str | None:
    """A tsquery that matches at least all rows that *node* matches; None if none is known."""
    match node:
        case Text():
            return _narrow_text(node, meaning)
        case Not():
            return None
        case Filter():
            return _marked(node, meaning)
        case All(terms):
            return _all_of([one for term in terms if (one := _narrow(term, meaning))]) or None
        case Either(terms):
            every = [_narrow(term, meaning) for term in terms]
            return _one_of([one for one in every if one]) if all(every) else None
    assert_never(node)


def _text(node: Text, meaning: Meaning) -> ColumnElement[bool]:
    """The condition for a text that no tsquery expresses: rows that may contain it are read."""
    found = meaning.patterns[node]
    conditions: list[ColumnElement[bool]] = []
    match found:
        case Word(word):
            return _has(_forms(word, meaning))
        case Passage(spaced, is_part=is_part):
            conditions.append(_like(f"%{escaped(spaced)}%") if is_part else _holds(spaced))
        case Wild(passages, regex):
            like = "%".join(escaped(one.spaced) for one in passages)
            conditions += [_like(f"%{like}%"), texts.c.spaced.regexp_match(regex)]
    if narrowed := _narrow_text(node, meaning):
        conditions.insert(0, _has(narrowed))
    tag = _tag(node)
    return or_(and_(*conditions), _has(tag)) if tag else and_(*conditions)


def _narrow_text(node: Text, meaning: Meaning) -> str | None:
    found = meaning.patterns[node]
    if isinstance(found, Word):
        return _forms(found.word, meaning)
    passages = found.passages if isinstance(found, Wild) else (found,)
    lexemes = [one for passage in passages for one in _lexemes(passage, meaning)]
    narrowed = _all_of(lexemes)
    tag = _tag(node)
    return _one_of([narrowed, tag]) if narrowed and tag else narrowed or None


def _lexemes(passage: Passage, meaning: Meaning) -> list[str]:
    found = [quoted(lexeme) for lexeme in passage.lexemes]
    if not (meaning.finds_parts and passage.is_part):
        found += [f"{quoted(prefix)}:*" for prefix in passage.prefixes]
    return found


def _tag(node: Text) -> str | None:
    """The tsquery for the tag that *node* spells, if any: a tag need not be part of the text."""
    name = node.text[1:]
    is_tag = node.text.startswith("#") and name and not node.is_exact and "*" not in name
    return quoted(marks.of_tag(name)) if is_tag else None


def _forms(word: str, meaning: Meaning) -> str:
    return any_of({word, *meaning.stems.get(word, ())})


def _filter(node: Filter, meaning: Meaning) -> ColumnElement[bool]:
    """The condition for a filter that marks do not answer."""
    match node:
        case Filter("in" | "is", value):
            # Adding 0 keeps Postgres from using an index that has only the flows.
            keys = sorted(meaning.flows[ALL_PRIVATE if node.name == "is" else value])
            return (texts.c.flow_key + 0) == any_(bindparam(None, keys, type_=ARRAY(Integer)))
        case Filter("id", value):
            known = select(flows.c.flow_key)
            return and_(texts.c.message_id == int(value), texts.c.flow_key.in_(known))
        case Filter("before", value):
            return and_(texts.c.said_at < meaning.spans[value][0], _IS_DATED)
        case Filter("after", value):
            return and_(texts.c.said_at >= meaning.spans[value][0], _IS_DATED)
        case Filter("on", value):
            begin, end = meaning.spans[value]
            return and_(texts.c.said_at >= begin, texts.c.said_at < end, _IS_DATED)
        case _:
            return false()


def _marked(node: Filter, meaning: Meaning) -> str | None:
    """The tsquery for the marks that *node* requires; None if marks do not answer it."""
    value = node.value
    query: str | None
    match node:
        case Filter("from"):
            query = meaning.senders[value]
        case Filter("mentions"):
            query = meaning.mentions[value]
        case Filter("tag"):
            query = starred(marks.of_tag, value)
        case Filter("event"):
            query = starred(marks.of_event, value)
        case Filter("thread"):
            query = quoted(marks.of_thread(value))
        case Filter("has"):
            query = quoted(HAVING[value])
        case Filter("in"):
            query = _of_flows(meaning.flows[value])
        case Filter("is", "private"):
            query = _of_flows(meaning.flows[ALL_PRIVATE])
        case Filter("is"):
            query = quoted(marks.IS_DELETED if value == "deleted" else marks.HAS_EDIT)
        case _:
            query = None
    return query or None


def _of_flows(flow_keys: frozenset[int]) -> str | None:
    return any_of(map(marks.of_flow, flow_keys)) if len(flow_keys) <= MOST_FLOWS else None


def _has(query: str) -> ColumnElement[bool]:
    return texts.c.lexemes.bool_op("@@")(cast(literal(query, String), TSQUERY))


def _holds(spaced: str) -> ColumnElement[bool]:
    return func.strpos(texts.c.spaced, spaced) > 0


def _like(like: str) -> ColumnElement[bool]:
    return texts.c.spaced.like(like)


def _all_of(queries: Sequence[str]) -> str:
    return queries[0] if len(queries) == 1 else " & ".join(f"({one})" for one in queries)


def _one_of(queries: Sequence[str]) -> str:
    return queries[0] if len(queries) == 1 else " | ".join(f"({one})" for one in queries)


_IS_DATED = texts.c.said_at != EPOCH
