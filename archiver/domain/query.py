"""The query language of the search box, as values; `archiver.domain.query_parsing` parses it.

A query is a tree of texts and filters. This module only represents it; what it means is up to the
code that searches the archive. `show` writes a query so that parsing it gives the same query again.
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, assert_never, get_args
from unicodedata import category, east_asian_width

from archiver.errors import ArchiverError

FieldName: TypeAlias = Literal[
    "from", "in", "tag", "mentions", "thread", "event", "has", "is", "before", "after", "on", "id"
]
FIELDS: tuple[FieldName, ...] = get_args(FieldName)
HISTORY = "history"
"""Is written like a filter, but applies to the whole query."""

HAVING = ("file", "link", "edit", "reaction", "thread")
BEING = ("deleted", "edited", "private")

QUOTES = '"“”„'
SINGLE_QUOTES = "'\u2018\u2019\u201a"
"""They quote the whole value of a filter only; anywhere else they are apostrophes."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text that a message must contain."""

    text: str
    is_exact: bool = False
    """It was quoted: other forms of its words do not match, and ``*`` is an ordinary character."""
    at: int = field(default=0, compare=False)
    """Its offset in the query as it was written."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on something other than the text of a message."""

    name: FieldName
    value: str
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    """A term that must not match."""

    term: "Node"


@dataclass(frozen=True, slots=True)
class All:
    """Two or more terms that must all match; none of them is an `All`."""

    terms: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Either:
    """Two or more terms of which at least one must match; none of them is an `Either`."""

    terms: tuple["Node", ...]


Node: TypeAlias = Text | Filter | Not | All | Either


@dataclass(frozen=True, slots=True)
class Query:
    """A valid query."""

    root: Node | None
    """None matches every message."""
    history: bool = False
    """Whether to search what messages said before they were edited as well."""
    source: str = field(default="", compare=False)
    """The query as it was written; each `at` is an offset in it."""


class BadQuery(ArchiverError):
    """A query that is not valid; the text of the error marks the place with a caret."""

    def __init__(self, reason: str, source: str, at: int) -> None:
        self.reason = reason
        self.source = source
        self.at = max(0, min(at, len(source)))
        super().__init__(f"{reason}\n{pointed(source, self.at)}")


def pointed(source: str, at: int) -> str:
    """The part of *source* around *at*, with a caret below that place."""
    first = max(0, at - 50)
    shown = "".join(map(_visible, source[first : at + 25]))
    before = "".join(map(_visible, source[first:at]))
    cells = sum(_cells(letter) for letter in before)
    return f"  {'…' if first else ''}{shown}\n  {' ' if first else ''}{' ' * cells}^"


def _visible(letter: str) -> str:
    return " " if letter.isspace() else "\ufffd" if category(letter).startswith("C") else letter


def _cells(letter: str) -> int:
    if category(letter) in {"Mn", "Me"}:
        return 0
    return 2 if east_asian_width(letter) in {"W", "F"} else 1


def show(query: Query) -> str:
    """*query* as a person would write it; parsing it gives the same query."""
    root = "" if query.root is None else _show(query.root)
    return f"{root} {HISTORY}:yes".strip() if query.history else root


def _show(node: Node) -> str:
    match node:
        case Text(text, is_exact):
            return quoted(text) if is_exact else text
        case Filter(name, value):
            return f"{name}:{quoted(value) if _needs_quotes(value) else value}"
        case Not(term):
            shown = _show(term)
            is_group = isinstance(term, All | Either) or shown.startswith("-")
            return f"-({shown})" if is_group else f"-{shown}"
        case All(terms):
            return " ".join(f"({_show(t)})" if isinstance(t, Either) else _show(t) for t in terms)
        case Either(terms):
            return " OR ".join(map(_show, terms))
    assert_never(node)


def quoted(text: str) -> str:
    """*text* between quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    for quote in QUOTES[1:]:
        escaped = escaped.replace(quote, "\\" + quote)
    return f'"{escaped}"'


def _needs_quotes(value: str) -> bool:
    is_odd = any(letter.isspace() or letter in "()" + QUOTES for letter in value)
    return is_odd or value[:1] in SINGLE_QUOTES


def texts(node: Node | None) -> tuple[Text, ...]:
    """The texts in *node*, without negated ones."""
    match node:
        case None | Filter() | Not():
            return ()
        case Text():
            return (node,)
        case All(terms) | Either(terms):
            return tuple(text for term in terms for text in texts(term))
    assert_never(node)
