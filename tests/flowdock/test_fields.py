"""Single fields, in all the shapes that the service or anybody else may send."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.domain.model import Attachment, ThreadId
from archiver.flowdock.fields import (
    parent_of,
    read_attachments,
    read_flow,
    read_id,
    read_moment,
    read_name,
    read_reactions,
    read_tags,
    read_thread,
    read_thread_id,
    read_user,
)

MOMENT = datetime(2014, 3, 2, 9, 30, 0, 250_000, UTC)

FILE = {
    "file_name": "plan.pdf",
    "content_type": "application/pdf",
    "file_size": 20480,
    "path": "/files/12/0123456789abcdef/plan.pdf",
}


@pytest.mark.parametrize(
    ("value", "read"),
    [
        *[(good, good) for good in (1, 9492901419, 2**63 - 1)],
        *[(bad, None) for bad in [0, -1, 2**63, 10**30, 1.0, "5", True, None]],
    ],
    ids=lambda value: repr(value)[:20],
)
def test_an_id_is_a_positive_64_bit_number(value: Any, read: int | None) -> None:
    assert read_id(value) == read


@pytest.mark.parametrize(
    ("value", "read"),
    [
        *[("31", "31"), (31, "31"), ("0", "0"), (0, "0")],
        *[(bad, None) for bad in [None, True, 1.5, "", "9" * 300, 10**4400]],
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_user_is_text(value: Any, read: str | None) -> None:
    assert read_user(value) == read


@pytest.mark.parametrize("read", [read_user, read_flow, read_thread_id, read_name])
def test_an_id_or_a_name_is_text_that_an_index_takes(read: Callable[[Any], str | None]) -> None:
    for good in ("x", "acme:main", "x" * 255):
        assert read(good) == good
    for bad in (None, 1.5, "", "x" * 256, ["x"]):
        assert read(bad) is None


@pytest.mark.parametrize("value", [2**63 - 1, 1 - 2**63])
def test_a_number_of_64_bits_may_name_a_user_and_nothing_else(value: int) -> None:
    assert read_user(value) == str(value)
    assert read_user(value + (1 if value > 0 else -1)) is None
    assert [read(value) for read in (read_flow, read_thread_id, read_name)] == [None] * 3


@pytest.mark.parametrize(
    ("tags", "kept"),
    [
        ([], ()),
        (None, ()),
        (["Foo", "bar", "foo", "BAR", ":user:3"], ("Foo", "bar", ":user:3")),
        (["Foo", "bar"], ("Foo", "bar")),
        (["2014", 2014, 7], ("2014", "7")),
        (["a", None, True, 1.5, {}, ""], ("a",)),
        ([""], ()),
        (["a", "b" * 651], ("a",)),
        (["b" * 650], ("b" * 650,)),
        ("a, b,,A", ("a", "b")),
        ("a, " + "b" * 651, ("a",)),
        ({"a": 1}, ()),
        (7, ()),
    ],
)
def test_tags_keep_their_order_and_first_spelling(tags: Any, kept: tuple[str, ...]) -> None:
    assert read_tags(tags) == kept


@pytest.mark.parametrize(
    ("tags", "parent"),
    [
        (("a", "influx:4999"), 4999),
        (("influx:x",), None),
        ((":influx:4999",), None),
        (("influx:0",), None),
        (("influx:" + "9" * 19,), None),
        (("influx:٣",), None),
        ((), None),
    ],
)
def test_a_comment_belongs_to_the_message_of_its_tag(
    tags: tuple[str, ...], parent: int | None
) -> None:
    assert parent_of(tags) == parent


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (1393752600250, MOMENT),
        (1393752600250.0, MOMENT),
        ("2014-03-02T09:30:00.250Z", MOMENT),
        ("2014-03-02T10:30:00.250+01:00", MOMENT),
        ("2014-03-02T09:30:00.250", MOMENT),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (-1, datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)),
        (253402300799999, datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC)),
        (253402300800000, None),
        (10**400, None),
        (1e300, None),
        ("0001-01-01T00:00:00+23:59", None),
        ("soon", None),
        ("9" * 1000, None),
        ("1601010112345", None),
        (None, None),
        (True, None),
        ([], None),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_times_are_milliseconds_or_iso_text(value: Any, moment: datetime | None) -> None:
    assert read_moment(value) == moment


@given(st.integers(-62135596800000, 253402300799999))
def test_no_millisecond_is_lost(value: int) -> None:
    moment = read_moment(value)

    assert moment is not None
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000 == value
    assert since.microseconds % 1000 == 0


def test_attachments_are_read_and_a_file_is_its_own() -> None:
    plan = Attachment(
        file_name="plan.pdf",
        content_type="application/pdf",
        size_bytes=20480,
        path="/files/12/0123456789abcdef/plan.pdf",
    )
    odd = {"file_name": "odd", "file_size": "9", "path": 7}

    read = read_attachments([FILE, odd, "no", None], "message", "text")
    assert read == (plan, Attachment(file_name="odd"))
    nothing: list[Any] = [[], None, "no"]
    for none in nothing:
        assert read_attachments(none, "file", FILE) == (plan,)
        assert read_attachments(none, "file", "no") == ()
        assert read_attachments(none, "message", FILE) == ()


def test_reactions_are_ordered_by_emoji() -> None:
    reactions = {"tada": ["31", 32, "31"], "+1": ["33"], "none": [], "odd": "31", "": ["31"]}

    assert read_reactions(reactions) == (("+1", ("33",)), ("tada", ("31", "32")))
    assert read_reactions([]) == ()


THREAD = {
    "id": "aaaabbbbccccddddeeeeffff000",
    "title": "Door does not close",
    "external_url": "https://tracker.example/7",
    "status": {"value": "open", "color": "green"},
    "source": {"id": 3, "application": {"id": 9, "name": "Tracker"}},
    "activities": 2,
    "internal_comments": 1,
    "external_comments": 0,
    "updated_at": "2014-03-02T09:30:00.250Z",
}
DOCUMENTED = {"source": {"application": "Tracker"}, "status": "open", "updated_at": 1393752600250}


@pytest.mark.parametrize("value", [THREAD, THREAD | DOCUMENTED])
def test_a_thread_is_read_as_documented_and_as_it_was(value: dict[str, Any]) -> None:
    thread = read_thread(value, None)

    assert thread is not None
    assert (thread.id, thread.title, thread.status) == (value["id"], value["title"], "open")
    assert (thread.application, thread.external_url) == ("Tracker", value["external_url"])
    assert (thread.activities, thread.internal_comments, thread.external_comments) == (2, 1, 0)
    assert (thread.updated_at, thread.detail) == (MOMENT, value)


@pytest.mark.parametrize("odd", [None, 7, "x", [], {"y": 1}, -1, 2**31, 1e300])
def test_a_thread_without_the_rest_is_still_a_thread(odd: Any) -> None:
    thread = read_thread(dict.fromkeys(THREAD, odd) | {"id": "own"}, ThreadId("given"))

    assert thread is not None
    assert thread.id == "own"
    assert thread.activities in {None, 7}


@pytest.mark.parametrize(
    ("value", "given_id", "known"),
    [
        ({"id": "own"}, "given", "own"),
        ({}, "given", "given"),
        ({"id": 7}, None, None),
        ({"id": "x" * 300}, None, None),
        ([], "given", None),
        (None, "given", None),
    ],
)
def test_a_thread_is_known_by_its_own_id_or_the_events(
    value: Any, given_id: ThreadId | None, known: str | None
) -> None:
    thread = read_thread(value, given_id)

    assert (thread and thread.id) == known
