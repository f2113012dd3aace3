"""Facts give the same rows in any order: cases in which the order once made a difference."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations

import psycopg
import pytest

from archiver.ingest.absence import NOT_FOUND
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.ingest.rebuild import check
from archiver.store.engine import connect
from tests.ingest.arriving import (
    NOW,
    SENT,
    Gone,
    Heard,
    derived,
    edit,
    frame,
    gone,
    listed,
    new_flow,
    query,
    running,
    streamed,
    tag_change,
    together,
)


@pytest.fixture
def archive(database_url):
    """A function that archives batches in a new flow, and returns the rows of that flow."""
    with (
        running(database_url) as (run, engine),
        psycopg.connect(database_url, autocommit=True) as admin,
    ):

        async def archived(batches: Sequence[Sequence[Heard]]) -> int:
            flow_key = await new_flow(engine)
            for batch in batches:
                await apply(engine, together(batch, flow_key))
            return flow_key

        yield lambda *batches: derived(admin, run(archived(batches)))


def stream(payload: bytes, seconds: int = 0) -> Heard:
    return Heard(payload, seconds)


def listing(payload: bytes, as_of: int, seconds: int = 0) -> Heard:
    return Heard(payload, seconds, as_of)


def absence(id_: int, as_of: int, seconds: int = 0) -> Heard:
    return Gone(NOT_FOUND, seconds, as_of, id_)


PLAIN = frame(10)
TAGGED = frame(10, tags=["todo"])
RETOLD = frame(10, user="2", sent=SENT + 99)
UNKNOWN = frame(10, "flow-rename", thread={"id": "t", "title": "a title"})
OPPOSED = tag_change(20, 10, add=["todo", "Bug"], remove=["todo"])

HAPPENINGS = {
    "a form that listings show again after another": [
        listing(PLAIN, 12), listing(TAGGED, 14), listing(PLAIN, 16),
    ],
    "a streamed form that a listing shows again after another": [
        stream(PLAIN), listing(TAGGED, 14), listing(PLAIN, 16),
    ],
    "a form that listings show again and again": [
        stream(PLAIN), listing(TAGGED, 14, 1), listing(TAGGED, 14, 2), listing(TAGGED, 18, 3),
    ],
    "forms that take turns": [
        listing(PLAIN, 12), listing(TAGGED, 14), listing(PLAIN, 16, 1), listing(TAGGED, 18),
    ],
    "forms that take turns while the head stands still": [
        stream(PLAIN, 9), listing(TAGGED, 10, 1), listing(PLAIN, 10, 2),
    ],
    "a listing that tells another sender, and then a change": [
        stream(PLAIN), listing(RETOLD, 15), stream(tag_change(20, 10, add=["todo"])),
    ],
    "a listing that tells another time, and nothing else": [
        stream(PLAIN), listing(RETOLD, 15),
    ],
    "an event unknown on the stream and then listed": [
        stream(UNKNOWN), listing(UNKNOWN, 15), stream(tag_change(13, 10, add=["todo"])),
    ],
    "an unknown event that is listed while the head stands still": [
        stream(UNKNOWN), listing(UNKNOWN, 10, 1), stream(tag_change(13, 10, add=["todo"])),
    ],
    "a change in two forms that say the same": [
        stream(PLAIN), stream(OPPOSED), stream(OPPOSED + b" "),
    ],
    "an edit of itself": [
        stream(edit(10, 10, "myself")), listing(PLAIN, 12), listing(edit(10, 10, "myself"), 12),
    ],
    "numbers that JSON keeps and machines do not": [
        stream(frame(10, "vcs", content={"n": 10**25, "x": 1e300, "y": -0.0})),
        stream(tag_change(20, 10, add=["todo"])), stream(tag_change(21, 10, remove=["todo"])),
    ],
    "threads shown by events of one id": [
        stream(frame(10, thread={"id": "t", "title": "one"}, thread_id="t")),
        listing(frame(10, thread={"id": "t", "title": "two"}, thread_id="t"), 15),
        stream(frame(9, thread={"id": "t", "title": "three"}, thread_id="t")),
    ],
    "a message deleted and then listed": [
        stream(PLAIN), stream(frame(15, "message-delete", content={"message": 10})),
        listing(TAGGED, 20),
    ],
    "changes that a listing shows before they are heard": [
        stream(PLAIN), listing(frame(10, content="b", edited=SENT + 30, tags=["todo"]), 12),
        stream(edit(20, 10, "a", updated_tags=["Bug"])), stream(edit(30, 10, "b")),
    ],
    "a change that a listing shows before it is heard": [
        stream(PLAIN), listing(TAGGED, 12), stream(tag_change(20, 10, add=["todo"])),
    ],
    "a message that was found absent before its deletion is heard": [
        stream(PLAIN), absence(10, 12),
        stream(frame(15, "message-delete", content={"message": 10})),
    ],
    "a message that was found absent": [
        stream(PLAIN), absence(10, 20), stream(tag_change(15, 10, add=["todo"])),
    ],
    "a message that was found absent and is listed again": [
        listing(PLAIN, 12), absence(10, 20), listing(PLAIN, 25),
    ],
}  # fmt: skip


@pytest.mark.parametrize("happening", HAPPENINGS)
def test_the_order_of_arrival_makes_no_difference(archive, happening):
    arrivals = HAPPENINGS[happening]
    expected = archive(arrivals)
    assert expected["messages"]
    for order in permutations(arrivals):
        assert archive(*([one] for one in order)) == expected
        assert archive(order) == expected
        assert archive(order[:1], order[1:]) == expected


def test_a_change_that_listings_show_is_as_old_as_the_first_of_them(archive):
    first = [stream(PLAIN), listing(TAGGED, 14, 1)]
    expected = archive(first)["revisions"]
    again = [listing(TAGGED, 14, 2), listing(TAGGED, 18, 3)]
    for order in permutations([*first, *again]):
        assert archive(*([one] for one in order))["revisions"] == expected


def test_a_change_that_was_heard_is_not_taken_from_whoever_made_it(archive):
    """A listing may show a change that is newer than the listing's position."""
    heard = [stream(PLAIN), stream(edit(15, 10, "edited"))]
    shown = frame(10, content="edited", edited=SENT + 15)
    early, later = listing(shown, 14, 1), listing(shown, 18, 2)
    for order in permutations([*heard, early, later]):
        assert archive(*([one] for one in order))["revisions"] == archive(heard)["revisions"]


def test_what_comes_back_is_no_older_than_what_was_in_between(archive):
    turns = [listing(PLAIN, 12, 1), listing(TAGGED, 14, 2), listing(PLAIN, 16, 3)]
    history = archive(turns)["revisions"]
    positions = [json.loads(row)["revision"] for row in history]
    assert positions == sorted(positions)


async def test_a_listing_is_newer_than_one_of_a_clock_that_was_fast(database_url):
    """While nothing is said in the flow, only times order its listings, and clocks go back."""
    shown = "SELECT tags, deleted_at IS NOT NULL FROM store.messages"
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        for hours, arrival in enumerate(
            [
                listed(PLAIN, flow_key, as_of=10, at=NOW + timedelta(hours=9)),
                listed(TAGGED, flow_key, as_of=10, at=NOW + timedelta(hours=1)),
                listed(PLAIN, flow_key, as_of=10, at=NOW + timedelta(hours=2)),
                gone(10, flow_key, as_of=10, at=NOW + timedelta(hours=3)),
                listed(TAGGED, flow_key, as_of=10, at=NOW + timedelta(hours=4)),
            ]
        ):
            await apply(engine, Batch(now=NOW + timedelta(hours=hours), arrivals=[arrival]))
            tags = ["todo"] if arrival.frame == TAGGED else []
            assert query(database_url, shown) == [(tags, arrival.witness == "show")]
            assert [step async for step in check(engine, flow_key) if step.differences] == []


async def test_what_a_stream_brings_is_dated_by_no_listing(database_url):
    """A listing dated by a fast clock arrives first, and then the message as it was sent."""
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        for arrival in (
            listed(TAGGED, flow_key, as_of=10, at=NOW + timedelta(hours=9)),
            streamed(PLAIN, flow_key),
        ):
            await apply(engine, Batch(now=NOW, arrivals=[arrival]))
        assert query(database_url, "SELECT tags FROM store.messages") == [(["todo"],)]
        assert query(database_url, "SELECT witness FROM archive.forms ORDER BY 1") == [
            ("list",),
            ("stream",),
        ]


async def test_after_the_last_moment_that_a_file_may_tell_messages_are_listed_all_the_same(
    database_url,
):
    end = datetime.max.replace(tzinfo=UTC)
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        for arrival in (
            listed(PLAIN, flow_key, as_of=10, at=end),
            listed(TAGGED, flow_key, as_of=10, at=NOW),
            listed(TAGGED, flow_key, as_of=11, at=NOW),
        ):
            await apply(engine, Batch(now=NOW, arrivals=[arrival]))
        assert query(database_url, "SELECT tags FROM store.messages") == [(["todo"],)]
        assert [step async for step in check(engine, flow_key) if step.differences] == []
