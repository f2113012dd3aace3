"""Slots are dealt out evenly among those who can see them, and moved as little as that allows."""

from hypothesis import given
from hypothesis import strategies as st

from archiver.domain.sharing import deal

FLOWS = frozenset(f"acme/{number}" for number in range(12))
_sharers = st.sampled_from("abcd")
_slots = st.sampled_from(sorted(FLOWS)[:6])
_sees = st.dictionaries(_sharers, st.frozensets(_slots), max_size=4)
_held = st.dictionaries(_slots, st.sampled_from("abcdx"))


def sizes(dealt: dict[str, str]) -> list[int]:
    holders = list(dealt.values())
    return sorted(holders.count(one) for one in set(holders))


@given(_sees, _held)
def test_all_that_anybody_sees_is_somebodys_who_sees_it(sees, held):
    dealt = deal(sees, held)
    assert dealt.keys() == frozenset[str]().union(*sees.values())
    assert all(slot in sees[holder] for slot, holder in dealt.items())


@given(_sees, _held)
def test_nobody_has_two_more_than_another_who_could_have_one_of_them(sees, held):
    dealt = deal(sees, held)
    shares = {one: {slot for slot in dealt if dealt[slot] == one} for one in sees}
    for rich, slots in shares.items():
        for poor, fewer in shares.items():
            assert len(slots) - len(fewer) < 2 or not slots & sees[poor], (rich, poor)


@given(_sees, _held)
def test_what_was_dealt_out_stays(sees, held):
    dealt = deal(sees, held)
    assert deal(sees, dealt) == dealt


@given(_sees, _held)
def test_taking_what_falls_to_each_in_turn_comes_to_rest_with_nothing_left_over(sees, held):
    taken = dict(held)
    for one in [*sees] * 3:
        taken |= {slot: one for slot, holder in deal(sees, taken).items() if holder == one}
    dealt = deal(sees, taken)
    assert {slot: taken[slot] for slot in dealt} == dealt


def test_one_alone_has_all():
    assert deal({"a": FLOWS}, {}) == dict.fromkeys(FLOWS, "a")
    assert deal({"a": FLOWS}, dict.fromkeys(FLOWS, "gone")) == dict.fromkeys(FLOWS, "a")


def test_who_comes_gets_half_and_the_rest_is_not_moved():
    dealt = deal({"a": FLOWS, "b": FLOWS}, dict.fromkeys(FLOWS, "a"))
    assert sizes(dealt) == [6, 6]


def test_who_comes_back_gets_what_it_had():
    both = {"a": FLOWS, "b": FLOWS}
    dealt = deal(both, dict.fromkeys(FLOWS, "a"))
    alone = deal({"a": FLOWS}, dealt)
    assert deal(both, alone) == dealt


def test_what_one_had_who_is_gone_is_divided_among_the_others():
    three = dict.fromkeys("abc", FLOWS)
    dealt = deal(three, {})
    assert sizes(dealt) == [4, 4, 4]
    left = deal(dict.fromkeys("ab", FLOWS), dealt)
    assert sizes(left) == [6, 6]
    assert all(left[slot] == holder for slot, holder in dealt.items() if holder != "c")


def test_who_sees_little_has_no_more_than_that():
    dealt = deal({"a": FLOWS, "b": frozenset({"acme/3", "private/7"})}, {})
    assert {slot for slot, holder in dealt.items() if holder == "b"} == {"acme/3", "private/7"}
