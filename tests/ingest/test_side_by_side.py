"""Parallel transactions, of one large batch or of two writers, give the same rows as one."""

import asyncio
from collections.abc import Sequence

import psycopg
import pytest

from archiver.domain.coverage import Ranges
from archiver.ingest.apply import LARGE, apply, apply_side_by_side, write
from archiver.ingest.batch import Applied, Arrival, Batch, parted
from archiver.store.connection import Engine
from archiver.store.coverage import Standing
from archiver.store.engine import DatabaseError, connect, transaction
from tests.ingest.arriving import (
    NOW,
    derived,
    edit,
    fail_to_journal,
    frame,
    new_flow,
    query,
    streamed,
    tag_change,
    waits_for_lock,
)

EACH = LARGE // 4
REFUSED = 7


def said(flow_key: int) -> list[Arrival]:
    frames = [frame(id_, content=f"{id_}", tags=["new"]) for id_ in range(1, EACH)]
    frames += [edit(EACH, 3, "changed"), tag_change(EACH + 1, 4, add=["todo"])]
    frames += [frame(EACH + 2, thread_id="t", thread={"id": "t", "title": "a thread"})]
    return [streamed(one, flow_key) for one in frames]


async def five_flows(engine: Engine) -> tuple[list[int], Batch]:
    keys = [await new_flow(engine) for _ in range(5)]
    arrivals = [one for key in keys for one in said(key)]
    arrivals.insert(EACH, streamed(b"{", keys[1]))
    gain = Standing(streamed=Ranges(((1, EACH + 2),)), due=EACH + 2)
    return keys, Batch(now=NOW, arrivals=arrivals, gains=dict.fromkeys(keys, gain))


def told(url: str, keys: Sequence[int]) -> list[object]:
    with psycopg.connect(url) as admin:
        return [derived(admin, key) for key in keys]


def claimed(url: str, keys: Sequence[int]) -> list[str]:
    ledger = "SELECT streamed::text FROM store.ledger WHERE flow_key = ANY (%s) ORDER BY flow_key"
    return [streamed for (streamed,) in query(url, ledger, list(keys))]


async def test_it_leaves_what_one_transaction_leaves(database_url):
    fail_to_journal(database_url, REFUSED, state="22023")
    async with connect(database_url) as engine:
        keys, batch = await five_flows(engine)
        others, another = await five_flows(engine)
        assert (whole := await apply(engine, batch)).rejected == 1 + len(keys)
        in_parts = await apply_side_by_side(engine, another)
    assert {id_ for _, id_ in whole.refused} == {id_ for _, id_ in in_parts.refused} == {REFUSED}
    for field in set(Applied.__struct_fields__) - {"refused"}:
        assert getattr(in_parts, field) == getattr(whole, field), field
    assert told(database_url, keys) == told(database_url, others)
    without_it = f"{{[1,{REFUSED}),[{REFUSED + 1},{EACH + 3})}}"
    assert claimed(database_url, [*keys, *others]) == [without_it] * 10


@pytest.mark.parametrize("changed", [edit(2, 1, "second"), tag_change(2, 1, add=["todo"])])
async def test_who_waited_for_another_finds_what_that_one_wrote(database_url, changed):
    async with connect(database_url) as engine, connect(database_url) as other:
        key, alone = await new_flow(engine), await new_flow(engine)
        async with asyncio.timeout(20):
            async with transaction(engine) as tx:
                await write(tx, Batch(now=NOW, arrivals=[streamed(frame(1), key)]))
                change = Batch(now=NOW, arrivals=[streamed(changed, key)])
                waiting = asyncio.create_task(apply(other, change))
                while not waits_for_lock(database_url):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await waiting
        both = [streamed(one, alone) for one in (frame(1), changed)]
        await apply(engine, Batch(now=NOW, arrivals=both))
    one, another = told(database_url, [key, alone])
    assert one == another


def test_each_flow_is_of_one_part_with_all_that_is_of_it():
    keys = range(1, 6)
    gains = {key: Standing(due=key) for key in keys}
    arrivals = [one for key in keys for one in said(key)]
    batch = Batch(now=NOW, arrivals=arrivals, gains=gains, opened=frozenset(keys))
    parts = parted(batch, 3)
    assert sum(len(part.arrivals) for part in parts) == len(arrivals)
    for part in parts:
        assert {one.flow_key for one in part.arrivals} == part.gains.keys() == part.opened


async def test_what_goes_wrong_in_a_part_is_raised_as_it_is(database_url):
    fail_to_journal(database_url, REFUSED, state="42000")
    async with connect(database_url) as engine:
        _, batch = await five_flows(engine)
        with pytest.raises(DatabaseError):
            await apply_side_by_side(engine, batch)
