"""What a search keeps of a text can be computed for each piece between white space by itself."""

from time import process_time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from archiver.domain.query_text import (
    LONGEST_LEXEME,
    MOST_ACCENTS,
    fold,
    fold_piece,
    has_link,
    is_plain,
    lexemes,
    put_together,
    spell,
    words,
)

letters = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from("\u0301\u0308\u200d\u1160\u11a8\uff9e\x1c\x85\u2000\u3000\xa8`'Aaß,(.ﷺ語か"),
)
texts = st.lists(st.one_of(st.text(letters), st.sampled_from([" ", "\n", "fooBar", ", "]))).map(
    "".join
)


@given(texts)
@example("say `so`, naïve (HTMLParser2)")
@example("語\u3000か\uff9e \u0301x ¨ \u200b")
def test_a_text_is_folded_and_cut_piece_by_piece(text):
    folded = fold(text)
    spaced, said = spell(folded)
    pieces = [(one, fold_piece(one, is_plain=is_plain(text))) for one in text.split()]
    assert put_together(spell(one)[0] for _, one in pieces if one) == spaced
    assert [word for _, one in pieces for word in words(one)] == said
    found = [lexemes(piece, one, words(one)) for piece, one in pieces]
    assert set().union(*found) == lexemes(text, folded, said)


@pytest.mark.parametrize(
    "signs", ["\u0301\u0316", "\u0344\u0316", "\u0730\u200d\u0731\u200d", "\u0f73\u0316"]
)
def test_accents_without_number_are_folded_in_no_time(signs):
    began = process_time()
    folded = fold_piece("ü" + signs * 50_000 + "ő", is_plain=False)
    assert process_time() - began < 2
    assert folded[0] == "u"
    assert folded[-1] == "o"
    assert len(folded) <= 2 + 2 * MOST_ACCENTS


@given(texts.map(lambda text: text.replace("語", "nameOf" + "A" * 3000)))
@example("data:image/png;base64,iVBORw0KGgo" + "A" * 3000)
def test_no_text_is_found_by_more_than_an_index_holds(text):
    folded = fold(text)
    assert all(len(one) <= LONGEST_LEXEME for one in lexemes(text, folded, words(folded)))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
@example("`make`")
def test_what_is_plain_is_folded_as_it_is_among_what_is_not(piece):
    assert is_plain(piece)
    assert fold_piece(piece, is_plain=True) == fold_piece(piece, is_plain=False)


@pytest.mark.parametrize("text", ["see https://a.b", "FTP://a", "(www.a.b)", "a:// WWW.b"])
def test_a_link_is_what_people_would_click_on(text):
    assert has_link(text)


@pytest.mark.parametrize("text", ["", "a.b", "https", "https:// a", "c://a", "www. a", "awww.b"])
def test_what_only_looks_like_a_link_is_none(text):
    assert not has_link(text)
