"""Pages are written together: each of them once, and each is told what was refused of it."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from archiver.domain.coverage import Ranges
from archiver.domain.events import Rejected
from archiver.ingest.batch import Applied, Batch
from archiver.ingest.together import Together, can_merge, merged
from archiver.store.coverage import PageRow, Standing
from tests.ingest.arriving import NOW, frame, listed


def page(first: int, last: int, *, flow_key: int = 1, epoch: int = 0) -> Batch:
    arrivals = [listed(frame(id_), flow_key, as_of=last) for id_ in range(first, last + 1)]
    gains = {flow_key: Standing(listed=Ranges(((first, last),)), epoch=epoch)}
    return Batch(now=NOW, arrivals=arrivals, gains=gains)


class Archive:
    """Records what is written, and refuses the given ids; no write ends before *go* is set."""

    def __init__(self, refused: frozenset[tuple[int, int]] = frozenset()) -> None:
        self.written: list[Batch] = []
        self.go = asyncio.Event()
        self._refused = refused

    async def archive(self, batch: Batch) -> Applied:
        self.written.append(batch)
        await self.go.wait()
        own = {(one.flow_key, one.id) for one in batch.arrivals}
        return Applied(refused=frozenset(key for key in self._refused if key in own))

    def spans(self) -> list[list[int]]:
        return [sorted(one.id or 0 for one in batch.arrivals) for batch in self.written]


async def started(*tasks: asyncio.Task[Any]) -> None:
    for _ in range(3 * len(tasks)):
        await asyncio.sleep(0)


async def test_what_comes_while_one_is_written_is_written_together():
    archive = Archive(refused=frozenset({(1, 5), (1, 8)}))
    together = Together(archive.archive)
    pages = [page(1, 3), page(4, 6), page(7, 9)]
    tasks = [asyncio.create_task(together.archive(one)) for one in pages]
    await started(*tasks)
    archive.go.set()

    assert await asyncio.gather(*tasks) == [frozenset(), {(1, 5)}, {(1, 8)}]
    assert archive.spans() == [[1, 2, 3], [4, 5, 6, 7, 8, 9]]
    assert archive.written[1].gains == {1: Standing(listed=Ranges(((4, 9),)))}


@pytest.mark.parametrize(
    "third",
    [
        page(6, 8),
        replace(page(6, 8), gains={}),
        page(7, 9, epoch=1),
        replace(page(7, 9), opened=frozenset({1})),
    ],
    ids=["what it proves", "its events", "its epoch", "its streams"],
)
async def test_what_is_in_the_way_of_others_is_written_after_them(third):
    archive = Archive()
    together = Together(archive.archive)
    pages = [page(1, 3), replace(page(4, 6), gains=third.gains and page(4, 6).gains), third]
    tasks = [asyncio.create_task(together.archive(one)) for one in pages]
    await started(*tasks)
    archive.go.set()
    await asyncio.gather(*tasks)

    assert archive.written == pages


async def test_what_is_in_the_way_of_one_keeps_no_other_waiting():
    archive = Archive()
    together = Together(archive.archive)
    in_the_way = replace(page(8, 8), arrivals=())
    pages = [page(1, 3), page(4, 6), page(7, 9), in_the_way, page(10, 12)]
    tasks = [asyncio.create_task(together.archive(one)) for one in pages]
    await started(*tasks)
    archive.go.set()
    await asyncio.gather(*tasks)

    assert archive.spans() == [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10, 11, 12], []]


async def test_what_could_not_be_read_is_in_nobodys_way():
    archive = Archive()
    together = Together(archive.archive)
    unread = [replace(one, decoded=Rejected(reason="no id")) for one in page(4, 4).arrivals]
    pages = [page(1, 3), *[Batch(now=NOW, arrivals=unread)] * 3]
    tasks = [asyncio.create_task(together.archive(one)) for one in pages]
    await started(*tasks)
    archive.go.set()
    await asyncio.gather(*tasks)

    assert [len(batch.arrivals) for batch in archive.written] == [3, 3]


async def test_no_more_is_written_together_than_is_good(monkeypatch):
    monkeypatch.setattr("archiver.ingest.together.MOST_ARRIVALS", 6)
    archive = Archive()
    together = Together(archive.archive)
    pages = [page(1, 9), *[page(first, first + 2) for first in (10, 13, 16)]]
    tasks = [asyncio.create_task(together.archive(one)) for one in pages]
    await started(*tasks)
    archive.go.set()
    await asyncio.gather(*tasks)

    assert [len(ids) for ids in archive.spans()] == [9, 6, 3]


async def test_who_is_cancelled_while_it_writes_leaves_the_others_to_be_written():
    archive = Archive()
    together = Together(archive.archive)
    tasks = [asyncio.create_task(together.archive(page(n, n))) for n in range(1, 4)]
    await started(*tasks)
    tasks[0].cancel()
    tasks[1].cancel()
    archive.go.set()

    assert await tasks[2] == frozenset()
    assert archive.spans()[-1] == [3]
    assert tasks[0].cancelled()
    assert tasks[1].cancelled()


def test_pages_of_one_flow_are_merged_when_they_show_other_ids_in_the_same_epoch():
    assert can_merge(page(1, 3), page(4, 6))
    assert can_merge(page(1, 3), page(2, 3, flow_key=2))
    assert not can_merge(page(1, 3), page(3, 5))
    assert not can_merge(page(1, 3), page(4, 6, epoch=1))
    assert not can_merge(replace(page(1, 3), opened=frozenset({2})), page(4, 6))


def test_what_two_batches_prove_is_proven_by_both_together():
    both = merged(page(1, 3), merged(page(4, 6), page(2, 3, flow_key=2, epoch=7)))

    assert both.gains == {
        1: Standing(listed=Ranges(((1, 6),))),
        2: Standing(listed=Ranges(((2, 3),)), epoch=7),
    }
    assert len(both.arrivals) == 8


def test_what_is_merged_keeps_the_newest_and_leaves_nothing_out():
    later = NOW + timedelta(seconds=1)
    gain = Standing(streamed=Ranges(((4, 6),)), due=6)
    row = PageRow(
        flow_key=1,
        run="run",
        purpose="backfill",
        asked=(1, 9),
        proven=None,
        messages=0,
        as_of=9,
        requested_at=NOW,
    )
    first = replace(page(1, 3), pages=[row])
    second = Batch(now=later, gains={1: gain}, pages=[replace(row, flow_key=2)])
    for both in (merged(first, second), merged(second, first)):
        assert both.gains == {1: replace(gain, listed=Ranges(((1, 3),)))}
        assert both.now == later
        assert {one.flow_key for one in both.pages} == {1, 2}


async def test_while_too_much_waits_nobody_asks_for_more(monkeypatch):
    monkeypatch.setattr("archiver.ingest.together.MOST_BYTES", 100)
    written = asyncio.Semaphore(0)

    async def archive(_: Batch) -> Applied:
        await written.acquire()
        return Applied()

    together = Together(archive)
    await together.room()
    # Two listings of the same range are not written together, but one after the other.
    tasks = [asyncio.create_task(together.archive(page(1, 3))) for _ in range(2)]
    waiting = asyncio.create_task(together.room())
    for _ in tasks:
        await started(*tasks, waiting)
        assert not waiting.done()
        written.release()
    await asyncio.gather(*tasks, waiting)
