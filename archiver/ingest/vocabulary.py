"""What pieces of texts look like when they are spaced, and what they are found by.

Both can be told of each piece of a text between white space by itself. Most pieces that people say
are few, so it is found out once for each, and kept in two generations: when the younger one is
full, what was not met since the older one was is forgotten. The database is asked for stems, of all
words together that are new in many messages.
"""

from collections.abc import Sequence
from typing import NamedTuple

from archiver.domain.query_text import fold_piece, lexemes, put_together, spell
from archiver.store import search_texts
from archiver.store.connection import Transaction

LONGEST_KEPT = 100
MOST_LETTERS = 30_000
"""Of the pieces in one generation; each takes some sixty bytes of memory."""


class _Generation(NamedTuple):
    """Two tables, as each text asks for all its pieces in the one, and then in the other."""

    spaced: dict[str, str]
    lexemes: dict[str, tuple[bytes, ...]]


class _Spelled(NamedTuple):
    piece: str
    spaced: str
    words: Sequence[str]
    lexemes: set[str]


class Vocabulary:
    """The pieces of texts that are plain, or of others: they are not folded alike."""

    def __init__(self, *, is_plain: bool) -> None:
        self._is_plain = is_plain
        self._language = ""
        self._known, self._older = _Generation({}, {}), _Generation({}, {})
        self._letters = 0
        self._long: list[str] = []

    async def learn(self, tx: Transaction, pieces: set[str], *, language: str) -> None:
        """Know all of *pieces* in that language, until others are learned or the rare forgotten."""
        if language != self._language:
            self._language, self._letters = language, 0
            self._known, self._older = _Generation({}, {}), _Generation({}, {})
        if self._letters > MOST_LETTERS:
            self._older, self._known, self._letters = self._known, _Generation({}, {}), 0
        unmet = pieces.difference(self._known.spaced)
        self._letters += sum(map(len, unmet))
        self._long = [piece for piece in unmet if len(piece) > LONGEST_KEPT]
        again = unmet.intersection(self._older.spaced)
        for piece in again:
            self._keep(piece, self._older.spaced[piece], self._older.lexemes[piece])
        new = [self._spelled(piece) for piece in unmet - again]
        words = list({word for one in new for word in one.words})
        stems = await search_texts.stems(tx, words, language=language) if words else []
        of_word = dict(zip(words, stems, strict=True))
        for one in new:
            found = one.lexemes.union(*map(of_word.__getitem__, one.words))
            self._keep(one.piece, one.spaced, tuple(map(str.encode, found)))

    def forget_rare(self) -> None:
        """Give back the memory of what will hardly be met again.

        Those are long pieces; and all, when there are far more than anybody says twice.
        """
        for piece in self._long:
            self._letters -= len(piece)
            del self._known.spaced[piece], self._known.lexemes[piece]
        self._long = []
        if self._letters > 2 * MOST_LETTERS:
            self._known, self._letters = _Generation({}, {}), 0

    def _keep(self, piece: str, spaced: str, lexemes: tuple[bytes, ...]) -> None:
        self._known.spaced[piece] = spaced
        self._known.lexemes[piece] = lexemes

    def _spelled(self, piece: str) -> _Spelled:
        folded = fold_piece(piece, is_plain=self._is_plain)
        spaced, words = spell(folded)
        return _Spelled(piece, spaced, words, lexemes(piece, folded, words))

    def form(self, pieces: Sequence[str]) -> tuple[str, set[bytes]]:
        """The spaced form of a text of these *pieces*, all known, and what they are found by."""
        spaced = put_together(filter(None, map(self._known.spaced.__getitem__, pieces)))
        return spaced, set().union(*map(self._known.lexemes.__getitem__, pieces))
