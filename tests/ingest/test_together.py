"""Pages that are written together: all of them, each once, and each told what was refused of it."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from archiver.domain.coverage import Ranges
from archiver.ingest.batch import Applied, Batch
from archiver.ingest.together import Together, can_merge, merged
from archiver.store.coverage import Standing
from tests.ingest.arriving import NOW, frame, listed


def page(first: int, last: int, *, flow_key: int = 1, epoch: int = 0) -> Batch:
    arrivals = [listed(frame(id_), flow_key, as_of=last) for id_ in range(first, last + 1)]
    gains = {flow_key: Standing(listed=Ranges(((first, last),)), epoch=epoch)}
    return Batch(now=NOW, arrivals=arrivals, gains=gains)


class Archive:
    """Notes what is written, and refuses the ids it was told; the first batch waits for a word."""

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


async def test_no_more_is_written_together_than_is_good(monkeypatch):
    monkeypatch.setattr("archiver.ingest.together.MOST_ARRIVALS", 6)
    archive = Archive()
    together = Together(archive.archive)
    pages = [page(first, first + 2) for first in (1, 4, 7, 10)]
    tasks = [asyncio.create_task(together.archive(one)) for one in pages]
    await started(*tasks)
    archive.go.set()
    await asyncio.gather(*tasks)

    assert [len(ids) for ids in archive.spans()] == [3, 6, 3]


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


def test_what_two_batches_prove_is_proven_by_both_together():
    both = merged(page(1, 3), merged(page(4, 6), page(2, 3, flow_key=2, epoch=7)))

    assert both.gains == {
        1: Standing(listed=Ranges(((1, 6),))),
        2: Standing(listed=Ranges(((2, 3),)), epoch=7),
    }
    assert len(both.arrivals) == 8


async def test_while_too_much_waits_nobody_asks_for_more(monkeypatch):
    monkeypatch.setattr("archiver.ingest.together.MOST_BYTES", 100)
    archive = Archive()
    together = Together(archive.archive)
    await together.room()
    task = asyncio.create_task(together.archive(page(1, 3)))
    waiting = asyncio.create_task(together.room())
    await started(task, waiting)
    assert not waiting.done()

    archive.go.set()
    await asyncio.gather(task, waiting)
