"""JSON as anybody may write it: read by the fast or the careful path, always storable."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.domain.events import Rejected
from archiver.flowdock.envelope import MAX_DEPTH, Envelope, read, read_json

texts = st.text(
    st.characters(codec=None, exclude_categories=[]) | st.sampled_from("\0\ud800\udfff")
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


def content_of(frame: bytes) -> Any:
    envelope = read(frame)
    assert isinstance(envelope, Envelope)
    return envelope.content


@given(values)
def test_what_is_read_carefully_can_be_stored_and_written_again(value: Any) -> None:
    text = json.dumps(value).replace("Infinity", "1e999")
    written = json.dumps(read_json(text.encode()), ensure_ascii=False)

    written.encode()
    assert "\\u0000" not in written.replace("\\\\", "")


@given(values)
def test_both_ways_of_reading_agree(value: Any) -> None:
    """A lone surrogate elsewhere makes the same content take the careful path."""
    text = json.dumps(value).replace("Infinity", "1")
    plain = f'{{"content": {text}}}'.encode()
    careful = f'{{"content": {text}, "elsewhere": "\\ud800"}}'.encode()

    assert read(careful) == read(plain)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b'{"id":1', "not JSON"),
        (b'{"id":1}{"id":2}', "not JSON"),
        (b'{"id":NaN}', "not JSON: NaN is not a JSON number"),
        (b'{"x":[Infinity]}', "not JSON"),
        (b'{"x":"a\nb"}', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"7", "not a JSON object"),
        (b'"\\ud800"', "not a JSON object"),
        (b'{"x":"\xff"}', "not UTF-8"),
        (b'{"x":"\xed\xa0\x80"}', "not UTF-8"),
        (b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}", "nested too deeply"),
        (b'{"x":' + b"[" * 400 + b"]" * 400 + b"}", "nested too deeply"),
        (b'{"x":"\\ud800","y":' + b"[" * 400 + b"]" * 400 + b"}", "nested too deeply"),
        (b'{"x":[' + b"[]," * 400 + b"[" * 400 + b"]" * 400 + b"]}", "nested too deeply"),
        (b'{"x":"\xff","y":"\\u0000"}', "not UTF-8"),
        (b'{"x":"\\ud800","y":' + b"[" * 5000 + b"]" * 5000 + b"}", "nested too deeply"),
    ],
)
def test_what_is_no_object_is_rejected_with_the_reason(content: bytes, reason: str) -> None:
    rejected = read(content)

    assert isinstance(rejected, Rejected)
    assert rejected.reason.startswith(reason)


@pytest.mark.parametrize("careful", [b"", b'"elsewhere": "\\ud800",'])
def test_nesting_is_counted_outside_strings(careful: bytes) -> None:
    brackets = "[{" * MAX_DEPTH + '"'
    flat = b"{" + careful + b'"content":' + json.dumps(brackets).encode() + b"}"
    deepest = b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1)
    wide = b"[" + b"[]," * MAX_DEPTH + b"[]]"

    assert content_of(flat) == brackets
    for nested in (deepest, wide):
        assert isinstance(content_of(b"{" + careful + b'"content":' + nested + b"}"), list)


@pytest.mark.parametrize(
    ("escaped", "shown"),
    [
        ("a\\u0000b", "a\ufffdb"),
        ("a\\ud800b", "a\ufffdb"),
        ("a\\uDFFFb", "a\ufffdb"),
        ("\\udfff\\ud800", "\ufffd\ufffd"),
        ("\\ud83d\\ude00", "😀"),
        ("\\\\u0000", "\\u0000"),
        ("\\u00e4", "ä"),
    ],
)
def test_text_that_postgres_cannot_hold_is_replaced(escaped: str, shown: str) -> None:
    frame = f'{{"content":["{escaped}",{{"{escaped}":[{{"x":"{escaped}"}}]}}]}}'.encode()

    assert content_of(frame) == [shown, {shown: [{"x": shown}]}]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 5000])
def test_numbers_too_large_to_keep_are_text(number: str) -> None:
    assert content_of(f'{{"content":[{number}]}}'.encode()) == [number]
