"""A writer that can be killed: it archives the same story over and over.

Run as a program, it takes a database and the key of a flow, and goes on until it is killed.
"""

import asyncio
import sys
from uuid import UUID

from archiver.domain.coverage import Ranges
from archiver.ingest.apply import apply_patiently
from archiver.ingest.batch import Batch
from archiver.store.connection import Engine
from archiver.store.coverage import PageRow, Standing
from archiver.store.engine import connect
from tests.ingest.arriving import NOW, edit, frame, listed, streamed, tag_change

CHAPTERS = 40
SENTENCES = 12


def chapter(number: int, flow_key: int) -> Batch:
    """Messages, changes of them and of earlier ones, a listing of the first; and the claim."""
    first = number * SENTENCES + 1
    last = first + SENTENCES - 1
    frames = [frame(id_, content=f"sentence {id_}") for id_ in range(first, first + 6)]
    frames.append(edit(first + 6, max(1, first - SENTENCES), f"rewritten {number}"))
    frames.append(edit(first + 7, first, f"corrected {number}"))
    frames += [tag_change(first + 8, target, add=["todo"]) for target in (1, first)]
    frames.append(frame(last, thread_id="t", thread={"id": "t", "title": f"chapter {number}"}))
    arrivals = [streamed(one, flow_key) for one in frames]
    arrivals.append(listed(frame(1, tags=[f"read-{number}"]), flow_key, as_of=last))
    gain = Standing(streamed=Ranges(((first, last),)), due=last)
    return Batch(now=NOW, arrivals=arrivals, gains={flow_key: gain})


def everything(flow_key: int) -> Batch:
    """A batch that writes to every table."""
    frames = [
        frame(5, thread_id="t", thread={"id": "t", "title": "a thread"}),
        edit(6, 5, "changed"),
        frame(7, "activity.user"),
        b"not JSON",
    ]
    page = PageRow(
        flow_key=flow_key,
        run=str(UUID(int=1)),
        purpose="backfill",
        asked=(1, 9),
        proven=(1, 9),
        messages=1,
        as_of=9,
        requested_at=NOW,
    )
    return Batch(
        now=NOW,
        arrivals=[streamed(one, flow_key) for one in frames],
        gains={flow_key: Standing(streamed=Ranges(((1, 9),)), due=9)},
        pages=[page],
    )


async def tell(engine: Engine, flow_key: int) -> None:
    """Archive the whole story."""
    for number in range(CHAPTERS):
        await apply_patiently(engine, chapter(number, flow_key))


async def main(database_url: str, flow_key: int) -> None:
    async with connect(database_url) as engine:
        while True:
            await tell(engine, flow_key)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
