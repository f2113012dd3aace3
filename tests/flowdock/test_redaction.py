"""Secrets of flows are taken out of frames, and nothing else is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.flowdock.redaction import redact, redact_all

SECRET = "s3cret"
NAMES = ("api_token", "join_url")

texts = st.text() | st.sampled_from(
    [*NAMES, '"api_token": "x"', "\\", '"', '{"join_url":"x"}', "é\u2028\ud800"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(texts.filter(lambda name: name not in NAMES), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values, st.booleans(), st.sampled_from([None, 2]))
def test_what_holds_no_secret_stays_as_it_came(value: Any, ascii_: bool, indent: int) -> None:
    frame = json.dumps(value, ensure_ascii=ascii_, indent=indent).encode(errors="surrogatepass")
    assert redact(frame) == frame


@given(values, values, st.sampled_from(NAMES), st.booleans())
def test_a_secret_is_masked_wherever_it_stands(
    before: Any, after: Any, name: str, ascii_: bool
) -> None:
    secret = {"deeper": [SECRET, {"\n": before}]}
    frame, meant = (
        json.dumps([before, {"a": after, name: it, "b": [{name: it}]}], ensure_ascii=ascii_)
        for it in (secret, "***")
    )
    assert redact(frame.encode(errors="surrogatepass")) == meant.encode(errors="surrogatepass")


@given(st.sampled_from(NAMES), st.data())
def test_a_secret_is_masked_however_its_name_is_spelled(name: str, data: st.DataObject) -> None:
    spelled = "".join(
        data.draw(st.sampled_from([it, f"\\u{ord(it):04x}", f"\\u{ord(it):04X}"])) for it in name
    )
    frame = f'{{"content":"é","{spelled}": "{SECRET}"}}'
    assert list(json.loads(frame)) == ["content", name]
    assert redact(frame.encode()).decode() == frame.replace(SECRET, "***")
    assert redact_all([frame.encode()]) == [redact(frame.encode())]


@pytest.mark.parametrize(
    ("frame", "redacted"),
    [
        (b'{"api_token" :\n "a\\"b" , "id":1}', b'{"api_token" :\n "***" , "id":1}'),
        (b'{"join_url":null,"id":1}', None),
        (b'{"join_url" : null,"api_token":\n\tnull}', None),
        (b'{"api_token":"cut off in the mid', b'{"api_token":"***"'),
        (b'{"api_token":s3cret,"x":1}', b'{"api_token":"***"'),
        (b'{"join_url":"\xff\xfe"}', b'{"join_url":"***"}'),
        (b'{"join_url":' + b"[" * 100_000, b'{"join_url":"***"'),
        (b'{"content":"\\"api_token\\": \\"of a bot\\""}', None),
        (b'{"content":"api_token","join_url":""}', b'{"content":"api_token","join_url":"***"}'),
        (b'["api_token"]', None),
        (rb'{"api\\u005ftoken":1,"api\u005etoken":"of \"api\u005ftoken\": x"}', None),
    ],
)
def test_odd_frames_are_redacted(frame: bytes, redacted: bytes | None) -> None:
    assert redact(frame) == (frame if redacted is None else redacted)
    assert redact(redact(frame)) == redact(frame)


@given(st.lists(st.sampled_from([b'{"id":1}', b'{"join_url":"x"}', b'"api_token":', b'"api_tok'])))
def test_of_several_frames_each_is_redacted(frames: list[bytes]) -> None:
    assert redact_all(list(frames)) == list(map(redact, frames))


def test_large_frames_are_redacted_one_by_one() -> None:
    large = b'{"content":"' + b"x" * 2**20 + b'","join_url":"y"}'
    assert redact_all([large, large]) == [redact(large)] * 2
