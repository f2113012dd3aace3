"""What a verification makes of what it saw."""

from datetime import UTC, datetime
from hashlib import md5

import pytest
from msgspec.structs import replace

from archiver.domain.coverage import Ranges
from archiver.domain.events import Posted
from archiver.ingest.looks import Difference, Look, compare, listed_again, stored_differently
from archiver.store.coverage import Standing
from archiver.store.verifying import Seen
from tests.ingest.arriving import NOW, frame, listed

PROVEN = Standing(listed=Ranges(((1, 9),)), due=9)


def look(after: Standing, *, first: int = 1, troubles: tuple[str, ...] = ()) -> Look:
    it = Look.over(1, PROVEN, first, now=0.0)
    it.after = after
    it.troubles += troubles
    return it


def test_what_is_proven_and_free_of_doubt_is_certain():
    assert not look(PROVEN).is_doubtful


def test_gaps_doubts_and_troubles_are_doubts_within_what_was_to_be_verified():
    gap = replace(PROVEN, listed=Ranges(((1, 3), (5, 9))))
    doubted = replace(PROVEN, doubted=Ranges(((4, 4),)))
    for after, told in ((gap, "gaps"), (doubted, "doubted")):
        assert getattr(look(after), told) == Ranges(((4, 4),))
        assert look(after).is_doubtful
        assert not look(after, first=5).is_doubtful
    assert look(PROVEN, troubles=("no answer",)).is_doubtful


def test_what_is_missing_is_a_gap_and_no_doubt():
    after = replace(PROVEN, listed=Ranges(((1, 3),)), doubted=Ranges(((1, 9),)))
    assert look(after).gaps == Ranges(((4, 9),))
    assert look(after).doubted == Ranges(((1, 3),))


def test_only_what_was_heard_after_the_message_was_written_explains_a_difference():
    it = look(PROVEN)
    for id_ in (1, 2, 3):
        it.differences[id_] = Difference(
            id=id_, kind="changed", fields=("content",), before="a", after="b", as_of=7
        )
    it.excuse({id_: {"message-edit": newest} for id_, newest in {1: 8, 2: 7, 3: 6}.items()})
    assert set(it.differences) == {2, 3}
    assert it.meanwhile == 1


def test_a_change_explains_what_it_changes_and_nothing_else():
    it = look(PROVEN)
    for id_, fields in {1: ("tags",), 2: ("content", "tags"), 3: ("content",)}.items():
        it.differences[id_] = Difference(
            id=id_, kind="changed", fields=fields, before="a", after="b", as_of=7
        )
    it.excuse({id_: {"tag-change": 8, "emoji-reaction": 9} for id_ in (1, 2, 3)})
    assert set(it.differences) == {2, 3}
    it.excuse({2: {"message-edit": 6, "tag-change": 8}, 3: {"message-edit": 9}})
    assert set(it.differences) == {2}


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("message-edit", {"content", "kind", "tags", "deleted"}),
        ("tag-change", {"tags"}),
        ("emoji-reaction", {"reactions"}),
        ("message-change", {"thread"}),
        ("message-delete", {"content", "deleted"}),
        ("of no known kind", set()),
    ],
)
def test_each_kind_of_change_explains_what_it_may_do_to_a_message(kind, changed):
    it = look(PROVEN)
    for id_, name in enumerate(("content", "kind", "tags", "deleted", "reactions", "thread")):
        it.differences[id_] = Difference(
            id=id_, kind="changed", fields=(name,), before="a", after="b", as_of=7
        )
    explained = {id_: one.fields[0] for id_, one in it.differences.items()}
    it.excuse({id_: {kind: 8} for id_ in explained})
    assert {explained[id_] for id_ in explained.keys() - it.differences.keys()} == changed


def test_what_is_claimed_beyond_what_is_to_be_verified_is_not_looked_at():
    it = look(PROVEN, first=5)
    assert it.scope == it.claimed == Ranges(((5, 9),))


WAS = Seen(
    content="a",
    text_digest=md5(b"a", usedforsecurity=False).hexdigest(),
    digest="a",
    event="message",
    user_id="1",
    sent_at=None,
    external_user_name=None,
    tags=(),
    thread_id=None,
    reactions="",
    is_deleted=False,
    as_of=7,
)


@pytest.mark.parametrize(
    ("now", "fields"),
    [
        ({"content": "b", "digest": "b"}, ("content",)),
        ({"digest": "b"}, ("content",)),
        ({"event": "comment"}, ("kind",)),
        ({"user_id": "2"}, ("sender",)),
        ({"external_user_name": "robot"}, ("sender",)),
        ({"sent_at": NOW}, ("time",)),
        ({"tags": ("x",), "thread_id": "t"}, ("tags", "thread")),
        ({"reactions": "{}"}, ("reactions",)),
        ({"is_deleted": True}, ("deleted",)),
    ],
)
def test_what_differs_is_told_in_peoples_words(now, fields):
    (told,) = compare({1: WAS}, {1: replace(WAS, **now)}, listed={1})
    assert told.fields == fields
    assert (told.before, told.after) == ("a", now.get("content", "a"))


@pytest.mark.parametrize(
    ("now", "is_otherwise"),
    [
        ({}, False),
        ({"content": "b"}, True),
        ({"user": "2"}, True),
        ({"sent": 1000}, True),
        ({"thread_id": "t"}, True),
        ({"event": "comment"}, True),
        ({"tags": ["x", "y"]}, True),
        ({"tags": [":unread:1"]}, False),
    ],
)
def test_what_is_listed_otherwise_than_it_is_stored_is_found_unless_something_newer_is_known(
    now, is_otherwise
):
    (arrival,) = arrivals = [listed(frame(5, **{"sent": 0, "content": "a", **now}), 1, as_of=7)]
    stored = replace(WAS, sent_at=datetime.fromtimestamp(0, UTC))
    assert stored_differently(arrivals, {5: stored}) == ([5] if is_otherwise else [])
    assert stored_differently(arrivals, {5: replace(stored, as_of=8)}) == []
    assert stored_differently([arrival], {}) == []


def test_only_what_is_deleted_by_now_and_was_not_listed_has_vanished():
    gone, tagged = replace(WAS, is_deleted=True), replace(WAS, tags=("x",))
    before = dict.fromkeys((1, 2, 3, 4), WAS) | {5: gone}
    after = {1: gone, 2: gone, 3: tagged, 4: WAS, 5: replace(gone, tags=("x",)), 6: WAS}
    told = [(one.id, one.kind, one.as_of) for one in compare(before, after, listed={2})]
    assert told == [
        (1, "vanished", 7),
        (2, "changed", 7),
        (3, "changed", 7),
        (5, "changed", 7),
        (6, "not held", 0),
    ]


@pytest.mark.parametrize(
    ("now", "is_again"),
    [
        ({"event": "file", "content": {"file_name": "a"}}, True),
        ({"event": "message", "content": "a"}, True),
        ({"event": "message", "content": ""}, False),
    ],
)
def test_what_is_listed_though_it_was_deleted_is_found_unless_something_newer_is_known(
    now, is_again
):
    (arrival,) = arrivals = [listed(frame(5, **{"sent": 0, **now}), 1, as_of=7)]
    assert isinstance(arrival.decoded, Posted)
    text = arrival.decoded.content
    stored = replace(
        WAS,
        text_digest=md5(text.encode(), usedforsecurity=False).hexdigest(),
        event=now["event"],
        sent_at=datetime.fromtimestamp(0, UTC),
        is_deleted=True,
    )
    assert listed_again(arrivals, {5: stored}) == ([5] if is_again else [])
    assert listed_again(arrivals, {5: replace(stored, is_deleted=False)}) == []
    assert listed_again(arrivals, {5: replace(stored, as_of=8)}) == []
