"""What is stored for pieces of texts adds up to what the whole text would give."""

import pytest

from archiver.domain.query_text import fold, lexemes, spell
from archiver.ingest import vocabulary
from archiver.ingest.vocabulary import Vocabulary
from archiver.store.engine import connect, transaction
from tests.ingest.arriving import query
from tests.store.searching import SAID

ODD = (
    "1e5 0x1F -3.5e-7 x1e5 5e 1st a1 ǅ Ⅷ ² ٣ १२३ का अनुच्छेद ᅠbar \u1160\u11a8 ς ﷺ "
    + "long" * 40
    + " running ran the"
)
STEMS = """
    SELECT tsvector_to_array(to_tsvector('english', words))
    FROM unnest(%s::text[]) WITH ORDINALITY AS said (words, n) ORDER BY n
"""


@pytest.mark.parametrize("most_letters", [30_000, 300])
async def test_it_makes_of_pieces_what_the_whole_is(database_url, monkeypatch, most_letters):
    monkeypatch.setattr(vocabulary, "MOST_LETTERS", most_letters)
    texts = [f"{text}\n{ODD}" for text in SAID.values()] * 2
    spelled = [spell(fold(text)) for text in texts]
    stems = query(database_url, STEMS, [" ".join(words) for _, words in spelled])
    async with connect(database_url) as engine, transaction(engine) as tx:
        kept = Vocabulary(is_plain=False)
        for text, (spaced, words), (its,) in zip(texts, spelled, stems, strict=True):
            await kept.learn(tx, set(text.split()), language="english")
            found = lexemes(text, fold(text), words).union(its)
            assert kept.form(text.split()) == (spaced, {one.encode() for one in found})
            kept.forget_rare()


async def test_what_nobody_says_twice_is_not_kept(database_url, monkeypatch):
    monkeypatch.setattr(vocabulary, "MOST_LETTERS", 300)
    async with connect(database_url) as engine, transaction(engine) as tx:
        kept = Vocabulary(is_plain=True)
        for start in range(0, 1000, 100):
            pieces = {f"word{number}" for number in range(start, start + 100)}
            await kept.learn(tx, pieces, language="english")
            assert kept.form(sorted(pieces))[1] >= {piece.encode() for piece in pieces}
            kept.forget_rare()
            held = [*kept._known.spaced, *kept._older.spaced]
            assert sum(map(len, held)) <= 4 * vocabulary.MOST_LETTERS


@pytest.mark.parametrize("languages", [["english"], ["simple", "english"]])
async def test_of_more_at_once_than_anybody_says_twice_nothing_is_kept(database_url, languages):
    pieces = {f"word{number}" for number in range(vocabulary.MOST_LETTERS // 2)}
    async with connect(database_url) as engine, transaction(engine) as tx:
        kept = Vocabulary(is_plain=True)
        for language in languages:
            await kept.learn(tx, pieces if language == languages[-1] else {"a"}, language=language)
            kept.forget_rare()
        assert not kept._known.spaced
        assert not kept._older.spaced
