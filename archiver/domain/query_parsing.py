r"""The parser of queries, and their grammar.

::

    query    choice
    choice   group (OR group)*
    group    term ([AND] term)*
    term     -term | (choice) | "phrase" | field:value | word

A word ends at white space, or at a parenthesis that closes a group. Parentheses inside a word
belong to it, as in ``foo_bar()``; so does a colon after anything but the name of a field, as in
``std::vector``. A minus negates what directly follows it, unless that is another minus: ``--force``
is a word. In quotes, ``\"`` is a quote and ``\\`` a backslash. A value may also be enclosed in
single quotes, as in ``in:'acme/*'``; anywhere else they are apostrophes.
"""

from collections.abc import Mapping, Sequence
from typing import NoReturn
from unicodedata import category

from archiver.domain.model import LARGEST_ID
from archiver.domain.query import (
    BEING,
    FIELDS,
    HAVING,
    HISTORY,
    QUOTES,
    SINGLE_QUOTES,
    All,
    BadQuery,
    Either,
    FieldName,
    Filter,
    Node,
    Not,
    Query,
    Text,
)
from archiver.domain.query_time import is_day, read_moment

LONGEST = 4_000
DEEPEST = 30
MOST_TERMS = 200

LONGEST_NAME = max(map(len, (*FIELDS, HISTORY)))
QUOTED = frozenset(QUOTES)
ESCAPED = QUOTED | {"\\"}
SINGLY = frozenset(SINGLE_QUOTES)

NEEDS: Mapping[str, str] = {
    "from": "a nick, as in from:alice",
    "in": "a flow, as in in:acme/main or in:acme/*",
    "tag": "a tag, as in tag:todo",
    "mentions": "a nick, as in mentions:alice",
    "thread": "the id of a thread",
    "event": "a kind of message, as in event:file",
    "has": "one of " + ", ".join(HAVING),
    "is": "one of " + ", ".join(BEING),
    "before": "a time, as in before:2024-05-31 or before:2w",
    "after": "a time, as in after:2024-05-31 or after:2w",
    "on": "a day, a month or a year, as in on:2024-05-31 or on:2024-05",
    "id": "the number of a message",
    HISTORY: "yes or no",
}


def parse(source: str) -> Query:
    """Parse *source*.

    Raises:
        BadQuery: it is not a valid query; the error shows where.
    """
    if len(source) > LONGEST:
        raise BadQuery(f"a query is at most {LONGEST:,} letters long", source, LONGEST)
    for at, letter in enumerate(source):
        if category(letter) == "Cs":
            raise BadQuery("the query is not UTF-8 here", source, at)
        if letter == "\0":
            raise BadQuery("a query cannot contain the character NUL", source, at)
    return _Parser(source).query()


class _Parser:
    """Reads one query from left to right (recursive descent)."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._depth = 0
        self._terms = 0
        self._history = False

    def query(self) -> Query:
        root = self._choice()
        return Query(root, self._history, self._source)

    def _choice(self) -> Node | None:
        """Read groups separated by OR, up to the end or to the parenthesis that closes them."""
        groups = [self._group()]
        while (at := self._keyword("OR")) is not None:
            groups.append(self._group())
            if groups[-2] is None or groups[-1] is None:
                self._refuse("OR needs something on both sides", at)
        return joined(Either, [group for group in groups if group is not None])

    def _group(self) -> Node | None:
        terms: list[Node] = []
        while not self._is_over() and not self._is_keyword("OR"):
            if (at := self._keyword("AND")) is not None:
                if not terms or self._is_over() or self._is_keyword("OR"):
                    self._refuse("AND needs something on both sides", at)
            elif not self._mode():
                terms.append(self._term())
        return joined(All, terms)

    def _term(self) -> Node:
        """Read a term; the caller has made sure that something is left to read."""
        source, at = self._source, self._at
        self._terms += 1
        if self._terms > MOST_TERMS:
            self._refuse(f"a query has at most {MOST_TERMS} terms", at)
        for keyword in ("OR", "AND"):
            if self._is_keyword(keyword):
                self._refuse(f"{keyword} needs something on both sides", at)
        if self._field((HISTORY,)):
            self._refuse(f"{HISTORY}: applies to the whole query: remove the minus", at)
        behind = source[at + 1 : at + 2]
        if source[at] == "-" and behind and not behind.isspace() and behind not in "-)":
            self._at += 1
            term = self._term()
            return term.term if isinstance(term, Not) else Not(term)
        if source[at] == "(":
            return self._parentheses()
        if source[at] in QUOTES:
            text = self._quoted()
            if not text.strip():
                self._refuse("there is nothing between the quotes", at)
            return Text(text, is_exact=True, at=at)
        return self._filter() or Text(self._word(), at=at)

    def _parentheses(self) -> Node:
        at = self._at
        if self._depth == DEEPEST:
            self._refuse(f"parentheses are nested at most {DEEPEST} deep", at)
        self._at += 1
        self._depth += 1
        inner = self._choice()
        if self._at >= len(self._source):
            self._refuse("this parenthesis is not closed", at)
        self._at += 1
        self._depth -= 1
        if inner is None:
            self._refuse(
                "there is nothing between the parentheses; put them in quotes to find them", at
            )
        return inner

    def _quoted(self) -> str:
        opened = self._at
        letters: list[str] = []
        at = opened + 1
        while self._source[at : at + 1] not in QUOTED:
            if at >= len(self._source):
                self._refuse("this quote is not closed", opened)
            if self._source[at] == "\\" and self._source[at + 1 : at + 2] in ESCAPED:
                at += 1
            letters.append(self._source[at])
            at += 1
        self._at = at + 1
        return "".join(letters)

    def _word(self) -> str:
        """Read up to white space, or to the parenthesis that closes the enclosing group."""
        first, opened = self._at, 0
        while self._at < len(self._source):
            letter = self._source[self._at]
            if letter.isspace() or (letter == ")" and self._depth and not opened):
                break
            opened += (letter == "(") - (letter == ")" and opened > 0)
            self._at += 1
        return self._source[first : self._at]

    def _filter(self) -> Filter | None:
        at = self._at
        name = self._field(FIELDS)
        if name is None:
            return None
        value_at, value = self._at, self._value()
        field: FieldName = next(one for one in FIELDS if one == name)
        read = _read_value(field, value)
        if read is None:
            said = f", not {' '.join(value.split())[:40]}" if value else ""
            self._refuse(f"{field}: needs {NEEDS[field]}{said}", value_at)
        return Filter(field, read, at)

    def _mode(self) -> bool:
        """Read a setting of the whole query, if one is next; tell whether there was one."""
        at = self._at
        if self._field((HISTORY,)) is None:
            return False
        value = self._value().lower()
        if self._depth:
            self._refuse(
                f"{HISTORY}: applies to the whole query: move it out of the parentheses", at
            )
        if value not in {"yes", "no"}:
            self._refuse(f"{HISTORY}: needs {NEEDS[HISTORY]}", at)
        self._history = value == "yes"
        return True

    def _field(self, names: Sequence[str]) -> str | None:
        """Consume one of *names* and its colon, if they are next; return the name."""
        name, colon, _ = self._source[self._at : self._at + LONGEST_NAME + 1].partition(":")
        if not colon or name.lower() not in names:
            return None
        self._at += len(name) + 1
        return name.lower()

    def _value(self) -> str:
        first = self._source[self._at : self._at + 1]
        if first in SINGLY and (end := self._end_of_single_quotes()) is not None:
            value, self._at = self._source[self._at + 1 : end], end + 1
        else:
            value = self._quoted() if first in QUOTED else self._word()
        return value.strip()

    def _end_of_single_quotes(self) -> int | None:
        """Where the single-quoted value that begins here has its closing quote, if it has one."""
        for at in range(self._at + 1, len(self._source)):
            behind = self._source[at + 1 : at + 2]
            is_end = not behind or behind.isspace() or (behind == ")" and self._depth > 0)
            if is_end and self._source[at] in SINGLE_QUOTES:
                return at
        return None

    def _is_over(self) -> bool:
        """Skip white space; tell whether the group ends here."""
        while self._at < len(self._source) and self._source[self._at].isspace():
            self._at += 1
        return self._at == len(self._source) or (self._depth > 0 and self._source[self._at] == ")")

    def _is_keyword(self, keyword: str) -> bool:
        end = self._at + len(keyword)
        behind = self._source[end : end + 1]
        is_alone = not behind or behind.isspace() or behind in "()"
        return self._source[self._at : end] == keyword and is_alone

    def _keyword(self, keyword: str) -> int | None:
        """Consume *keyword*, if it is next; return where it was."""
        at = self._at
        if not self._is_keyword(keyword):
            return None
        self._at += len(keyword)
        return at

    def _refuse(self, reason: str, at: int) -> NoReturn:
        raise BadQuery(reason, self._source, at)


def joined(kind: type[All] | type[Either], terms: Sequence[Node]) -> Node | None:
    """*terms* as one node: nested nodes of its kind are flattened; a single term stays as it is."""
    flat: list[Node] = []
    for term in terms:
        flat.extend(term.terms if isinstance(term, kind) else [term])
    if len(flat) < 2:
        return flat[0] if flat else None
    return kind(tuple(flat))


def _read_value(field: FieldName, value: str) -> str | None:
    """*value* in its normal form; None when the field cannot have this value."""
    match field:
        case "from" | "mentions":
            value = value.removeprefix("@")
        case "tag":
            value = value.removeprefix("#")
        case "has":
            value = value.lower().removesuffix("s")
            return value if value in HAVING else None
        case "is":
            value = value.lower()
            return value if value in BEING else None
        case "before" | "after":
            value = value.lower()
            return value if read_moment(value) else None
        case "on":
            value = value.lower()
            moment = read_moment(value)
            return value if moment and is_day(moment) else None
        case "id":
            is_number = value.isascii() and value.isdigit() and len(value) < 20
            return str(int(value)) if is_number and int(value) <= LARGEST_ID else None
        case "in" | "thread" | "event":
            pass
    return value or None
