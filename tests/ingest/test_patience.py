"""While the database refuses writes, the writer retries, says why, and then goes on."""

import asyncio

from sqlalchemy import text

from archiver.ingest.apply import apply_patiently, when_possible
from archiver.ingest.batch import Batch
from archiver.store.connection import Transaction
from archiver.store.engine import connect
from tests.ingest.arriving import NOW, frame, new_flow, query, streamed


async def test_a_database_that_was_read_only_is_written_to_as_soon_as_it_is_not(
    database_url, admin, caplog
):
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
    alter = f"ALTER DATABASE {admin.info.dbname}"
    admin.execute(f"{alter} SET default_transaction_read_only = on")
    async with connect(database_url) as engine, asyncio.timeout(20):
        batch = Batch(now=NOW, arrivals=[streamed(frame(1), flow_key)])
        writing = asyncio.create_task(apply_patiently(engine, batch))
        while len(caplog.records) < 2:  # noqa: ASYNC110 - logs call nobody
            await asyncio.sleep(0.01)
        admin.execute("SET default_transaction_read_only = off")
        admin.execute(f"{alter} RESET default_transaction_read_only")
        assert (await writing).events == 1
    assert query(database_url, "SELECT id FROM archive.events") == [(1,)]
    why = "cannot execute SELECT FOR NO KEY UPDATE in a read-only transaction"
    assert {one.__dict__["reason"] for one in caplog.records} == {why}


async def sorted_on_disk(tx: Transaction) -> int:
    numbers = "SELECT count(*) FROM (SELECT n FROM generate_series(1, 300000) AS n OFFSET 0) AS ns"
    await tx.execute(text("SET LOCAL work_mem = '64kB'"))
    return int((await tx.execute(text(numbers))).scalar_one())


async def test_a_limit_that_is_raised_for_new_sessions_is_come_to_no_more(
    database_url, admin, caplog
):
    alter = f"ALTER DATABASE {admin.info.dbname}"
    admin.execute(f"{alter} SET temp_file_limit = 0")
    async with connect(database_url) as engine, asyncio.timeout(20):
        working = asyncio.create_task(when_possible(engine, sorted_on_disk))
        while len(caplog.records) < 2:  # noqa: ASYNC110 - logs call nobody
            await asyncio.sleep(0.01)
        admin.execute(f"{alter} RESET temp_file_limit")
        assert await working == 300_000
    # PostgreSQL 15 writes no quotation marks here.
    reasons = {one.__dict__["reason"].replace('"', "") for one in caplog.records}
    assert reasons == {"temporary file size exceeds temp_file_limit (0kB)"}
