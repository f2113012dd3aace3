"""A cache of how pieces of texts are spaced for the search, and by which lexemes they are found.

Both depend only on the piece, which is a part of a text between white space. People mostly use the
same few pieces, so the results are cached in two generations: when the younger one is full, it
replaces the older one, whose pieces are forgotten if they were not met since. Stems come from the
database, which is asked once for all new words of many messages.
"""

from collections.abc import Sequence
from typing import NamedTuple

from archiver.domain.query_text import fold_piece, lexemes, put_together, spell
from archiver.store import search_texts
from archiver.store.connection import Transaction

LONGEST_KEPT = 100
MOST_LETTERS = 30_000
"""The most letters of all pieces in one generation; each takes about sixty bytes of memory."""


class _Generation(NamedTuple):
    """Two tables, since each text looks up all its pieces in the one, and then in the other."""

    spaced: dict[str, str]
    lexemes: dict[str, tuple[bytes, ...]]


class _Spelled(NamedTuple):
    piece: str
    spaced: str
    words: Sequence[str]
    lexemes: set[str]


class Vocabulary:
    """The cache for texts that are plain, or for all others, since these are folded differently."""

    def __init__(self, *, is_plain: bool) -> None:
        self._is_plain = is_plain
        self._language = ""
        self._known, self._older = _Generation({}, {}), _Generation({}, {})
        self._letters = 0
        self._long: list[str] = []

    async def learn(self, tx: Transaction, pieces: set[str], *, language: str) -> None:
        """Cache all of *pieces* in that language until the next `learn` or `forget_rare`."""
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
        """Free the memory of pieces that will hardly be met again.

        Those are long pieces; or all, when there are far more than people would repeat.
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
        """The spaced form of a text of *pieces*, which must all be cached, and its lexemes."""
        spaced = put_together(filter(None, map(self._known.spaced.__getitem__, pieces)))
        return spaced, set().union(*map(self._known.lexemes.__getitem__, pieces))
