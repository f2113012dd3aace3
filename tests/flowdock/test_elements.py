"""A long array is split into its elements, however its bytes arrive."""

import json
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from archiver.flowdock import elements as module
from archiver.flowdock.elements import Element, Elements, Misshapen, elements
from archiver.flowdock.envelope import is_too_deep

texts = st.text(alphabet='ab"\\{}[],:é\n😀', max_size=6)
values = st.recursive(
    st.none() | st.integers(0, 10**20) | st.booleans() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
layouts = st.sampled_from([{}, {"indent": 4}, {"separators": (",", ":")}, {"ensure_ascii": False}])


def chopped(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def read(body: bytes, size: int = 7) -> list[Element]:
    return list(elements(chopped(body, size)))


@given(st.lists(values, max_size=6), layouts, st.integers(1, 60))
def test_elements_are_those_of_the_array_and_stand_where_they_say(
    array: list[Any], layout: dict[str, Any], size: int
) -> None:
    body = b" \n" + json.dumps(array, **layout).encode() + b"\n"
    found = read(body, size)
    assert [json.loads(one.raw) for one in found] == array
    assert all(body[one.at :].startswith(one.raw) for one in found)


def test_an_element_with_a_hole_does_not_hide_the_others() -> None:
    body = b'[{"id": 1},\n {"id": },\n {"id": "\\ud800"},\n {"id": 3}]'
    for size in (3, 1000):
        assert [one.raw for one in read(body, size)] == [
            b'{"id": 1}',
            b'{"id": }',
            b'{"id": "\\ud800"}',
            b'{"id": 3}',
        ]


def test_the_mark_that_windows_puts_before_a_file_is_no_part_of_the_array() -> None:
    for size in (3, 1000):
        assert read(b'\xef\xbb\xbf[{"id": 1}]', size) == [Element(4, b'{"id": 1}')]


@pytest.mark.parametrize(
    ("body", "reason", "at"),
    [
        (b"", "not a list of messages", 0),
        (b"  ", "not a list of messages", 2),
        (b'{"id": 1}', "not a list of messages", 0),
        (b"PK\x03\x04", "not a list of messages", 0),
        (b'[{"id": 1}', "the list is not closed", 10),
        (b'[{"id": 1},', "the list is not closed", 10),
        (b'[{"id": 1}, {"id": 2', "the list is not closed", 10),
        (b'[{"id": 1} {"id": 2}]', "a comma is missing", 11),
        (b'[{"id": 1},, {"id": 2}]', "an element is missing", 11),
        (b'[{"id": 1},]', "an element is missing", 11),
        (b'[{"id": 1}] [', "more after the end of the list", 12),
    ],
)
@pytest.mark.parametrize("size", [1, 4, 1000])
def test_what_is_no_whole_array_is_told_with_its_place(
    body: bytes, reason: str, at: int, size: int
) -> None:
    with pytest.raises(Misshapen) as caught:
        read(body, size)
    assert str(caught.value) == f"{reason} at byte {at}"
    assert caught.value.at == at


def test_an_element_without_end_is_not_read_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ELEMENT_BYTES", 1000)
    cut = Elements()
    assert list(cut.feed(b'["' + b"x" * 990)) == []
    with pytest.raises(Misshapen, match="more than 1,000 bytes at byte 1"):
        list(cut.feed(b"x" * 50))


@pytest.mark.parametrize("begin", [b"[", b'{"a":', b"[{},", b'["'])
def test_an_element_without_end_is_not_looked_at_with_each_chunk(begin: bytes) -> None:
    looked = 0

    class Looked(Elements):
        @override
        def _cut(self) -> Iterator[Element]:
            nonlocal looked
            looked += len(self._rest)
            return super()._cut()

    cut = Looked()
    body = b"[" + begin * 20_000
    for chunk in chopped(body, 100):
        assert list(cut.feed(chunk)) == []
    assert looked < 4 * len(body)


def test_what_was_not_looked_at_when_the_file_ends_is_read_all_the_same() -> None:
    long, short = b'"' + b"x" * 1000 + b'"', b"7"
    body = b"[" + long + (b"," + short) * 100 + b"]"
    for size in (10, 999, 1003, 1100):
        assert [one.raw for one in read(body, size)] == [long] + [short] * 100


@pytest.mark.parametrize("plain", [b"1", b"true", b'"a, ]\\\\"', b'"\\"{"', b"1e", b"a b"])
@pytest.mark.parametrize("blank", [b"", b" ", b"\r\n\t"])
def test_a_text_or_a_number_ends_whatever_stands_behind_it(plain: bytes, blank: bytes) -> None:
    body = b"[" + blank + plain + blank + b"," + blank + plain + blank + b"]"
    for size in (1, 1000):
        assert [one.raw for one in read(body, size)] == [plain, plain]


def test_escapes_take_no_memory_of_their_own() -> None:
    odd = b'{"a":"' + b"\\n[" * 500_000 + b'\\ud800"}'
    tracemalloc.start()
    try:
        assert not is_too_deep(odd)
        assert [one.raw for one in elements([b"[" + odd + b"]"])] == [odd]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * len(odd)


def test_no_pattern_of_ours_has_a_possessive_group() -> None:
    """Before Python 3.11.5, such a group may match wrongly if it has alternatives."""
    for path in Path(module.__file__).parents[1].rglob("*.py"):
        assert not re.search(r"\)[*+?}]\+", path.read_text()), path
