"""Text as it is searched: without case and accents, and cut into words.

Messages and queries are folded alike and written in a *spaced* form, in which each word has a space
on either side, and a punctuation mark next to a word is separated from it by that space::

    Use C++20, see foo.png   ->   " use c ++ 20 ,  see foo . png "

So a text contains another one, in whole words and with its punctuation, if and only if the spaced
form of the one is a substring of the other's: ``C++20`` is `` c ++ 20 ``. This takes no regular
expression, and does not depend on what the database considers to be a letter.

A *piece* is a part of a text between white space. Each piece can be processed by itself.

*Lexemes* are what an index holds of a text: its words; the parts of words such as ``fooBar2``; for
scripts without spaces between words, each sign and each pair of adjacent signs; and symbols, such
as emoji.
"""

import re
from collections.abc import Iterable, Iterator
from operator import add
from unicodedata import category, combining, name, normalize

VERSION = 2
"""The version of the forms below: an index that was built with another one must be rebuilt."""

LONGEST_TEXT = 100_000
"""How many letters of a message are searched; what comes after them is not found."""
LONGEST_LEXEME = 60
MOST_ACCENTS = 30
"""On one letter: the limit of Unicode's Stream-Safe Text Format (annex 15)."""

APART = "".join(
    f"{chr(first)}-{chr(last)}"
    for first, last in (
        (0x0E00, 0x0EFF),  # Thai, Lao
        (0x1000, 0x109F),  # Myanmar
        (0x1780, 0x17FF),  # Khmer
        (0x3005, 0x3007),  # 々〆〇
        (0x3040, 0x30FF),  # kana
        (0x3100, 0x312F),  # bopomofo
        (0x31F0, 0x31FF),  # small kana
        (0x3400, 0x4DBF),  # Han
        (0x4E00, 0x9FFF),
        (0xAC00, 0xD7A3),  # Hangul: spaced, but with particles behind its words
        (0xF900, 0xFAFF),
        (0x20000, 0x3FFFF),
    )
)
"""The ranges of scripts that do not separate words by spaces."""
_LETTER = rf"[^\W_{APART}]"
_MARKS = "\u0300-\u036f\u0900-\u0963\u0966-\u0dff"
WORD = re.compile(rf"{_LETTER}(?:{_LETTER}|[{_MARKS}])*")
_CUT = re.compile(f"({WORD.pattern})")
_ASCII_CUT = re.compile("([a-z0-9]+)")
_RUN = re.compile(f"[{APART}]+")
_LETTERS = re.compile(r"[^\W\d_]{3,}")
_CAMEL = re.compile(r"(?<![^\W_])[A-Z]*[a-z]+[A-Z][A-Za-z0-9]*(?![^\W_])")
_PARTS = re.compile(r"[A-Z]?[a-z]{2,}|[A-Z]{3,}(?![a-z])")
_IS_CAMEL = re.compile("[A-Z](?<=[a-z].)")
"""``[a-z][A-Z]``, written so that the search looks for the rarer letter first."""
LINK = re.compile(r"\b(?:(?:https?|ftp)://|www\.)[^\s/]", re.IGNORECASE)

_ALIKE = {
    **dict.fromkeys("\u2018\u2019\u02bc\u2032\u00b4", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
    **dict(zip("øłđðħŋ\u0131\u0451", "olddhni\u0435", strict=True)),
    **{"þ": "th", "æ": "ae", "œ": "oe"},  # noqa: PIE800
}
"""Letters and signs, each with the plainer ones that stand for it in a folded text."""
_TWO_SIGNS = "\u0f73\u0f75\u0f81"
"""Tibetan vowels that are not combining characters themselves, but decompose into such."""
_DROPPED = re.compile(
    "[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf-\u05c7\u0640\u064b-\u065f\u0670"
    "\ufe00-\ufe0f\U0001f3fb-\U0001f3ff\U000e0100-\U000e01ef]"
)
"""Accents, vowel signs, variation selectors and skin tones."""


class _Folds(dict[int, str]):
    """Maps each letter to its folded form, computed on first use."""

    def __missing__(self, code: int) -> str:
        self[code] = folded = _fold_letter(chr(code))
        return folded


_FOLDS = _Folds()


def _fold_letter(letter: str) -> str:
    if letter.isspace() or letter == "\x85":
        return " "
    if letter in _ALIKE:
        return _ALIKE[letter]
    if _DROPPED.match(letter) or category(letter) in {"Cc", "Cf"}:
        return ""
    folded = letter.casefold()
    plain = normalize("NFKD", folded)
    if plain.startswith(" "):
        return folded  # an accent without a letter, as in ¯\_(ツ)_/¯
    if name(plain[0], "").startswith(("LATIN", "GREEK")) or plain.isascii():
        plain = _DROPPED.sub("", plain)
    plain = normalize("NFC", plain).casefold()
    return "".join(_ALIKE.get(one, one) for one in plain)


def with_names(said: str, file_names: Iterable[str]) -> str:
    """The searched text of a message: what it says, cut off if too long, and its files' names."""
    names = "".join(f"\n{name}" for name in file_names if name != said)
    return said[: max(0, LONGEST_TEXT - len(names))] + names


def fold(text: str) -> str:
    """*text* without case, accents and invisible characters, white space as single spaces."""
    text = text[:LONGEST_TEXT]
    return fold_piece(text, is_plain=is_plain(text))


def is_plain(text: str) -> bool:
    """Tell whether folding *text* only changes its case and white space."""
    return text.isascii() and text.isprintable()


def fold_piece(piece: str, *, is_plain: bool) -> str:
    """Fold *piece*; *is_plain* tells whether the whole text is plain."""
    # Composed twice: the translation leaves a half-width kana and its sound mark apart, say.
    folded = piece.lower() if is_plain else _composed(_composed(piece).translate(_FOLDS))
    return " ".join(folded.split())


def _composed(text: str) -> str:
    """*text* in normalization form C, with at most `MOST_ACCENTS` accents on one letter.

    The form sorts the accents of a letter, in time quadratic in their number.
    """
    if len(text) > 8 * MOST_ACCENTS and not text.isascii():
        kept, accents = [], 0
        for one in text:
            accents = accents + 1 if combining(one) or one in _TWO_SIGNS else 0
            if accents <= MOST_ACCENTS:
                kept.append(one)
        text = "".join(kept)
    return normalize("NFC", text)


def space(folded: str) -> str:
    """The spaced form of a folded text."""
    return spell(folded)[0]


def words(folded: str) -> list[str]:
    """The words of a folded text, in order."""
    return spell(folded)[1]


def spell(folded: str) -> tuple[str, list[str]]:
    """The spaced form of a folded text, and its words in order."""
    # The expression has a group, so `split` returns what is between words and the words, in turns.
    pieces = (_ASCII_CUT if folded.isascii() else _CUT).split(folded)
    return put_together([" ".join(pieces)]), pieces[1::2]


def put_together(spaced: Iterable[str]) -> str:
    """The spaced form of a text, given the spaced forms of its pieces."""
    return " ".join(spaced).replace("   ", " ")


def lexemes(piece: str, folded: str, words: Iterable[str]) -> set[str]:
    """The lexemes of *piece*, whose folded form is *folded* and has these *words*."""
    found = {word[:LONGEST_LEXEME] for word in words}
    for word in [word for word in found if not word.isalpha()]:
        found.update(part for part, _ in parts_of_word(word))
    if _IS_CAMEL.search(piece):
        found.update(part for part, _ in parts_of_names(piece))
    if not folded.isascii():
        found.update(_symbols(folded))
        for run in _RUN.findall(folded):
            found.update(run)
            found.update(_pairs(run))
    return found


def parts_of_word(word: str) -> Iterator[tuple[str, int]]:
    """The runs of letters in a folded *word* that is not only letters, and where they begin."""
    if not word.isalpha():
        for match in _LETTERS.finditer(word[:LONGEST_LEXEME]):
            yield match[0], match.start()


def parts_of_names(text: str) -> Iterator[tuple[str, int]]:
    """The parts of names like ``fooBar`` in *text*, as lexemes, and where they begin there."""
    for name_ in _CAMEL.finditer(text):
        for match in _PARTS.finditer(name_[0]):
            if len(match[0]) > 2:
                yield match[0].lower()[:LONGEST_LEXEME], name_.start() + match.start()


def signs(folded: str) -> set[str]:
    """The lexemes that a text must have to contain what in *folded* is not a word."""
    found = _symbols(folded)
    for run in _RUN.findall(folded):
        found.update(_pairs(run) if len(run) > 1 else run)
    return found


def _pairs(run: str) -> Iterator[str]:
    return map(add, run, run[1:])


def _symbols(folded: str) -> set[str]:
    return {one for one in set(folded) if one > "\x7f" and category(one) == "So"}


def has_link(text: str) -> bool:
    """Tell whether *text* contains a link."""
    # Most texts contain none, and these tests find that out faster than the expression does.
    return ("://" in text or "www." in text.lower()) and LINK.search(text) is not None
