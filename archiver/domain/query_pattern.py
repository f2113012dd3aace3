"""The pattern of a text in a query, for the spaced form of `archiver.domain.query_text`.

A star in a word stands for any letters of the same word, or none: ``deploy*``, ``*ment``,
``foo*bar``; next to punctuation it stands for a word, as in ``https://*.example.com``.
"""

import re
from dataclasses import dataclass
from typing import TypeAlias

from archiver.domain.query import Text
from archiver.domain.query_text import LONGEST_LEXEME, WORD, fold, signs, space

STAR = re.compile(r"\*+")
SHORTEST_PART = 3
"""The fewest letters of a part of a word that an index of substrings can find."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word, in any of its forms."""

    word: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A text that is found literally, at the bounds of words except where a star cut it."""

    spaced: str
    lexemes: tuple[str, ...]
    """A message must have all of these; empty when nothing of the passage is indexed."""
    prefixes: tuple[str, ...] = ()
    """For each of these, a message must have a lexeme that begins with it."""
    is_part: bool = False
    """It contains a part of a word that is long enough for an index of substrings."""


@dataclass(frozen=True, slots=True)
class Wild:
    """Passages in this order, with a star between each two."""

    passages: tuple[Passage, ...]
    regex: str
    """Matches the spaced form; Python and Postgres understand it alike."""


Pattern: TypeAlias = Word | Passage | Wild


def pattern(text: Text) -> Pattern | None:
    """The pattern of *text*; None when folding leaves nothing of it."""
    folded = fold(text.text)
    if not folded:
        return None
    parts = [folded] if text.is_exact else STAR.split(folded)
    if len(parts) == 1 or not any(parts):
        is_word = WORD.fullmatch(folded) is not None
        # A lexeme of the greatest length may be the beginning of a longer word.
        if is_word and not text.is_exact and len(folded) < LONGEST_LEXEME:
            return Word(folded)
        return _passage(folded)
    last = len(parts) - 1
    passages = [
        _passage(part, open_before=at > 0, open_behind=at < last)
        for at, part in enumerate(parts)
        if part
    ]
    if len(passages) == 1:
        return passages[0]
    return Wild(tuple(passages), _regex(parts))


def _passage(folded: str, *, open_before: bool = False, open_behind: bool = False) -> Passage:
    """The passage of *folded*; at an open end, its word may continue."""
    spaced = space(folded)
    found = [match[0] for match in WORD.finditer(folded)]
    lexemes, prefixes = list(found), []
    is_part = False
    if open_before and spaced.startswith(" "):
        spaced = spaced[1:]
        is_part = len(lexemes.pop(0)) >= SHORTEST_PART
    if open_behind and spaced.endswith(" "):
        spaced = spaced[:-1]
        is_part = is_part or len(found[-1]) >= SHORTEST_PART
        if lexemes:
            prefixes.append(lexemes.pop()[:LONGEST_LEXEME])
    return Passage(
        spaced,
        tuple(dict.fromkeys([*(one[:LONGEST_LEXEME] for one in lexemes), *sorted(signs(folded))])),
        tuple(prefixes),
        is_part,
    )


def _regex(parts: list[str]) -> str:
    """A regular expression of the literal *parts*, with what a star stands for between them."""
    inner = [space(part) for part in parts if part]
    last = len(inner) - 1
    regex = ""
    for at, spaced in enumerate(inner):
        begins_word = spaced.startswith(" ") and (at > 0 or not parts[0])
        ends_word = spaced.endswith(" ") and (at < last or not parts[-1])
        if at > 0:
            regex += _star(after_word=inner[at - 1].endswith(" "), before_word=begins_word)
        literal = spaced[1:] if begins_word else spaced
        regex += re.escape(literal[:-1] if ends_word else literal)
    return regex


def _star(*, after_word: bool, before_word: bool) -> str:
    match after_word, before_word:
        case True, True:
            return "[^ ]*"
        case True, False:
            return "[^ ]* "
        case False, True:
            return " [^ ]*"
        case _:
            return "( [^ ]+ )?"
