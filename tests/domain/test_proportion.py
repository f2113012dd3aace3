"""Which ids are believed, and which are too far from those of their flow."""

import pytest

from archiver.domain.proportion import (
    FARTHEST_JUMP,
    FARTHEST_PRIVATE_JUMP,
    FARTHEST_SIGNAL,
    FARTHEST_START,
    is_far_beyond,
    is_vouched_for,
)


def test_an_id_is_far_beyond_what_its_flow_or_any_flow_has_come_to():
    assert not is_far_beyond(1 + FARTHEST_JUMP, 1, "acme/main")
    assert is_far_beyond(2 + FARTHEST_JUMP, 1, "acme/main")
    assert not is_far_beyond(FARTHEST_START, 0, "acme/main")
    assert is_far_beyond(FARTHEST_START + 1, 0, "acme/main")


@pytest.mark.parametrize("newest", [907, 9_492_901_419])
def test_a_private_conversation_may_have_rested_while_others_went_on(newest):
    assert not is_far_beyond(newest + FARTHEST_PRIVATE_JUMP, newest, "private/1/2")
    assert is_far_beyond(newest + FARTHEST_PRIVATE_JUMP + 1, newest, "private/1/2")
    assert is_far_beyond(newest + FARTHEST_PRIVATE_JUMP, newest, "acme/main")


def test_a_signal_is_vouched_for_by_what_is_next_to_it():
    assert is_vouched_for(5, 20)
    assert is_vouched_for(20 + FARTHEST_SIGNAL, 20)
    assert not is_vouched_for(21 + FARTHEST_SIGNAL, 20)
    assert not is_vouched_for(1 + FARTHEST_SIGNAL, 0)
