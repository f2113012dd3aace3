"""What is asked for next: all that is missing, each range once at a time, newest first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.domain.coverage import Ranges
from archiver.ingest.agenda import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    MOST_SLICES,
    Agenda,
    Slice,
)

_ends = st.integers(1, 300) | st.integers(1, 2**63 - 2)
_gaps = st.dictionaries(
    st.integers(1, 3),
    st.lists(st.tuples(_ends, _ends), min_size=1, max_size=4).map(Ranges.of).filter(bool),
    max_size=3,
)


def all_of(agenda: Agenda) -> list[tuple[int, int, int]]:
    """Take all slices that are open, as flow, first and last id."""
    slices = []
    while one := agenda.take():
        slices.append((one.flow_key, one.first, one.last))
    return slices


_densities = st.dictionaries(st.integers(1, 3), st.tuples(st.integers(1, 10**9), _ends))


@given(_gaps, _densities, st.booleans())
def test_everything_missing_is_handed_out_once(gaps, densities, side_by_side):
    agenda = Agenda(side_by_side=side_by_side)
    for flow_key, (messages, ids) in densities.items():
        agenda.learn(flow_key, ids=ids, messages=messages)
    agenda.plan(gaps, now=0)
    handed: dict[int, list[tuple[int, int]]] = {}
    for flow_key, first, last in all_of(agenda):
        handed.setdefault(flow_key, []).append((first, last))
    for flow_key, missing in gaps.items():
        assert Ranges.of(handed[flow_key]) == missing
        assert all(first <= last for first, last in handed[flow_key])
        assert sum(last - first + 1 for first, last in handed[flow_key]) == missing.size()
        assert len(handed[flow_key]) <= len(missing.spans) * (MOST_SLICES + 1)
    assert handed.keys() == gaps.keys()


@given(_gaps, _densities)
def test_what_is_newest_in_its_flow_comes_first_in_all_flows(gaps, densities):
    agenda = Agenda()
    for flow_key, (messages, ids) in densities.items():
        agenda.learn(flow_key, ids=ids, messages=messages)
    agenda.plan(gaps, now=0)
    newest = {flow_key: missing.last for flow_key, missing in gaps.items()}
    ages = [newest[flow_key] - last for flow_key, _, last in all_of(agenda)]
    assert ages == sorted(ages)


def test_a_flow_is_known_once_messages_of_it_were_seen():
    agenda, known = Agenda(), []
    for messages in (0, 3):
        agenda.learn(1, ids=10, messages=messages)
        known.append(agenda.is_known(1))
    assert known == [False, True]


@given(st.lists(_gaps, min_size=1, max_size=5), st.data())
def test_work_under_way_is_never_handed_out_again(plans, data):
    agenda = Agenda()
    under_way: list[Slice] = []
    for gaps in plans:
        agenda.look()
        agenda.plan(gaps, now=0)
        for _ in range(data.draw(st.integers(0, 4))):
            if one := agenda.take():
                for other in under_way:
                    apart = one.last < other.first or other.last < one.first
                    assert apart or one.flow_key != other.flow_key
                under_way.append(one)
        while under_way and data.draw(st.booleans()):
            agenda.done(under_way.pop())
    agenda.look()
    assert agenda.is_empty is (not agenda.has_open and not under_way)


@given(_gaps.filter(bool), st.lists(st.floats(0, 5), max_size=5))
def test_what_failed_rests_and_is_handed_out_again(gaps, waits):
    agenda, now = Agenda(), 0.0
    for wait in waits:
        now += wait
        agenda.look()
        agenda.plan(gaps, now=now)
        for flow_key, first, last in all_of(agenda):
            agenda.rest(flow_key, Ranges(((first, last),)), asked_at=now, now=now)
        for one in list(agenda._under_way):
            agenda.done(one)
        agenda.look()
        agenda.plan(gaps, now=now)
        assert not agenda.has_open
    agenda.look()
    agenda.plan(gaps, now=now + LONGEST_PAUSE_SECONDS)
    assert {flow_key for flow_key, _, _ in all_of(agenda)} == gaps.keys()


def test_what_was_done_after_the_ledger_was_read_is_not_handed_out_again():
    agenda, gaps = Agenda(), {1: Ranges(((1, 9),))}
    agenda.look()
    agenda.plan(gaps, now=0)
    agenda.look()
    for one in [agenda.take()]:
        assert one
        agenda.done(one)
    agenda.plan(gaps, now=0)
    assert not agenda.has_open
    assert not agenda.is_empty

    agenda.look()
    agenda.plan({}, now=0)
    assert agenda.is_empty


def failed(agenda: Agenda, flow_key: int, missing: Ranges, *, now: float) -> float:
    """How long a range rests after a request for it that failed at once."""
    return agenda.rest(flow_key, missing, asked_at=now, now=now)


def test_rests_grow_and_have_a_bound():
    agenda, missing = Agenda(), Ranges(((1, 9),))
    pauses = [failed(agenda, 1, missing, now=0) for _ in range(2000)]
    assert pauses[:3] == [FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS, 4 * FIRST_PAUSE_SECONDS]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
    assert failed(agenda, 2, missing, now=0) == FIRST_PAUSE_SECONDS


def test_a_failure_of_long_ago_makes_no_rest_longer():
    agenda, missing = Agenda(), Ranges(((1, 9),))
    for _ in range(20):
        failed(agenda, 1, missing, now=0)
    assert failed(agenda, 1, missing, now=2 * LONGEST_PAUSE_SECONDS) == LONGEST_PAUSE_SECONDS
    assert failed(agenda, 1, missing, now=4 * LONGEST_PAUSE_SECONDS + 1) == FIRST_PAUSE_SECONDS


def test_the_newest_of_every_flow_comes_first():
    agenda = Agenda()
    agenda.learn(1, ids=1000, messages=1000)
    agenda.plan({1: Ranges(((1, 5000),)), 2: Ranges(((1, 10),))}, now=0)
    taken = all_of(agenda)
    assert taken[:2] == [(1, 4001, 5000), (2, 1, 10)]
    assert [last for flow_key, _, last in taken if flow_key == 1] == [5000, 4000, 3000, 2000, 1000]


def test_where_nothing_is_paged_side_by_side_a_gap_is_the_newest_and_the_rest():
    agenda = Agenda(side_by_side=False)
    agenda.learn(1, ids=1000, messages=1000)
    agenda.learn(2, ids=3000, messages=8)
    agenda.plan({1: Ranges(((1, 100_000),)), 2: Ranges(((1, 9_492_913_216),))}, now=0)
    taken = all_of(agenda)
    assert taken[0] == (1, 98_438, 100_000)
    assert sorted((last, first) for flow, first, last in taken if flow == 1) == [
        (98_437, 1),
        (100_000, 98_438),
    ]
    sparse = [(first, last) for flow, first, last in taken if flow == 2]
    assert len(sparse) == 2
    assert Ranges.of(sparse) == Ranges(((1, 9_492_913_216),))


def audited(gaps: dict[int, Ranges], *, ids: int, messages: int) -> list[tuple[int, int, int]]:
    """All slices in turn, where the ledger is read again before each, until nothing is missing."""
    agenda = Agenda(side_by_side=False)
    handed: list[tuple[int, int, int]] = []
    for flow_key in gaps:
        agenda.learn(flow_key, ids=ids, messages=messages)
    while True:
        agenda.look()
        agenda.plan(gaps, now=0)
        one = agenda.take()
        if one is None:
            return handed
        handed.append((one.flow_key, one.first, one.last))
        gaps[one.flow_key] -= Ranges(((one.first, one.last),))
        agenda.done(one)


def test_the_newest_of_every_flow_comes_first_however_often_is_planned_anew():
    gaps = dict.fromkeys((1, 2), Ranges(((1, 10_000),)))
    handed = audited(gaps, ids=1000, messages=1000)
    newest, rest = (9001, 10_000), (1, 9000)
    assert handed == [(1, *newest), (2, *newest), (1, *rest), (2, *rest)]


def test_what_is_sparse_takes_no_more_slices_however_often_is_planned_anew():
    assert len(audited({1: Ranges(((1, 9_492_913_216),))}, ids=3000, messages=8)) == 2


@pytest.mark.parametrize(
    ("found", "is_cut_far_too_small", "width"),
    [(0, True, 64_000), (499, True, 2004), (500, False, 2000), (1500, False, 1000)],
)
def test_slices_get_wider_where_one_held_little_and_never_narrower(
    found, is_cut_far_too_small, width
):
    agenda = Agenda()
    agenda.learn(1, ids=1000, messages=1000)
    assert agenda.widen(1, ids=1000, messages=found) is is_cut_far_too_small
    agenda.plan({1: Ranges(((1, 64_000),))}, now=0)
    assert all_of(agenda)[0] == (1, 64_001 - width, 64_000)


def test_where_pages_are_asked_for_side_by_side_older_gaps_are_cut_like_the_newest():
    agenda = Agenda()
    agenda.learn(1, ids=1000, messages=1000)
    agenda.plan({1: Ranges(((1, 2000), (9001, 11_000)))}, now=0)
    assert [first for _, first, _ in all_of(agenda)] == [10_001, 9001, 1001, 1]


def test_what_is_asked_for_of_one_flow_is_handed_out_of_another():
    agenda, missing = Agenda(), Ranges(((1, 9),))
    for flow_key in (1, 2):
        agenda.plan({flow_key: missing}, now=0)
        assert agenda.take() == Slice(0, flow_key, 1, 9)


def test_a_flow_of_unknown_density_is_asked_for_in_one_piece():
    agenda = Agenda()
    agenda.plan({1: Ranges(((1, 10**12),))}, now=0)
    assert all_of(agenda) == [(1, 1, 10**12)]


def test_what_fails_for_the_first_time_rests_shortly_whatever_else_failed():
    agenda = Agenda()
    often, once = Ranges(((1, 9),)), Ranges(((20, 29),))
    for _ in range(5):
        failed(agenda, 1, often, now=0)
    assert failed(agenda, 1, once, now=0) == FIRST_PAUSE_SECONDS
    assert failed(agenda, 1, often, now=0) == 32 * FIRST_PAUSE_SECONDS


def test_what_fails_together_with_more_rests_as_long_as_what_failed_most_often():
    agenda = Agenda()
    often, once = Ranges(((1, 9),)), Ranges(((20, 29),))
    for missing in (often, often, often, once):
        failed(agenda, 1, missing, now=0)
    assert failed(agenda, 1, Ranges(((9, 25),)), now=0) == 8 * FIRST_PAUSE_SECONDS
    assert failed(agenda, 1, Ranges(((26, 40),)), now=0) == 2 * FIRST_PAUSE_SECONDS


def test_what_was_under_way_when_the_service_went_away_fails_once_all_together():
    agenda = Agenda()
    for asked_at, pause in ((0, 1), (3, 2), (9, 4)):
        for number, last in enumerate((900, 300, 600)):
            below = Ranges(((1, last),))
            rests = agenda.rest(1, below, asked_at=asked_at, now=asked_at + 1 + number / 4)
            assert rests == pause * FIRST_PAUSE_SECONDS


def test_what_fails_in_part_rests_as_a_whole():
    agenda = Agenda()
    agenda.rest(1, Ranges(((1, 900),)), asked_at=0, now=0)
    agenda.rest(1, Ranges(((1, 300),)), asked_at=0, now=0)
    agenda.plan({1: Ranges(((1, 900),))}, now=0)
    assert not agenda.has_open
