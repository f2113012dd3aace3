"""The invariants in the docstring of `archiver`: each has a test of its name."""

import ast
import asyncio
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy.exc import DBAPIError

from archiver.domain.coverage import Ranges
from archiver.errors import Corruption
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.ingest.rebuild import check, rebuild
from archiver.store.connection import Engine
from archiver.store.coverage import Standing
from archiver.store.engine import connect
from tests.ingest.applying import SENTENCES, everything, tell
from tests.ingest.arriving import (
    FEW,
    NOW,
    Gone,
    Heard,
    cut,
    derived,
    frame,
    hearsay,
    new_flow,
    running,
    streamed,
    tag_change,
    together,
)
from tests.ingest.foreign import foreign

ROOT = Path(__file__).parent.parent
MORE = settings(FEW, max_examples=40)


async def archived(engines: Sequence[Engine], batches: Sequence[Sequence[Heard]]) -> int:
    """Archive *batches* in a new flow, distributed over *engines* that work concurrently."""
    flow_key = await new_flow(engines[0])

    async def work(engine: Engine, mine: Sequence[Sequence[Heard]]) -> None:
        for batch in mine:
            await apply(engine, together(batch, flow_key))

    async with asyncio.TaskGroup() as group:
        for number, engine in enumerate(engines):
            group.create_task(work(engine, batches[number :: len(engines)]))
    return flow_key


async def rebuilt(engine: Engine, admin: psycopg.Connection, flow_key: int) -> None:
    """Delete a flow's derived rows and replay them from the journal."""
    assert not [step async for step in check(engine, flow_key) if step.differences]
    for table in ("messages", "revisions", "threads"):
        admin.execute(f"DELETE FROM store.{table} WHERE flow_key = %s", [flow_key])
    async for _ in rebuild(engine, flow_key):
        pass


JOURNAL = (
    "SELECT id, form, payload::text, witness, event, received_at, as_of "
    "FROM store.journal WHERE flow_key = %s ORDER BY id, form"
)


def test_the_journal_is_append_only(database_url, admin):
    with running(database_url) as (run, engine):

        @MORE
        @given(hearsay().flatmap(cut))
        def law(batches):
            flow_key = run(new_flow(engine))
            before: set[tuple[object, ...]] = set()
            for batch in batches:
                run(apply(engine, together(batch, flow_key)))
                after = admin.execute(JOURNAL, [flow_key]).fetchall()
                assert before <= set(after)
                before = set(after)
            told = {
                (heard.payload, heard.id if isinstance(heard, Gone) else None)
                for batch in batches
                for heard in batch
            }
            kept = [str(row[2]).encode() for row in before]
            assert sorted(kept) == sorted(payload for payload, _ in told)

        law()


@st.composite
def twice_told(draw: st.DrawFn) -> tuple[list[list[Heard]], list[list[Heard]]]:
    """The same events, in batches as one archive received them and as another did."""
    heard = draw(hearsay())
    return draw(cut(heard)), draw(cut(heard))


def test_a_row_is_the_replay_of_its_journal(database_url, admin):
    with running(database_url) as (run, engine):

        @MORE
        @given(twice_told())
        def law(told):
            here, there = (run(archived([engine], batches)) for batches in told)
            expected = derived(admin, here)
            assert derived(admin, there) == expected
            run(rebuilt(engine, admin, here))
            assert derived(admin, here) == expected

        law()


def test_two_that_write_side_by_side_make_the_same_rows(database_url, admin):
    with running(database_url, engines=2) as (run, one, other):

        @MORE
        @given(twice_told())
        def law(told):
            alone, beside = run(archived([one], told[0])), run(archived([one, other], told[1]))
            assert derived(admin, beside) == derived(admin, alone)

        law()


TABLES = ("journal", "messages", "revisions", "threads", "signals", "rejects", "ledger", "pages")


@pytest.mark.parametrize("table", TABLES)
def test_journal_rows_and_coverage_land_together(database_url, admin, table):
    with running(database_url) as (run, engine):
        flow_key = run(new_flow(engine))
        admin.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no more' USING ERRCODE = '58000'; END $$"
        )
        admin.execute(
            f"CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON store.{table} "
            "FOR EACH ROW EXECUTE FUNCTION fail()"
        )
        with pytest.raises((DBAPIError, psycopg.Error)):
            run(apply(engine, everything(flow_key)))
        assert landed(admin) == {}

        admin.execute(f"DROP TRIGGER fail ON store.{table}")
        run(apply(engine, everything(flow_key)))
        assert landed(admin).keys() == set(TABLES)


def landed(admin: psycopg.Connection) -> dict[str, int]:
    """The number of rows of each table that is not empty; unused ledger rows do not count."""
    counts = {
        table: admin.execute(
            f"SELECT count(*) FROM store.{table}" + (" WHERE due > 0" if table == "ledger" else "")
        ).fetchall()[0][0]
        for table in TABLES
    }
    return {table: count for table, count in counts.items() if count}


def test_coverage_never_claims_an_id_that_the_archive_does_not_hold(database_url, admin):
    with running(database_url) as (run, engine):

        @MORE
        @given(st.sets(st.integers(1, 12), min_size=1), st.sets(st.integers(1, 12)))
        def law(ids, refused):
            flow_key = run(new_flow(engine))
            arrivals = [streamed(frame(id_), flow_key) for id_ in sorted(ids)]
            # Stands for frames that can be decoded but that Postgres refuses: real ones are rare.
            arrivals = [
                replace(one, frame=b"not JSON") if one.id in refused else one for one in arrivals
            ]
            proven = Ranges(((min(ids), max(ids)),))
            gain = Standing(streamed=proven, listed=proven, due=12)
            batch = Batch(now=NOW, arrivals=arrivals, gains={flow_key: gain})
            applied = run(apply(engine, batch))

            assert {id_ for _, id_ in applied.refused} == ids & refused
            claimed = admin.execute(
                "SELECT id FROM generate_series(1, 12) AS id, store.ledger "
                "WHERE flow_key = %s AND (streamed @> id::bigint OR listed @> id::bigint)",
                [flow_key],
            )
            expected = set(range(min(ids), max(ids) + 1)) - (ids & refused)
            assert {id_ for (id_,) in claimed} == expected
            held = admin.execute("SELECT id FROM store.journal WHERE flow_key = %s", [flow_key])
            assert {id_ for (id_,) in held} == ids - refused

        law()


def test_foreign_data_cannot_stop_the_daemon_and_our_own_corruption_must(database_url, admin):
    with running(database_url) as (run, engine):
        flow_key = run(new_flow(engine))
        applied = run(apply(engine, Batch(now=NOW, arrivals=foreign(flow_key))))
        assert applied.refused == frozenset()
        assert applied.events + applied.signals + applied.rejected == len(foreign(flow_key))

        admin.execute("DELETE FROM store.journal")
        late = streamed(tag_change(2, 2, add=["todo"]), flow_key)
        with pytest.raises(Corruption):
            run(apply(engine, Batch(now=NOW, arrivals=[late])))
        assert landed(admin).get("journal", 0) == 0


WRITERS = {
    "journal": {"append", "sight"},
    "asides": {"add_signals", "add_rejects"},
    "messages": {"store"},
    "coverage": {"advance", "doubt"},
    "rebuilding": {"remove_messages", "remove_threads"},
    "rejecting": {"remove"},
}


def test_there_is_one_writer():
    writing = {
        (path.relative_to(ROOT).as_posix(), name.value.id, name.attr)
        for path in ROOT.glob("archiver/**/*.py")
        if not path.is_relative_to(ROOT / "archiver" / "store")
        for name in ast.walk(ast.parse(path.read_text()))
        if isinstance(name, ast.Attribute)
        and isinstance(name.value, ast.Name)
        and name.attr in WRITERS.get(name.value.id, ())
    }
    assert {path for path, _, _ in writing if not path.startswith("archiver/ingest/")} == set()
    called = {(module, function) for _, module, function in writing}
    assert called >= {("journal", "append"), ("messages", "store"), ("coverage", "advance")}
    for path in ROOT.glob("archiver/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                module = node.module.removeprefix("archiver.store.")
                names = {alias.name for alias in node.names}
                assert not names & WRITERS.get(module, set()), f"{path} imports {names}"


async def test_a_kill_at_any_instruction_costs_nothing(database_url, admin):
    async with connect(database_url) as engine:
        undisturbed, disturbed = await new_flow(engine), await new_flow(engine)
        await tell(engine, undisturbed)
        for chapters in (1, 17, 33):
            kill_after(chapters, admin, database_url, disturbed)
            assert unheld(admin, disturbed) == 0
        await tell(engine, disturbed)
    assert derived(admin, disturbed) == derived(admin, undisturbed)


def kill_after(chapters: int, admin: psycopg.Connection, database_url: str, flow_key: int) -> None:
    """Let a process write, and kill it when this many chapters are stored."""
    program = [sys.executable, "-m", "tests.ingest.applying", database_url, str(flow_key)]
    due = "SELECT due FROM store.ledger WHERE flow_key = %s"
    with subprocess.Popen(program, cwd=ROOT) as writer:
        while admin.execute(due, [flow_key]).fetchall()[0][0] < chapters * SENTENCES:
            assert writer.poll() is None
        writer.kill()


def unheld(admin: psycopg.Connection, flow_key: int) -> int:
    """How many messages are claimed but not there."""
    statement = (
        "SELECT count(*) FROM store.ledger, generate_series(1, due) AS id "
        "WHERE flow_key = %(flow)s AND streamed @> id AND (id - 1) %% %(size)s < 6 AND NOT EXISTS "
        "(SELECT FROM store.messages m WHERE m.flow_key = %(flow)s AND m.id = id)"
    )
    asked = {"flow": flow_key, "size": SENTENCES}
    return int(admin.execute(statement, asked).fetchall()[0][0])


async def test_a_connection_ended_at_any_statement_costs_nothing(database_url, admin):
    async with connect(database_url) as engine:
        undisturbed = await new_flow(engine)
        await tell(engine, undisturbed)
        ended, moments = 0, random.Random(0)
        while ended < 10:
            disturbed = await new_flow(engine)
            telling = asyncio.create_task(tell(engine, disturbed))
            most = ended + 10
            while not telling.done():
                await asyncio.sleep(moments.random() / 20)
                if ended < most:
                    ended += await asyncio.to_thread(end_at_work, admin)
            await telling
            assert unheld(admin, disturbed) == 0
            assert derived(admin, disturbed) == derived(admin, undisturbed)


def end_at_work(admin):
    """Terminate every session that is inside a transaction; returns how many there were."""
    return admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND (state = 'active' OR state LIKE 'idle in transaction%')"
    ).rowcount
