"""What streams prove: never more than was written, whatever happens to them."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from archiver.domain.coverage import Ranges
from archiver.domain.model import UserId
from archiver.ingest.claims import AGAIN_SECONDS, Claims
from archiver.ingest.intake import Began, Came, Ended, Item
from tests.ingest.arriving import LONG_AGO, SENT, frame, streamed

SETTLING = 1.0
FLOWS = (1, 2)
ME = UserId("1")
NEVER_STORED = {"persist": False}


def came(id_: int, *, at: float, flow_key: int = 1, connection: int = 1) -> Came:
    return Came(connection, at, [streamed(frame(id_), flow_key)])


def unreadable(*, at: float, connection: int = 1) -> Came:
    return Came(connection, at, [streamed(b"{", 1)])


def began(*, at: float, connection: int = 1) -> Began:
    return Began(connection, at, frozenset(FLOWS), LONG_AGO, ME)


def told(kind: str, *, at: float, flow_key: int = 1, connection: int = 1) -> Came:
    """A signal about the account and a flow, as it arrives on the stream of private messages."""
    signal = {"event": kind, "user": 1, "content": {"id": "f", "open": True}}
    return Came(connection, at, [streamed(json.dumps(signal).encode(), flow_key)])


def claimed(*items, now: float = 100.0) -> dict[int, Ranges]:
    claims = Claims(settling_seconds=SETTLING)
    claims.note(items)
    return {key: gain.streamed for key, gain in claims.take(now=now).items()}


def test_an_unbroken_connection_proves_from_its_first_event_to_its_newest():
    items = [began(at=0), came(5, at=2), came(9, at=3), came(7, at=3, flow_key=2)]
    assert claimed(*items) == {1: Ranges(((5, 9),)), 2: Ranges(((7, 7),))}


def test_what_comes_while_the_connection_is_young_may_be_a_replay():
    assert claimed(began(at=0), came(5, at=0.5), came(9, at=1)) == {1: Ranges(((9, 9),))}


def test_a_replay_that_begins_late_begins_no_claim():
    """An event sent before the opening may be a replay, however late it arrives."""
    opened = datetime.fromtimestamp(SENT / 1000, UTC)
    later = [frame(id_, sent=SENT + id_ * 1000) for id_ in (1, 2, 3)]
    items = [
        Began(1, 0, frozenset(FLOWS), opened, ME),
        came(5, at=20),
        *(Came(1, 20 + n, [streamed(one, 1)]) for n, one in enumerate(later)),
        Came(1, 30, [streamed(frame(9, sent=None), 1)]),
    ]
    assert claimed(*items) == {1: Ranges(((1, 9),))}
    assert claimed(*items[:2], came(8, at=21)) == {}
    timeless = Came(1, 30, [streamed(frame(9, sent=None), 1)])
    assert claimed(items[0], timeless) == {}
    after_input_that_could_not_be_placed = [items[0], unreadable(at=10), came(5, at=20)]
    assert claimed(*after_input_that_could_not_be_placed) == {}


def test_what_is_of_an_unknown_kind_is_not_claimed_unless_it_was_never_stored():
    """An event of an unknown kind may be a message, which a listing would show."""
    kinds = [streamed(frame(id_, "weather", **of), 1) for id_, of in ((6, {}), (7, NEVER_STORED))]
    items = [began(at=0), came(5, at=2), Came(1, 3, kinds), came(8, at=4)]
    assert claimed(*items) == {1: Ranges(((5, 5), (7, 8)))}
    assert claimed(began(at=0), Came(1, 3, kinds[:1])) == {}


def test_what_is_younger_than_the_settling_time_is_not_claimed():
    items = [began(at=0), came(5, at=2), came(9, at=3)]
    assert claimed(*items, now=3.5) == {1: Ranges(((5, 5),))}


def test_the_end_of_a_connection_claims_what_had_settled_and_no_more():
    assert claimed(began(at=0), came(5, at=2), came(9, at=3), Ended(1, 3.5)) == {
        1: Ranges(((5, 5),))
    }


def test_nothing_is_proven_across_two_connections():
    items = [began(at=0), came(5, at=2), Ended(1, 9)]
    items += [began(at=10, connection=2), came(9, at=12, connection=2)]
    assert claimed(*items) == {1: Ranges(((5, 5), (9, 9)))}


def test_nothing_is_proven_across_what_could_not_be_placed_among_what_came_together():
    among = [streamed(frame(5), 1), streamed(b"{", 1), streamed(frame(9), 1)]
    items = [began(at=0), came(3, at=2), Came(1, 4.0, among), came(12, at=6)]
    assert claimed(*items) == {1: Ranges(((3, 3), (12, 12)))}


def test_nothing_is_proven_across_input_that_could_not_be_placed():
    items = [began(at=0), came(5, at=2), unreadable(at=4), came(9, at=5)]
    assert claimed(*items) == {1: Ranges(((5, 5), (9, 9)))}


@pytest.mark.parametrize(("flow_key", "anew"), [(None, {1, 2, 3}), (2, {2})])
def test_what_could_not_be_placed_may_have_changed_what_is_there(flow_key, anew):
    cut_off = replace(streamed(b"{", 1), flow_key=flow_key)
    claims = Claims(settling_seconds=SETTLING)
    claims.note([began(at=0), Came(1, 2, [streamed(private(5), 3)])])
    assert claims.note([Came(1, 4, [cut_off]), came(9, at=5)]) == set()
    assert claims.lacking(now=5) == anew
    assert claims.lacking(now=6) == set()


def test_a_change_that_does_not_say_of_what_may_have_changed_anything_in_its_flow():
    claims = Claims(settling_seconds=SETTLING)
    nameless = streamed(frame(8, "message-delete", content={}), 2)
    claims.note([began(at=0), came(5, at=2, flow_key=2), Came(1, 4, [nameless])])
    assert claims.lacking(now=5) == {2}
    assert claims.take(now=6)[2].streamed == Ranges(((5, 8),))


def test_not_all_that_cannot_be_kept_has_all_listed_anew_but_the_last_of_it():
    claims = Claims(settling_seconds=SETTLING)
    claims.note([began(at=0), came(5, at=2)])
    claims.refuse([1], now=3)
    assert claims.lacking(now=4) == {1}
    claims.note([unreadable(at=5), unreadable(at=6), came(9, at=7)])
    assert claims.lacking(now=3 + AGAIN_SECONDS) == set()
    assert claims.lacking(now=4 + AGAIN_SECONDS) == {1}
    assert claims.lacking(now=4 + 3 * AGAIN_SECONDS) == set()


def test_what_comes_of_flows_that_a_connection_was_not_opened_for_proves_nothing():
    """Nobody knows how much of such a flow the connection brings."""
    items = [began(at=0), came(5, at=2, flow_key=3), came(9, at=3, flow_key=3), came(7, at=3)]
    assert claimed(*items) == {1: Ranges(((7, 7),))}


def test_signals_of_no_flow_that_is_known_have_nothing_heard_anew_and_prove_nothing():
    active = {"event": "activity.user", "id": 7, "user": 1, "sent": SENT, "content": {}}
    joined = {"event": "flow-add", "user": 1, "content": {"id": "f", "open": True}}
    signals = [streamed(json.dumps(one).encode(), 1) for one in (active, joined)]
    claims = Claims(settling_seconds=SETTLING)
    claims.note([began(at=0)])
    unknown = [replace(one, flow_key=None) for one in signals]
    assert claims.note([Came(1, 2, unknown), came(9, at=3)]) == set()
    assert claims.take(now=100).keys() == {1}


def test_a_private_conversation_that_begins_later_is_on_its_connection():
    said = [Came(1, at, [streamed(private(id_), 3)]) for id_, at in ((5, 2.0), (9, 3.0))]
    assert claimed(began(at=0), *said) == {3: Ranges(((5, 9),))}


def private(id_: int) -> bytes:
    return frame(id_, flow=None, to="2")


@pytest.mark.parametrize("kind", ["flow-remove", "flow-add"])
def test_nothing_is_proven_across_leaving_and_joining_a_flow(kind):
    """The signals come on another connection than the flow's events."""
    items: list[Item] = [began(at=0), began(at=0, connection=2)]
    items += [came(5, at=2), came(6, at=2, flow_key=2)]
    claims = Claims(settling_seconds=SETTLING)
    assert claims.note(items) == {1, 2}
    assert claims.note([told(kind, at=4, connection=2)]) == {1}
    assert claims.note([came(8, at=4.5), came(9, at=6), came(9, at=6, flow_key=2)]) == set()
    proven = {key: gain.streamed for key, gain in claims.take(now=100).items()}
    assert proven == {1: Ranges(((9, 9),)), 2: Ranges(((6, 9),))}


def test_nothing_is_proven_across_leaving_and_joining_a_flow_before_anything_was_heard_of_it():
    """An event sent before the absence may arrive after it, with ids missed in between above it."""
    items: list[Item] = [began(at=0), began(at=0, connection=2)]
    items += [told(kind, at=4, connection=2) for kind in ("flow-remove", "flow-add")]
    items += [came(5, at=4.1), came(7, at=4.3), came(9, at=6), came(12, at=7)]
    assert claimed(*items) == {1: Ranges(((9, 12),))}


BLOCKED = {"event": "backend.user.block", "user": "7", "content": "1"}
JOINED = {"event": "backend.user.join", "user": "1", "content": {"user": {"id": 1}}}
OF_2013 = {**JOINED, "event": "backend.join.user"}
BLOCK = {"event": "action", "user": "7", "content": {"type": "block", "description": {"user": 1}}}
JOIN = {"event": "action", "user": "1", "content": {"type": "join", "description": "f"}}
OTHERS = [
    {**BLOCKED, **NEVER_STORED, "content": "2"},
    {**JOINED, **NEVER_STORED, "user": "2"},
    {**BLOCK, "content": {"type": "block", "description": {"user": 2}}},
    {**BLOCK, "content": {"type": "block", "description": "1"}},
    {**JOIN, "user": "2"},
    {**JOIN, "content": {"type": "add_rss_feed", "description": "http://example.com/"}},
    {**JOIN, "content": "join"},
]


@pytest.mark.parametrize("told", [BLOCKED, JOINED, OF_2013, BLOCK, JOIN])
def test_nor_is_it_where_the_flow_alone_tells_of_that(told):
    """The stream of private messages may be another daemon's, or nobody's."""
    claims = Claims(settling_seconds=SETTLING)
    claims.note([began(at=0), came(5, at=2)])
    assert claims.note([Came(1, 4, [streamed(frame(6, **told), 1)])]) == {1}
    claims.note([came(8, at=6), came(9, at=7)])
    assert claims.take(now=100)[1].streamed == Ranges(((8, 9),))


@pytest.mark.parametrize("told", OTHERS)
def test_that_others_leave_and_join_says_nothing_of_what_was_heard(told):
    claims = Claims(settling_seconds=SETTLING)
    claims.note([began(at=0), came(5, at=2)])
    assert claims.note([Came(1, 4, [streamed(frame(6, **told), 1)]), came(8, at=6)]) == set()
    assert claims.take(now=100)[1].streamed == Ranges(((5, 8),))


def test_a_claim_is_due_and_told_once():
    claims = Claims(settling_seconds=SETTLING)
    claims.note([began(at=0), came(5, at=2)])
    (gain,) = claims.take(now=9).values()
    assert gain.due == 5
    assert claims.take(now=10) == {}


def test_a_refused_event_is_claimed_by_nobody():
    claims = Claims(settling_seconds=SETTLING)
    claims.note([began(at=0), came(5, at=2), came(6, at=2), came(7, at=2, flow_key=2)])
    claims.refuse([1], now=2)
    claims.note([came(8, at=3)])
    gains = claims.take(now=9)
    assert gains[1].streamed == Ranges(((8, 8),))
    assert gains[2].streamed == Ranges(((7, 7),))


def test_a_refused_event_of_a_private_conversation_that_began_later_is_claimed_by_nobody():
    def said(id_: int, *, at: float) -> Came:
        return Came(1, at, [streamed(private(id_), 3)])

    claims = Claims(settling_seconds=SETTLING)
    claims.note([began(at=0), said(5, at=2), said(6, at=2)])
    claims.refuse([3], now=2)
    claims.note([said(8, at=3)])
    assert claims.take(now=9)[3].streamed == Ranges(((8, 8),))


def test_a_refused_event_is_not_claimed_by_a_connection_that_ended_meanwhile():
    claims = Claims(settling_seconds=SETTLING)
    claims.note([began(at=0), came(5, at=2), came(6, at=2), Ended(1, 9)])
    claims.refuse([1], now=9)
    assert claims.take(now=10) == {}


@st.composite
def happenings(draw):
    """What arrives on two connections, in the order of time; ids are unordered and may repeat."""
    at = 0.0
    items: list[Item] = []
    for _ in range(draw(st.integers(1, 30))):
        at += draw(st.sampled_from([0.0, 0.3, 2.0]))
        connection = draw(st.integers(1, 2))
        kind = draw(st.sampled_from(["began", "ended", "unreadable", *["came"] * 5]))
        match kind:
            case "began":
                items.append(began(at=at, connection=connection))
            case "ended":
                items.append(Ended(connection, at))
            case "unreadable":
                items.append(unreadable(at=at, connection=connection))
            case _:
                flow_key = draw(st.sampled_from(FLOWS))
                id_ = draw(st.integers(1, 40))
                items.append(came(id_, at=at, flow_key=flow_key, connection=connection))
    return items


@given(happenings(), st.data())
def test_both_ends_of_what_is_claimed_were_written_and_nothing_refused_is_in_it(items, data):
    claims = Claims(settling_seconds=SETTLING)
    claimed = dict.fromkeys(FLOWS, Ranges())
    written: set[tuple[int, int]] = set()
    left_out: set[tuple[int, int]] = set()
    while items:
        size = data.draw(st.integers(1, len(items)))
        batch, items = items[:size], items[size:]
        now = batch[-1].at
        claims.note(batch)
        # The writer takes claims before it writes, and leaves out what is refused in this batch.
        gains = claims.take(now=now) if data.draw(st.booleans()) else {}
        arrivals = [one for item in batch if isinstance(item, Came) for one in item.arrivals]
        keys = {(one.flow_key or 0, one.id) for one in arrivals if one.id is not None}
        refused = {key for key in sorted(keys) if key[1] % 7 == 0}
        claims.refuse({key for key, _ in refused}, now=now)
        written |= keys - refused
        for flow_key, gain in gains.items():
            claimed[flow_key] |= gain.streamed
            left_out |= {one for one in refused if one[0] == flow_key and one[1] in gain.streamed}
            for first, last in claimed[flow_key]:
                for end in (first, last):
                    assert (flow_key, end) in written | left_out


def test_after_input_that_could_not_be_placed_claims_begin_when_it_has_settled():
    """The input that could not be placed may be an event between two that came out of order."""
    items = [began(at=0), came(10, at=5), unreadable(at=5.1), came(12, at=5.2), came(14, at=6.2)]
    assert claimed(*items) == {1: Ranges(((14, 14),))}


def test_of_several_ranges_all_is_due_up_to_the_end_of_the_last():
    claims = Claims(settling_seconds=SETTLING)
    claims.note([began(at=0), came(5, at=2), unreadable(at=4), came(9, at=5)])
    (gain,) = claims.take(now=100).values()
    assert gain.streamed == Ranges(((5, 5), (9, 9)))
    assert gain.due == 9
