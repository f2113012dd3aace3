import pytest

from archiver.simulator import tags

NICKS = {"mike": 2, "j.r": 3}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", []),
        ("#Case kept #case once", ["Case", "case"]),
        ("(#one )#two [#three], #four.", ["one", "two", "three", "four"]),
        ("word#no #日本語。 \uff03\uff57\uff49\uff44", ["日本語", "\uff57\uff49\uff44"]),
        ("http://example.com/#anchor #after", ["after"]),
        ("said:\n    #quoted\n#outside", ["outside"]),
        ("#foo-bar- #16 #e\u0301t\u00e9", ["foo-bar", "16", "e\u0301t\u00e9"]),
        ("C# and #!/bin/sh", []),
    ],
)  # fmt: skip
def test_hashtags_are_found_in_texts(text, expected):
    assert tags.hashtags(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@mike, @J.R. and me@home", ["mike", "J.R"]),
        ("@http://x @@group", ["@group"]),
        ("    @quoted", []),
    ],
)
def test_mentions_are_found_in_texts(text, expected):
    assert tags.mentions(text) == expected


@pytest.mark.parametrize(
    "text", ["http://a.fi", "see example.org/x", "これexample.comです", "t.co"]
)
def test_links_are_seen(text):
    assert tags.has_link(text)


@pytest.mark.parametrize(
    "text", ["v2.10.0", "e.g. this", "node.js", "#http://a.fi", "a_b.c_d", "..."]
)
def test_what_is_no_link_is_not_taken_for_one(text):
    assert not tags.has_link(text)


def test_a_text_gives_hashtags_then_mentions_then_the_mark_of_a_link():
    text = "@mike @ALL @team @nobody #x http://a.fi"
    assert tags.of_text(text, NICKS) == ["x", ":user:2", ":user:everyone", ":user:team", ":url"]


def test_stored_tags_keep_spelling_and_order_and_stand_once():
    given = ["#Cool", "cool", "@Mike", ":user:2", "@everybody", "@@group", " spaced ", "", "7"]
    stored = ["Cool", ":user:2", ":user:everyone", "@@group", "spaced", "7"]
    assert tags.normalized(given, NICKS) == stored


def test_tags_change_without_regard_to_case():
    assert tags.changed(["A", "b"], add=["a", "C"], remove=["B", "x"]) == ["A", "C"]


def test_tags_of_a_request_are_a_list_or_text_with_commas():
    assert tags.from_parameter("#awesome,cool,@mike") == ["#awesome", "cool", "@mike"]
    assert tags.from_parameter(["a", 7]) == ["a", "7"]
    assert tags.from_parameter(None) == []
    for wrong in (7, {"a": 1}, ["a", None], [["a"]], [True]):
        with pytest.raises(ValueError, match="tags"):
            tags.from_parameter(wrong)
