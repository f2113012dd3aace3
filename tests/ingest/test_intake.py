"""The queue between streams and writer: bounded, in order, and nothing is lost by cancelling."""

import asyncio

import pytest

from archiver.ingest.intake import Began, Came, Ended, Intake, came, weight
from tests.ingest.arriving import frame, streamed

ITEM = Came(1, 0.0, [streamed(frame(1, content="x" * 500), 1)])
WEIGHT = weight(ITEM)


async def taken(intake: Intake, *, most: int = 1000, patience: float = 0.01) -> list[object]:
    return list(await intake.lanes[0].take(most=most, linger_seconds=0, patience_seconds=patience))


def filled(count: int, *, limit_items: int = 100) -> Intake:
    intake = Intake(limit_bytes=limit_items * WEIGHT, settling_seconds=0.05)
    for number in range(count):
        intake.put_now(Ended(number, 0.0))
    return intake


async def test_items_come_out_in_the_order_in_which_they_went_in():
    intake = filled(10)
    items = await taken(intake, most=4) + await taken(intake)
    assert items == [Ended(number, 0.0) for number in range(10)]


async def test_who_puts_into_a_full_queue_waits_until_there_is_room():
    intake = Intake(limit_bytes=WEIGHT, settling_seconds=0.05)
    await intake.put(ITEM)
    putting = [asyncio.create_task(intake.put(ITEM)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in putting)

    for _ in range(4):
        assert await taken(intake) == [ITEM]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*putting)


async def test_an_item_larger_than_the_queue_passes_alone():
    intake = Intake(limit_bytes=10, settling_seconds=0.05)
    await intake.put(ITEM)
    assert await taken(intake) == [ITEM]


async def test_half_a_queueful_at_most_is_taken_at_once():
    intake = Intake(limit_bytes=10 * WEIGHT, settling_seconds=0.05)
    for _ in range(10):
        await intake.put(ITEM)
    assert len(await taken(intake)) == 6


async def test_what_came_together_is_taken_together():
    intake = Intake(limit_bytes=100 * WEIGHT, settling_seconds=0.05)
    three = Came(1, 0.0, [*ITEM.arrivals] * 3)
    for _ in range(3):
        await intake.put(three)
    assert intake.held_events == 9
    assert await taken(intake, most=4) == [three, three]
    assert (intake.held_events, intake.held_bytes) == (3, 3 * WEIGHT)


async def test_nothing_comes_when_nothing_was_put_in_time():
    assert await taken(filled(0)) == []


async def test_what_comes_soon_after_is_taken_with_it():
    intake = Intake(limit_bytes=10 * WEIGHT, settling_seconds=0.05)
    taking = asyncio.create_task(
        intake.lanes[0].take(most=1000, linger_seconds=0.05, patience_seconds=5)
    )
    await asyncio.sleep(0)
    await intake.put(ITEM)
    await asyncio.sleep(0)
    await intake.put(ITEM)
    assert await taking == [ITEM, ITEM]


@pytest.mark.parametrize("turns", range(6))
async def test_a_taker_that_is_cancelled_at_any_turn_takes_nothing_away(turns):
    intake = filled(0)
    taking = asyncio.create_task(
        intake.lanes[0].take(most=10, linger_seconds=0, patience_seconds=5)
    )
    await asyncio.sleep(0)
    intake.put_now(ITEM)
    for _ in range(turns):
        await asyncio.sleep(0)
    taking.cancel()
    try:
        got = list(await taking)
    except asyncio.CancelledError:
        got = []
    assert got + await taken(intake) == [ITEM]


async def test_a_putter_that_is_cancelled_has_put_nothing_and_blocks_nobody():
    intake = Intake(limit_bytes=WEIGHT, settling_seconds=0.05)
    await intake.put(ITEM)
    first, second = (asyncio.create_task(intake.put(item)) for item in (ITEM, Ended(2, 0.0)))
    await asyncio.sleep(0)
    first.cancel()
    assert await taken(intake) == [ITEM]
    await second
    assert first.cancelled()
    assert await taken(intake) == [Ended(2, 0.0)]


async def test_all_is_read_while_nobody_waits():
    intake = filled(0)
    clock = asyncio.get_running_loop().time

    assert intake.read_up_to() == pytest.approx(clock(), abs=0.02)
    assert intake.lanes[0].written_up_to() == pytest.approx(clock(), abs=0.02)


async def test_what_waits_to_be_written_holds_back_what_counts_as_written():
    intake = filled(3)

    assert intake.lanes[0].written_up_to() == 0.0
    intake.put_now(Ended(1, 7.0))
    assert intake.lanes[0].written_up_to() == 0.0  # by the oldest that waits, not by the newest
    await taken(intake)
    assert intake.lanes[0].written_up_to() > 0.0


async def test_while_a_putter_waits_and_a_settling_time_after_it_nothing_more_counts_as_read():
    clock = asyncio.get_running_loop().time
    intake = Intake(limit_bytes=WEIGHT, settling_seconds=0.05)
    await intake.put(ITEM)
    hindered = clock()
    putting = asyncio.create_task(intake.put(ITEM))
    await asyncio.sleep(0.03)
    assert intake.read_up_to() == pytest.approx(hindered, abs=0.02)

    await taken(intake)
    await putting
    assert intake.read_up_to() == pytest.approx(hindered, abs=0.02)
    while intake.read_up_to() < hindered + 0.03:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    assert clock() - hindered >= 0.08


async def test_a_flow_is_of_one_lane_and_what_is_known_of_a_connection_of_all():
    intake = Intake(limit_bytes=10**6, settling_seconds=0.05, lanes=2)
    arrivals = [streamed(frame(id_), flow) for id_, flow in enumerate((1, 2, 2, 1, 3), 1)]
    for item in (Began(1, 0.0, frozenset({1, 2})), came(1, 1.0, arrivals), Ended(1, 2.0)):
        await intake.put(item)
    lanes = [await one.take(most=99, linger_seconds=0, patience_seconds=1) for one in intake.lanes]
    assert [[type(item) for item in items] for items in lanes] == [[Began, Came, Ended]] * 2
    heard = [one for items in lanes for one in items if isinstance(one, Came)]
    assert [[one.id for one in item.arrivals] for item in heard] == [[2, 3], [1, 4, 5]]
    assert intake.held_bytes == intake.held_events == 0


async def test_what_could_not_be_placed_is_known_in_every_lane_and_written_in_one():
    intake = Intake(limit_bytes=10**6, settling_seconds=0.05, lanes=2)
    arrivals = [streamed(b"{", 2), streamed(frame(7), 2)]
    await intake.put(came(1, 1.0, arrivals))
    heard = []
    for lane in intake.lanes:
        heard += await lane.take(most=99, linger_seconds=0, patience_seconds=1)
    assert heard == [Came(1, 1.0, arrivals, are_placed=False), Came(1, 1.0, [], are_placed=False)]


async def test_who_waits_for_room_in_one_lane_holds_back_what_counts_as_read_in_all():
    intake = Intake(limit_bytes=2 * WEIGHT, settling_seconds=0.05, lanes=2)
    for _ in range(2):
        await intake.put(ITEM)
    putting = asyncio.create_task(intake.put(ITEM))
    await asyncio.sleep(0.03)
    now = asyncio.get_running_loop().time()
    assert all(lane.written_up_to() < now - 0.02 for lane in intake.lanes)
    await taken(intake)
    await intake.lanes[1].take(most=99, linger_seconds=0, patience_seconds=1)
    await putting
