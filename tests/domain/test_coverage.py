import time
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from archiver.domain.coverage import Continuity, Head, Ranges

span = st.tuples(st.integers(1, 50), st.integers(-2, 6)).map(lambda one: (one[0], sum(one)))
"""Short ranges, so that many of them touch, and some are empty."""
spans = st.lists(span, max_size=12)


def ids(ranges: Ranges) -> set[int]:
    return {id_ for first, last in ranges for id_ in range(first, last + 1)}


@given(spans)
def test_a_set_of_ranges_holds_just_the_ids_of_its_spans(given_spans):
    ranges = Ranges.of(given_spans)

    assert ids(ranges) == {id_ for a, b in given_spans for id_ in range(a, b + 1)}
    assert ranges.size() == len(ids(ranges))
    assert {id_ for id_ in range(63) if id_ in ranges} == ids(ranges)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(ranges))
    if ranges:
        assert (ranges.first, ranges.last) == (min(ids(ranges)), max(ids(ranges)))


@example([(1, 3), (5, 7)], [(2, 6)])
@given(spans, spans)
def test_union_difference_and_intersection_are_those_of_sets(left, right):
    a, b = Ranges.of(left), Ranges.of(right)

    assert ids(a | b) == ids(a) | ids(b)
    assert ids(a - b) == ids(a) - ids(b)
    assert ids(a & b) == ids(a) & ids(b)
    assert a | b == b | a
    assert (a | b).spans == Ranges.of((a | b).spans).spans


def test_the_difference_of_many_ranges_takes_no_time():
    odd = Ranges(tuple((id_, id_) for id_ in range(1, 200_000, 2)))
    even = Ranges(tuple((id_, id_) for id_ in range(2, 200_000, 2)))
    began = time.process_time()

    assert odd - even == odd
    assert not odd - odd
    assert time.process_time() - began < 5


@given(st.permutations(range(5, 25)), st.integers(0, 20), st.integers(0, 5))
def test_a_connection_claims_nothing_that_may_still_be_on_its_way(arrivals, cut, settling):
    """Events may be late by at most the settling time; then the connection is cut."""
    late = sorted(range(len(arrivals)), key=lambda at: at + (arrivals[at] % (settling + 1)))
    order = [sorted(arrivals)[at] for at in late]
    continuity = Continuity(since=0)
    for at, id_ in enumerate(order[:cut]):
        continuity.arrived(id_, at=at)

    claim = continuity.settled(before=cut - 1 - settling)

    assert ids(claim) <= set(order[:cut])


def test_what_came_before_the_claims_begin_is_not_claimed():
    continuity = Continuity(since=10)
    for at, id_ in [(1, 3), (2, 7), (11, 9), (12, 14)]:
        continuity.arrived(id_, at=at)

    assert continuity.settled(before=20) == Ranges(((9, 14),))


def test_the_first_message_of_a_flow_is_claimed():
    continuity = Continuity(since=0)
    continuity.arrived(1, at=1)
    assert continuity.settled(before=1) == Ranges(((1, 1),))


def test_what_comes_as_the_claims_begin_is_claimed():
    continuity = Continuity(since=10)
    begun = []
    for at, id_ in [(9, 3), (10, 9)]:
        continuity.arrived(id_, at=at)
        begun.append(continuity.has_begun)

    assert begun == [False, True]
    assert continuity.settled(before=10) == Ranges(((9, 9),))


def test_what_comes_late_takes_nothing_from_a_claim():
    continuity = Continuity(since=0)
    for at, id_ in [(1, 5), (2, 9), (3, 7), (4, 9)]:
        continuity.arrived(id_, at=at)

    assert continuity.settled(before=1) == Ranges(((5, 5),))
    assert continuity.settled(before=3) == Ranges(((6, 9),))
    assert not continuity.settled(before=4)


def test_a_claim_is_told_once_and_goes_on_behind_what_was_told():
    continuity = Continuity(since=0)
    continuity.arrived(5, at=1)
    assert continuity.settled(before=1) == Ranges(((5, 5),))
    assert not continuity.settled(before=2)

    continuity.arrived(9, at=3)
    assert not continuity.settled(before=2)
    assert continuity.settled(before=3) == Ranges(((6, 9),))


def test_what_is_left_out_is_not_claimed_in_whatever_order_it_comes():
    continuity = Continuity(since=0)
    for at, id_ in [(1, 5), (2, 9), (3, 7), (4, 12)]:
        continuity.arrived(id_, at=at)
        if id_ in {7, 12}:
            continuity.leave_out(id_, at=at)

    assert continuity.settled(before=2) == Ranges(((5, 6), (8, 9)))
    assert continuity.settled(before=4) == Ranges(((10, 11),))
    continuity.arrived(13, at=5)
    assert continuity.settled(before=5) == Ranges(((13, 13),))


def test_what_is_left_out_before_the_claims_begin_is_not_claimed_by_what_is_older():
    continuity = Continuity(since=10)
    continuity.arrived(7, at=9)
    continuity.leave_out(7, at=9)
    continuity.arrived(5, at=10)
    assert not continuity.settled(before=9)

    continuity.arrived(9, at=11)
    assert continuity.settled(before=11) == Ranges(((5, 6), (8, 9)))


def test_what_is_left_out_again_and_again_takes_no_memory():
    """A service that repeats an event in a quiet flow must not fill the memory."""
    continuity = Continuity(since=0)
    continuity.arrived(5, at=1)
    assert continuity.settled(before=1)
    tracemalloc.start()
    try:
        for at in range(2, 2002):
            continuity.arrived(5, at=at)
            continuity.leave_out(5, at=at)
            assert not continuity.settled(before=at - 1)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 20_000


def test_a_head_settles_when_it_has_been_known_for_a_while():
    head = Head()
    head.seen(5, at=1)
    head.seen(9, at=4)
    head.seen(7, at=5)

    assert head.newest == 9
    assert head.settled(before=0) == 0
    assert head.settled(before=3) == 5
    assert head.settled(before=4) == 9
    assert head.settled(before=1) == 9

    head.seen(9, at=6)
    head.seen(10, at=7)
    assert head.settled(before=6) == 9
    assert head.settled(before=7) == 10


def test_of_what_came_at_one_time_the_newest_counts():
    head = Head()
    for id_, at in [(3, 1), (5, 2), (9, 2), (12, 3), (14, 3), (15, 3)]:
        head.seen(id_, at=at)

    assert [head.settled(before=at) for at in (1, 2, 3)] == [3, 9, 15]


@pytest.mark.parametrize("first", [1, 5])
def test_the_first_id_that_is_seen_settles_as_late_as_any(first):
    head = Head()
    assert head.newest == 0
    head.seen(first, at=10.0)
    assert (head.newest, head.settled(before=9.0)) == (first, 0)
    assert head.settled(before=10.0) == first
