"""The language of the search box, as values; `archiver.domain.query_parsing` reads it.

A query is a tree of texts and filters. What it means is decided by whoever asks the archive: here
is only what was said. `show` writes a query so that reading it gives the same query again.
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
"""Looks like a filter and stands for the whole query."""

HAVING = ("file", "link", "edit", "reaction", "thread")
BEING = ("deleted", "edited", "private")

QUOTES = '"“”„'
SINGLE_QUOTES = "'\u2018\u2019\u201a"
"""Quotes around the whole value of a filter alone: in words they are apostrophes."""


@dataclass(frozen=True, slots=True)
class Text:
    """What a message must say."""

    text: str
    is_exact: bool = False
    """It was quoted: no other forms of its words, and ``*`` is a star."""
    at: int = field(default=0, compare=False)
    """Where it stands in the query as it was written."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What must be true of a message beside its text."""

    name: FieldName
    value: str
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    """What must not be."""

    term: "Node"


@dataclass(frozen=True, slots=True)
class All:
    """Every one of two or more terms, none of which is an `All`."""

    terms: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Either:
    """At least one of two or more terms, none of which is an `Either`."""

    terms: tuple["Node", ...]


Node: TypeAlias = Text | Filter | Not | All | Either


@dataclass(frozen=True, slots=True)
class Query:
    """A query that was understood."""

    root: Node | None
    """None for every message."""
    history: bool = False
    """Whether what messages said before they were edited counts as well."""
    source: str = field(default="", compare=False)
    """As it was written; what `at` counts in."""


class BadQuery(ArchiverError):
    """A query that cannot be answered; the text shows where, with a caret."""

    def __init__(self, reason: str, source: str, at: int) -> None:
        self.reason = reason
        self.source = source
        self.at = max(0, min(at, len(source)))
        super().__init__(f"{reason}\n{pointed(source, self.at)}")


def pointed(source: str, at: int) -> str:
    """The part of *source* around *at*, and a caret below it."""
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
    """*query* as a person would write it; reading it gives the same query."""
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
    """The texts that *node* asks for, without those that must not be."""
    match node:
        case None | Filter() | Not():
            return ()
        case Text():
            return (node,)
        case All(terms) | Either(terms):
            return tuple(text for term in terms for text in texts(term))
    assert_never(node)
