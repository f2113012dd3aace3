"""The queue between streams and writer: bounded, in order, and nothing is lost by cancelling."""

import asyncio

import pytest

from archiver.ingest.intake import Came, Ended, Intake, Item, weight
from tests.ingest.arriving import frame, streamed
from tests.jumping import run

ITEM = Came(1, 0.0, [streamed(frame(1, content="x" * 500), 1)])
WEIGHT = weight(ITEM)


async def taken(intake: Intake, *, most: int = 1000, patience: float = 0.01) -> list[object]:
    taking = intake.take(most=most, enough=most, linger_seconds=0, patience_seconds=patience)
    return list(await taking)


def filled(count: int, *, limit_items: int = 100) -> Intake:
    intake = Intake(limit_bytes=limit_items * WEIGHT, settling_seconds=0.05)
    for number in range(count):
        intake.put_now(Ended(number, 0.0))
    return intake


async def test_items_come_out_in_the_order_in_which_they_went_in():
    intake = filled(10)
    first = await taken(intake, most=4)
    assert len(first) == 4
    assert first + await taken(intake) == [Ended(number, 0.0) for number in range(10)]


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
        assert intake.held_bytes <= WEIGHT
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


async def test_what_came_without_an_event_is_taken_as_well():
    intake = filled(0)
    taking = asyncio.create_task(taken(intake, patience=60))
    await asyncio.sleep(0)
    intake.put_now(Came(1, 0.0, []))
    assert await asyncio.wait_for(taking, 10) == [Came(1, 0.0, [])]


def test_what_comes_soon_after_is_taken_with_it():
    async def main() -> list[Item]:
        intake = Intake(limit_bytes=10 * WEIGHT, settling_seconds=0.05)
        taking = asyncio.create_task(
            intake.take(most=1000, enough=1000, linger_seconds=0.05, patience_seconds=5)
        )
        await intake.put(ITEM)
        await asyncio.sleep(0.04)
        await intake.put(ITEM)
        await asyncio.sleep(0.02)
        await intake.put(ITEM)
        return await taking

    assert run(main()) == [ITEM, ITEM]


@pytest.mark.parametrize("limits", [{"most": 5}, {"enough": 5}, {"limit_items": 1}])
async def test_what_is_enough_is_taken_without_waiting_for_more(limits):
    intake = filled(5, limit_items=limits.get("limit_items", 100))
    most, enough = limits.get("most", 100), limits.get("enough", 100)
    taking = intake.take(most=most, enough=enough, linger_seconds=60, patience_seconds=60)
    assert await asyncio.wait_for(taking, 10)


async def test_who_waits_for_enough_takes_it_as_soon_as_it_is_there():
    intake = filled(2)
    taking = asyncio.create_task(
        intake.take(most=100, enough=4, linger_seconds=60, patience_seconds=60)
    )
    for number in range(2):
        for _ in range(5):
            await asyncio.sleep(0)
        assert not taking.done()
        intake.put_now(Ended(number, 0.0))
    assert len(await asyncio.wait_for(taking, 10)) == 4


async def test_a_queue_that_is_full_is_enough_for_who_waits_for_more():
    intake = Intake(limit_bytes=2 * WEIGHT, settling_seconds=0.05)
    taking = asyncio.create_task(
        intake.take(most=100, enough=50, linger_seconds=60, patience_seconds=60)
    )
    for _ in range(2):
        await asyncio.sleep(0)
        await intake.put(ITEM)
    assert await asyncio.wait_for(taking, 10)


@pytest.mark.parametrize("turns", range(6))
async def test_a_taker_that_is_cancelled_at_any_turn_takes_nothing_away(turns):
    intake = filled(0)
    taking = asyncio.create_task(
        intake.take(most=10, enough=10, linger_seconds=0, patience_seconds=5)
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


def test_all_is_read_while_nobody_waits():
    async def main() -> None:
        intake = filled(0)
        clock = asyncio.get_running_loop().time
        for _ in range(2):
            assert intake.read_up_to() == intake.written_up_to() == clock()
            await asyncio.sleep(1)

    run(main())


async def test_what_waits_to_be_written_holds_back_what_counts_as_written():
    intake = filled(3)

    assert intake.written_up_to() == 0.0
    intake.put_now(Ended(1, 7.0))
    assert intake.written_up_to() == 0.0  # the oldest item that waits counts, not the newest
    await taken(intake)
    assert intake.written_up_to() > 0.0


def test_while_a_putter_waits_and_a_settling_time_after_it_nothing_more_counts_as_read():
    async def main() -> None:
        clock = asyncio.get_running_loop().time
        intake = Intake(limit_bytes=WEIGHT, settling_seconds=0.05)
        await intake.put(ITEM)
        await asyncio.sleep(1)
        hindered = clock()
        putting = asyncio.create_task(intake.put(ITEM))
        await asyncio.sleep(0.03)
        assert intake.read_up_to() == hindered

        await taken(intake)
        await putting
        freed = clock()
        while clock() < freed + 0.05:
            assert intake.read_up_to() == hindered
            await asyncio.sleep(0.01)
        assert intake.read_up_to() == clock()

    run(main())


def test_who_waits_behind_another_or_once_more_makes_nothing_count_as_read():
    async def main() -> None:
        intake = Intake(limit_bytes=WEIGHT, settling_seconds=60)
        await intake.put(ITEM)
        putting, read = [], set()
        for _ in range(2):
            putting.append(asyncio.create_task(intake.put(ITEM)))
            await asyncio.sleep(0.01)
            read.add(intake.read_up_to())
        for _ in range(3):  # there is room for one at a time
            assert await taken(intake) == [ITEM]
            await asyncio.sleep(0.01)
            read.add(intake.read_up_to())
        await asyncio.gather(*putting)
        assert len(read) == 1

    run(main())


async def test_while_anybody_waits_nothing_counts_as_written_beyond_what_was_read():
    intake = Intake(limit_bytes=WEIGHT, settling_seconds=0)
    with intake.hindering():
        read = intake.read_up_to()
        with intake.hindering():
            pass
        await asyncio.sleep(0.001)
        assert intake.read_up_to() == read
        intake.put_now(Ended(1, read + 9.0))
        assert intake.written_up_to() == read
