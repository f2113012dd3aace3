"""Where in a message the matches of a query are, and how well the message fits.

Texts are searched in a folded and spaced form (`archiver.domain.query_text`). To find the matches
in the message itself, it is folded again, letter by letter, noting where each letter came from.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from math import log
from typing import TypeAlias

from msgspec import Struct

from archiver.domain.query import texts
from archiver.domain.query_pattern import Passage, Pattern, Wild, Word
from archiver.domain.query_text import (
    LONGEST_TEXT,
    WORD,
    fold,
    parts_of_names,
    parts_of_word,
    words,
)
from archiver.store.search_meaning import Meaning

Span: TypeAlias = tuple[int, int]
"""A range of letters of a message; its end is exclusive."""
Stems: TypeAlias = Mapping[str, frozenset[str]]

MOST_MARKS = 500
"""Limit for each text of a query, in one message."""
# A letter with the characters that change how it is folded: accents, voicing marks of kana, skin
# tones, the vowel and the final consonant of a Hangul syllable.
_LETTER = re.compile(
    r"[\s\S][\u0300-\u036f\u0653-\u0655\u1160-\u11ff\u3099\u309a\ufe00-\ufe0f\uff9e\uff9f"
    r"\U0001f3fb-\U0001f3ff]*"
)
_BLANK = "   "


class _Folded(Struct, frozen=True):
    """A folded text, and the letters of the original from which each of its letters came."""

    text: str
    origins: Sequence[Span]

    def span(self, begin: int, end: int) -> Span:
        return self.origins[begin][0], self.origins[end - 1][1]


class _Said(Struct, frozen=True):
    """The text of a message, in all forms in which it is searched."""

    text: str
    folded: _Folded
    spaced: _Folded


def marks(text: str, meaning: Meaning, stems: Stems) -> list[list[Span]]:
    """For each text that the query requires: where *text* contains it."""
    folded = _folded(text)
    said = _Said(text[:LONGEST_TEXT], folded, _spaced(folded))
    return [
        list(_found(meaning.patterns[one], said, meaning, stems))
        for one in texts(meaning.query.root)
    ]


def words_of(said: Iterable[str]) -> set[str]:
    """All words in these texts, whose stems show where words of a query occur in other forms."""
    return {word for text in said for word in words(fold(text))}


def merged(found: Iterable[Sequence[Span]]) -> list[Span]:
    """All spans in order; those that touch or overlap are merged into one."""
    told: list[Span] = []
    for begin, end in sorted(span for spans in found for span in spans):
        if told and begin <= told[-1][1]:
            told[-1] = (told[-1][0], max(end, told[-1][1]))
        else:
            told.append((begin, end))
    return told


def fitness(text: str, found: Sequence[Sequence[Span]]) -> float:
    """How well a message fits: best if it says all, often, close together, and little else."""
    said = [spans for spans in found if spans]
    if not said:
        return 0.0
    often = sum(1 + log(len(spans)) for spans in said)
    return (often + len(said) * 10 / (10 + _narrowest(said))) / (1 + log(1 + len(text) / 200))


def _narrowest(found: Sequence[Sequence[Span]]) -> int:
    """The length of the shortest passage that contains a span of each text."""
    stops = sorted((begin, end, of) for of, spans in enumerate(found) for begin, end in spans)
    last: dict[int, Span] = {}
    best = stops[-1][1]
    for begin, end, of in stops:
        last[of] = (begin, end)
        if len(last) == len(found):
            best = min(best, end - min(span[0] for span in last.values()))
    return best


def _found(pattern: Pattern, said: _Said, meaning: Meaning, stems: Stems) -> Iterator[Span]:
    match pattern:
        case Word(word):
            wanted = {word, *meaning.stems.get(word, ())}
            yield from islice(_words(wanted, said.folded, stems), MOST_MARKS)
            # A part of a name, as Archiver in FlowArchiver2, is found as well.
            for part, at in parts_of_names(said.text):
                if part in wanted:
                    yield at, at + len(part)
        case Passage(text):
            yield from _parts(text, said.spaced)
        case Wild(passages):
            yield from _chains([one.spaced for one in passages], said.spaced)


def _words(wanted: set[str], folded: _Folded, stems: Stems) -> Iterator[Span]:
    """Words with a lexeme that is *wanted*, or else the parts of them that are."""
    for match in WORD.finditer(folded.text):
        if match[0] in wanted or not wanted.isdisjoint(stems.get(match[0], ())):
            yield folded.span(*match.span())
        else:
            for part, at in parts_of_word(match[0]):
                if part in wanted:
                    yield folded.span(match.start() + at, match.start() + at + len(part))


def _chains(wanted: Sequence[str], within: _Folded) -> Iterator[Span]:
    """Where all *wanted* follow one another, with only what a star matches between them."""
    text = within.text
    at = text.find(wanted[0])
    for _ in range(MOST_MARKS):
        if at < 0:
            return
        chain, end = [(at, wanted[0])], at + len(wanted[0])
        for before, one in pairwise(wanted):
            place = text.find(one, end)
            if place < 0:
                return
            if not _is_of_a_star(text[end:place], before[-1], one[0]):
                break
            chain.append((place, one))
            end = place + len(one)
        else:
            for place, one in chain:
                begin = place + len(one) - len(one.lstrip())
                yield within.span(begin, begin + len(one.strip()))
            # The space after this word may also be the one before the next match.
            at = end - 1 - wanted[-1].endswith(" ")
        at = text.find(wanted[0], at + 1)


def _is_of_a_star(gap: str, before: str, behind: str) -> bool:
    """Tell whether a star matches *gap*: letters of one word, which may begin or end in it."""
    if not WORD.match(before):
        gap = gap.removeprefix(" ")
    if not WORD.match(behind):
        gap = gap.removesuffix(" ")
    return " " not in gap


def _parts(wanted: str, within: _Folded) -> Iterator[Span]:
    """Where *wanted* occurs; the spaces around it are not marked."""
    lead = len(wanted) - len(wanted.lstrip())
    letters = wanted.strip()
    at = within.text.find(wanted) if letters else -1
    for _ in range(MOST_MARKS):
        if at < 0:
            return
        yield within.span(at + lead, at + lead + len(letters))
        at = within.text.find(wanted, at + lead + len(letters))


def _folded(text: str) -> _Folded:
    letters: list[str] = []
    origins: list[Span] = []
    for match in _LETTER.finditer(text[:LONGEST_TEXT]):
        told = fold(match[0])
        if match[0][0].isspace() and not (letters and letters[-1] == " "):
            told = f" {told}"
        letters.extend(told)
        origins.extend([match.span()] * len(told))
    return _Folded("".join(letters), origins)


def _spaced(folded: _Folded) -> _Folded:
    """The spaced form; the spaces that it adds have no letters in the original."""
    letters: list[str] = []
    origins: list[Span] = []
    at = 0
    for match in WORD.finditer(folded.text):
        begin, end = match.span()
        letters += [*folded.text[at:begin], " ", *match[0], " "]
        origins += [*folded.origins[at:begin], (0, 0), *folded.origins[begin:end], (0, 0)]
        at = end
    letters += folded.text[at:]
    origins += folded.origins[at:]
    told = "".join(letters)
    for match in reversed(list(re.finditer(_BLANK, told))):
        del origins[match.start() + 1 : match.end()]
    return _Folded(told.replace(_BLANK, " "), origins)
