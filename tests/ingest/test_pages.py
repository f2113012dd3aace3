"""Pages of List Messages: what they bring and what they prove."""

import pytest
from msgspec.structs import replace

from archiver.domain.coverage import Ranges
from archiver.domain.events import Event, Rejected
from archiver.flowdock.pages import Page
from archiver.ingest.batch import vanished
from archiver.ingest.pages import Listing, read_page
from tests.ingest.arriving import NOW, frame, listed

UNREADABLE = b'{"event": "message", "content": "no id"}'


def page(
    *frames: bytes, since: int | None = 10, until: int | None = 50, newest: bool = False
) -> Page:
    return Page(
        path="acme/main",
        since=since,
        until=until,
        newest=newest,
        limit=100,
        frames=frames,
        requested_at=NOW,
        answered_at=NOW,
    )


def reading(*frames: bytes, **asked):
    asked_for = page(*frames, **asked)
    return read_page(Listing(page=asked_for, flow_key=1, as_of=60, objection=objection))


def objection(event: Event) -> str | None:
    return "of another flow" if event.flow == "other" else None


@pytest.mark.parametrize(
    ("frames", "asked", "proven"),
    [
        ((frame(20), frame(30)), {}, ((11, 30),)),
        ((frame(20), frame(30)), {"newest": True}, ((20, 49),)),
        ((), {}, ((11, 49),)),
        ((), {"newest": True}, ((11, 49),)),
        ((frame(11),), {}, ((11, 11),)),
        ((frame(49),), {"newest": True}, ((49, 49),)),
        ((frame(20),), {"since": None}, ((1, 20),)),
        ((frame(20),), {"until": None}, ()),
        ((frame(20),), {"until": None, "newest": True}, ()),
        ((), {"until": None}, ()),
    ],
)
def test_a_page_proves_what_it_reaches_over(frames, asked, proven):
    told = reading(*frames, **asked)
    assert told.proven == Ranges(proven)
    assert told.trouble is None


@pytest.mark.parametrize("stray", [10, 50, 51, 2**63 - 1])
@pytest.mark.parametrize("beside", [(), (UNREADABLE,)])
def test_a_page_with_what_was_not_asked_for_proves_nothing(stray, beside):
    told = reading(frame(20), frame(stray), *beside)
    assert not told.proven
    assert not told.reach
    assert told.trouble
    assert {one.id for one in told.arrivals if one.id is not None} == {20, stray}


@pytest.mark.parametrize("newest", [True, False])
def test_what_cannot_be_read_leaves_a_hole_between_its_neighbours(newest):
    told = reading(frame(20), frame(22), UNREADABLE, frame(30), frame(33), newest=newest)
    assert told.proven == Ranges(((20, 22), (30, 33)))
    assert told.reach == Ranges(((20, 49),) if newest else ((11, 33),))
    assert told.trouble is not None
    assert "1 message" in told.trouble


@pytest.mark.parametrize("at", [0, 1])
def test_what_cannot_be_read_at_an_end_may_lie_anywhere_beyond(at):
    frames = [frame(20)]
    frames.insert(at, UNREADABLE)
    assert reading(*frames).proven == Ranges(((20, 20),))


def test_what_is_out_of_order_beside_what_cannot_be_read_proves_itself_alone():
    frames = (frame(30), frame(20), UNREADABLE, frame(40))
    assert reading(*frames).proven == Ranges(((20, 20), (30, 30), (40, 40)))


def test_a_page_of_which_nothing_can_be_read_proves_nothing_and_tells():
    told = reading(UNREADABLE)
    assert not told.proven
    assert told.trouble
    assert len(told.arrivals) == 1


def test_a_newest_message_that_cannot_be_read_is_told():
    told = reading(UNREADABLE, since=None, until=None, newest=True)
    assert told.trouble
    assert not told.proven


@pytest.mark.parametrize(("gone", "there", "proven"), [(0, 0, 39), (3, 0, 39), (3, 1, 0)])
def test_a_page_that_lacks_what_is_shown_by_itself_proves_nothing(gone, there, proven):
    shown = [listed(frame(20 + one), 1, as_of=60) for one in range(gone + there)]
    for at in range(gone):
        shown[at] = replace(shown[at], decoded=vanished(20 + at, sent_at=NOW))
    told = reading().beside(shown)
    assert told.proven.size() == proven
    assert told.reach == Ranges(((11, 49),))
    assert bool(told.trouble) == bool(there)


def test_elements_out_of_order_and_repeated_are_read_all_the_same():
    told = reading(frame(30), frame(20), frame(30))
    assert told.ids == (20, 30)
    assert told.proven == Ranges(((11, 30),))
    assert all(one.listed_as_of == 60 for one in told.arrivals)


def test_a_message_that_is_shown_in_two_ways_is_not_proven():
    told = reading(frame(20), frame(25), frame(30), frame(25, content="otherwise"))
    assert told.proven == Ranges(((11, 24), (26, 30)))
    assert told.reach == Ranges(((11, 30),))
    assert told.trouble == "1 messages of the page appear twice and differ"


def test_an_element_of_another_flow_is_rejected_and_proves_nothing_around_it():
    told = reading(frame(20), frame(25, flow="other"), frame(30))

    assert told.proven == Ranges(((20, 20), (30, 30)))
    assert told.ids == (20, 30)
    (stray,) = [one for one in told.arrivals if isinstance(one.decoded, Rejected)]
    assert stray.frame == frame(25, flow="other")
