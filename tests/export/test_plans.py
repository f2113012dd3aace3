"""The time of an export grows with its rows alone, however little Postgres knows of the archive."""

import re

import psycopg
import pytest
from psycopg import sql

from archiver.store.exporting_choice import Part, Selection
from archiver.store.exporting_rows import conversation_query


@pytest.mark.parametrize("by_thread", [False, True])
def test_no_message_is_compared_with_every_thread(archive_url: str, *, by_thread: bool) -> None:
    part = Part(flow="acme/main", month="always", rows=15, first_id=1, last_id=26)
    query = conversation_query(part, Selection(flows=("acme/main",)), by_thread=by_thread)
    with psycopg.connect(archive_url) as db:
        db.execute("SET enable_seqscan = off")
        plan = "\n".join(row[0] for row in db.execute(sql.SQL("EXPLAIN ") + query))
    assert "CTE Scan on chosen" in plan
    assert not re.search(r"Join Filter: .*thread_id", plan)
