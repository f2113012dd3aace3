"""The newest ids of flows: only what has settled is due."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from archiver.ingest.heads import BEHIND_SECONDS, Heads


def test_what_was_just_seen_is_newest_but_not_settled():
    heads = Heads(settling_seconds=2)
    heads.seen(1, 10, at=0)
    heads.seen(1, 20, at=1.5)
    assert heads.newest(1) == 20
    assert heads.settled(1, now=1.9) == 0
    assert heads.settled(1, now=2) == 10
    assert heads.settled(1, now=3.5) == 20


def test_an_unknown_flow_has_no_head():
    heads = Heads(settling_seconds=2)
    assert (heads.newest(1), heads.settled(1, now=9), heads.due(now=9)) == (0, 0, {})


def test_what_the_ledger_knew_is_settled_and_is_not_told_again():
    heads = Heads(settling_seconds=2)
    heads.restore({1: 50})
    assert (heads.newest(1), heads.settled(1, now=0), heads.due(now=0)) == (50, 50, {})
    heads.seen(1, 40, at=0)
    assert (heads.newest(1), heads.due(now=9)) == (50, {})
    heads.seen(1, 60, at=9)
    assert heads.due(now=99) == {1: 60}
    assert heads.due(now=99) == {1: 60}
    heads.noted({1: 60})
    assert heads.due(now=99) == {}


def test_flows_of_which_nothing_is_new_take_little_memory():
    """In ten years, tens of thousands of flows may have been closed, and the rest is looked at."""
    heads, many = Heads(settling_seconds=2), range(10_000)
    heads.restore(dict.fromkeys(many, 50))
    tracemalloc.start()
    try:
        for flow_key in many:
            heads.seen(flow_key, 50, at=0)
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 3)), max_size=30))
def test_what_is_settled_is_the_newest_that_was_seen_early_enough(seen):
    heads, now, told = Heads(settling_seconds=2), 0.0, []
    for id_, pause in seen:
        now += pause
        heads.seen(1, id_, at=now)
        told.append((now, id_))
        expected = max((one for at, one in told if at <= now - 2), default=0)
        assert heads.settled(1, now=now) == expected
        assert heads.newest(1) == max(one for _, one in told)


def test_what_is_heard_late_does_not_put_back_what_the_ledger_knew():
    heads = Heads(settling_seconds=1.0)
    heads.restore({1: 9})
    heads.seen(1, 5, at=0.0)
    assert (heads.newest(1), heads.settled(1, now=50.0)) == (9, 9)
    assert heads.due(now=50.0) == {}


def test_what_was_heard_early_does_not_put_back_what_another_daemon_noted_since():
    heads = Heads(settling_seconds=1.0)
    heads.seen(1, 5, at=0.0)
    heads.restore({1: 9})
    assert (heads.newest(1), heads.settled(1, now=50.0)) == (9, 9)
    assert heads.due(now=50.0) == {}


def test_what_a_stream_brought_is_due_once_the_stream_has_claimed_what_it_proves():
    heads = Heads(settling_seconds=1.0)
    heads.claimed(up_to=0.0)
    heads.seen(1, 10, at=3.0)
    assert heads.due(now=5.0) == {}
    heads.claimed(up_to=3.9)
    assert heads.due(now=5.0) == {}
    heads.claimed(up_to=4.0)
    assert heads.due(now=5.0) == {1: 10}


def test_claims_that_never_come_are_not_waited_for_for_ever():
    heads = Heads(settling_seconds=1.0)
    heads.claimed(up_to=0.0)
    heads.seen(1, 10, at=3.0)
    assert heads.due(now=3.9 + BEHIND_SECONDS) == {}
    assert heads.due(now=4.0 + BEHIND_SECONDS) == {1: 10}


def test_where_nothing_is_listed_the_first_id_is_due_of_a_flow_that_has_begun():
    heads = Heads(settling_seconds=1.0)
    heads.begun({1, 3})
    heads.restore({3: 50})
    for flow_key in (1, 2, 3):
        heads.found_empty(flow_key, at=0.0)
    assert [heads.newest(flow_key) for flow_key in (1, 2, 3)] == [1, 0, 50]
    assert heads.due(now=5.0) == {1: 1}
