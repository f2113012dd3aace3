"""Pages are split into elements, verbatim."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.flowdock.elements import Misshapen
from archiver.flowdock.pages import split

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
blanks = st.sampled_from([b"", b" ", b"\n", b"\r\n\t"])
ODD = b'"\\ud800"'


@given(st.lists(values), st.integers(0, 3), st.booleans(), blanks)
def test_elements_come_out_as_they_stand(
    items: list[Any], indent: int, is_odd: bool, blank: bytes
) -> None:
    elements = [json.dumps(item, ensure_ascii=False, indent=indent).encode() for item in items]
    elements += [ODD] if is_odd else []  # msgspec refuses it, so it is split in another way
    body = blank + b"[" + blank + (blank + b"," + blank).join(elements) + blank + b"]" + blank

    assert split(body) == tuple(elements)


@given(st.lists(st.sampled_from([b"[", b"]", b"{", b"}", b",", b'"', b"\\", b"1", b" ", ODD])))
def test_soup_is_split_or_refused(parts: list[bytes]) -> None:
    try:
        elements = split(b"".join(parts))
    except ValueError:
        return
    assert b"".join(parts).startswith((b"[", b" "))
    assert all(element in b"".join(parts) for element in elements)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b"[",
        b"[1",
        b'["a',
        b'[{"a":1}',
        b"[1] 2",
        b"[1]]",
        b"null",
        b'"[]"',
        b"[1,]",
    ],
)
def test_what_is_no_whole_array_is_refused(body: bytes) -> None:
    with pytest.raises(Misshapen):
        split(body)


@pytest.mark.parametrize("bad", [b'{"x":1e}', b'{"x":"\xff"}', b'{"x":NaN}', b'{"x" 1}', ODD])
def test_a_bad_element_does_not_hide_the_others(bad: bytes) -> None:
    assert split(b'[{"id":1}, ' + bad + b' ,{"id":2}]') == (b'{"id":1}', bad, b'{"id":2}')
