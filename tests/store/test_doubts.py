"""Doubts: what raises them for messages and flows, and what lifts them."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from archiver.domain.coverage import Ranges
from archiver.store import coverage, doubts, wanted
from archiver.store.coverage import Standing
from archiver.store.engine import connect, transaction
from tests.ingest.arriving import NOW, new_flow, query
from tests.store.test_coverage import scattered


@pytest.mark.parametrize(("count", "is_merged"), [(20, False), (3000, True)])
async def test_of_very_many_doubts_of_single_messages_all_between_are_doubted(
    database_url, count, is_merged
):
    ids = [first for first, _ in scattered(count, seed=1)]
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        for some in (ids[:-1], ids[-1:]):
            async with transaction(engine) as tx:
                await doubts.doubt_messages(tx, [(flow_key, id_) for id_ in some])
        async with transaction(engine) as tx:
            doubted = (await coverage.standings(tx))[flow_key].doubted
    each = Ranges.of((id_, id_) for id_ in ids)
    assert doubted == (Ranges(((ids[0], ids[-1]),)) if is_merged else each)


async def standing_of(engine, flow_key: int) -> Standing:
    async with transaction(engine) as tx:
        return (await coverage.standings(tx))[flow_key]


async def test_a_page_lifts_doubts_only_in_the_epoch_in_which_it_was_asked_for(database_url):
    listed = Ranges(((1, 9),))
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        async with transaction(engine) as tx:
            await coverage.advance(tx, {flow_key: Standing(listed=listed, due=9)}, now=NOW)
            await doubts.open_streams(tx, [flow_key])
            await doubts.open_streams(tx, [flow_key])
        stood = await standing_of(engine, flow_key)
        assert (stood.epoch, stood.doubted) == (2, listed)  # what is listed is doubted as well
        for epoch, doubted in ((-1, listed), (1, listed), (3, listed), (2, Ranges(((5, 6),)))):
            gain = {flow_key: Standing(listed=listed, epoch=epoch)}
            async with transaction(engine) as tx:
                unsure = {flow_key: Ranges(((5, 6),))}
                await coverage.advance(tx, gain, unsure=unsure, now=NOW)
            assert (await standing_of(engine, flow_key)).doubted == doubted
            assert (await standing_of(engine, flow_key)).due == 9


async def test_what_has_been_without_doubt_for_longest_is_doubted_first(database_url):
    async with connect(database_url) as engine:
        flows = [await new_flow(engine) for _ in range(4)]
        *assured, never, _empty = flows

        async def lift(flow_key: int, *, days: int) -> None:
            async with transaction(engine) as tx:
                epoch = (await coverage.standings(tx))[flow_key].epoch
                gain = Standing(listed=Ranges(((1, 9),)), epoch=epoch)
                await coverage.advance(tx, {flow_key: gain}, now=NOW + timedelta(days=days))

        async def chosen(*, day: int = 5) -> list[int]:
            now = NOW + timedelta(days=day)
            async with transaction(engine) as tx:
                await doubts.doubt_flows(tx, flows, before=now - timedelta(days=2), now=now, most=1)
                standings = await coverage.standings(tx)
            return [key for key in flows if standings[key].doubted]

        async with transaction(engine) as tx:
            await coverage.advance(tx, {key: Standing(due=9) for key in flows[:3]}, now=NOW)
            await doubts.open_streams(tx, assured)
        for flow_key, days in zip(assured, (2, 1), strict=True):
            await lift(flow_key, days=days)
        assert await chosen() == [never]
        assert await chosen() == [assured[1], never]
        assert await chosen() == [*assured, never]
        assert await chosen() == [*assured, never]  # nothing is due of the empty flow
        await lift(assured[0], days=4)
        assert await chosen() == [assured[1], never]  # the other was assured recently enough
        assert await chosen(day=3) == [*assured, never]  # a clock had been ahead, or was set back


async def test_a_flow_that_was_empty_when_its_stream_was_opened_is_not_doubted_soon(database_url):
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        async with transaction(engine) as tx:
            await doubts.open_streams(tx, [flow_key])
            standing = (await coverage.standings(tx))[flow_key]
            gain = Standing(listed=Ranges(((1, 9),)), due=9, epoch=standing.epoch)
            await coverage.advance(tx, {flow_key: gain}, now=NOW)
            (assured_at,) = (await tx.execute(text("SELECT assured_at FROM store.ledger"))).one()
            late = assured_at + timedelta(seconds=1)
            assert not await doubts.doubt_flows(tx, [flow_key], before=assured_at, now=late, most=1)
            assert await doubts.doubt_flows(tx, [flow_key], before=late, now=late, most=1)


async def test_a_single_message_that_is_doubted_leaves_the_rest_of_its_flow_to_its_turn(
    database_url,
):
    """Otherwise a flow with a change of an unknown form each day would never have its turn."""
    async with connect(database_url) as engine, transaction(engine) as tx:
        flow_key = await new_flow(engine)
        all_of_it = Standing(listed=Ranges(((1, 9),)), due=9, epoch=1)
        await coverage.advance(tx, {flow_key: Standing(due=9)}, now=NOW)
        await doubts.open_streams(tx, [flow_key])
        await coverage.advance(tx, {flow_key: all_of_it}, now=NOW)
        await doubts.doubt_messages(tx, [(flow_key, 5)])
        await coverage.advance(tx, {flow_key: all_of_it}, now=NOW + timedelta(days=1))
        assert not (await coverage.standings(tx))[flow_key].doubted
        await doubts.doubt_messages(tx, [(flow_key, 7), (flow_key, 12)])
        late = NOW + timedelta(days=1, seconds=1)
        for before, doubted in ((NOW, (7, 7)), (late, (1, 9))):
            await doubts.doubt_flows(tx, [flow_key], before=before, now=late, most=1)
            standing = (await coverage.standings(tx))[flow_key]
            assert standing.doubted == Ranges((doubted, (12, 12)))


@pytest.mark.parametrize("due", [0, 9])
async def test_a_message_that_is_not_due_yet_stays_doubted_whatever_is_doubted_besides(
    database_url, due
):
    async with connect(database_url) as engine, transaction(engine) as tx:
        flow_key = await new_flow(engine)
        await coverage.advance(tx, {flow_key: Standing(due=due)}, now=NOW)
        await doubts.doubt_messages(tx, [(flow_key, 12)])
        await doubts.open_streams(tx, [flow_key])
        doubted = Ranges.of([(1, due), (12, 12)])
        assert (await coverage.standings(tx))[flow_key].doubted == doubted
        # It is not asked for yet either: a listing that comes too early would lift the doubt.
        asked_for = {
            key: one.doubted for key, one in (await wanted.wanting(tx, [flow_key])).items()
        }
        assert asked_for == ({flow_key: Ranges(((1, due),))} if due else {})


async def test_no_other_flows_are_listed_again_than_those_that_are_asked_for(database_url):
    doubted = "SELECT flow_key FROM store.ledger WHERE NOT isempty(doubted)"
    async with connect(database_url) as engine:
        one, other = [await new_flow(engine) for _ in range(2)]
        async with transaction(engine) as tx:
            await coverage.advance(tx, dict.fromkeys((one, other), Standing(due=9)), now=NOW)
            assert await doubts.doubt_flows(tx, [other], before=NOW, now=NOW, most=2) == 1
    assert query(database_url, doubted) == [(other,)]
