"""Words are replaced in a payload, however they are spelled there, and nothing else changes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.ingest.rewording import (
    ERASED,
    Phrases,
    Titles,
    members,
    rewritten,
    shown_in_thread,
    without,
)

PHRASE = 'so "5 €" \\ no'
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def erase(payload: str, *phrases: str, titles: Titles | None = None) -> str:
    sought = Phrases(phrases)
    return rewritten(payload, lambda name, text: without(name, text, sought, titles))[0]


@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_phrase_is_found_however_it_is_spelled(ascii_only: bool) -> None:
    spelled = json.dumps(f"I say: {PHRASE.upper()}!", ensure_ascii=ascii_only)
    payload = f'{{ "id" : 17,\n"content":{spelled} , "x": [1.0, "{PHRASE[:2]}", 1e400] }}'
    left = payload.replace(spelled, f'"I say: {ERASED}!"')
    assert erase(payload, PHRASE) == left != payload


@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_phrase_is_found_in_a_text_that_quotes_json(ascii_only: bool) -> None:
    quoted = json.dumps({"x": f"I say: {PHRASE}"}, ensure_ascii=ascii_only)
    assert erase(json.dumps(quoted), PHRASE) == json.dumps(json.dumps({"x": f"I say: {ERASED}"}))


def test_what_is_looked_for_in_the_database_is_spelled_in_one_way() -> None:
    told = ["My Salary", "schönes Wochenende", "給料、\n給", 'a"bc', "ÜÄ"]
    assert Phrases(told).parts() == ["my salary", "nes wochenende", "給料、", "bc", ""]


def test_what_places_an_event_and_names_of_members_stay() -> None:
    payload = '{"event":"hush","content":{"hush":["hush","shush"],"event":{"id":"hush"}}}'
    left = '{"event":"hush","content":{"hush":["[erased]","s[erased]"],"event":{"id":"hush"}}}'
    assert erase(payload, "hush") == left


def test_a_text_that_is_no_unicode_stays_one_that_can_be_encoded() -> None:
    left = erase('{"content":"hush \\ud800 \\u0000"}', "hush")
    assert left == '{"content":"[erased] \\ud800 \\u0000"}'


@pytest.mark.parametrize(
    ("title", "repeats"),
    [
        ("We need", True),
        ("We need to  talk …", True),
        ("We need to ta...", True),
        ("We need to talk about it and", False),
        ("need to talk", False),
        ("…", False),
        ("", False),
    ],
)
def test_a_title_repeats_the_beginning_of_what_was_said(title: str, repeats: bool) -> None:
    titles = Titles(["We need\nto talk about it"])
    payload = json.dumps({"title": title, "content": "We need"}, ensure_ascii=False)
    left = json.dumps({"title": ERASED if repeats else title, "content": "We need"})
    assert json.loads(erase(payload, titles=titles)) == json.loads(left)


@given(VALUES, st.booleans())
def test_nothing_changes_where_nothing_is_found(value: Any, ascii_only: bool) -> None:
    payload = json.dumps({"a": value}, ensure_ascii=ascii_only)
    assert rewritten(payload, lambda _, text: text) == (payload, {})


@given(VALUES)
def test_every_text_is_seen_once(value: Any) -> None:
    seen: list[str] = []

    def see(_: str, text: str) -> str:
        seen.append(text)
        return text

    rewritten(json.dumps([value]), see)
    assert seen == list(texts(value))
    assert members(json.dumps({"path": "a", "b": {"path": "c", "d": "path"}}), "path") == ["a", "c"]


def test_of_names_only_what_people_reacted_with_is_replaced() -> None:
    def told(phrase: str) -> dict[str, Any]:
        inner = [{phrase: ["{}", phrase]}, {phrase: {phrase: 1, "a": {}}, "b": {}}, {}, {"{": "}"}]
        return {"said": [[{"emojiReactions": one}, {"Secret": 1}] for one in inner]}

    names = json.dumps(told("Secret"), indent=1)
    assert json.loads(erase(names, "secret")) == told(ERASED)


def texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in texts(one)]


def test_what_a_thread_shows_is_found_beside_a_number_of_any_length() -> None:
    thread = '{"body": "said", "fields": [{"value": "so"}, {"value": 1}]}'
    payload = f'{{"content": {{"n": {"1" * 5000}}}, "thread": {thread}}}'
    assert shown_in_thread(payload) == ["said", "so"]
