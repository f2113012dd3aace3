"""What reports say of an archive, on a real one."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from archiver.store import directory, reading
from archiver.store.connection import Transaction
from archiver.store.engine import create_engine
from archiver.store.reading import Count, FlowReport

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def db(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
async def tx(database_url: str) -> AsyncIterator[Transaction]:
    engine = create_engine(database_url)
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


def add_flow(
    db: psycopg.Connection, path: str, *, streamed: str = "{}", listed: str = "{}", due: int = 0
) -> int:
    row = db.execute(
        "INSERT INTO store.flows (flow_id, path, first_seen_at) VALUES (%s, %s, %s)"
        " RETURNING flow_key",
        [path, path, NOW],
    ).fetchone()
    assert row is not None
    db.execute(
        "INSERT INTO store.ledger (flow_key, streamed, listed, due, due_at)"
        " VALUES (%s, %s, %s, %s, %s)",
        [row[0], streamed, listed, due, NOW - timedelta(seconds=7)],
    )
    return int(row[0])


def add_events(db: psycopg.Connection, flow_key: int, ids: str, *, form: int = 0) -> None:
    """Journal a message for each id of the query *ids*; id n came n seconds after NOW - 1h."""
    db.execute(
        "INSERT INTO store.journal (flow_key, id, form, digest, witness, event, sent_at,"
        " received_at, as_of, payload) SELECT %(key)s, id, %(form)s, gen_random_uuid(), 'stream',"
        " 'message', NULL, %(start)s + id * interval '1 second', id, '{}'"
        f" FROM ({ids}) AS of(id)",
        {"key": flow_key, "form": form, "start": NOW - timedelta(hours=1)},
    )


def add_page(
    db: psycopg.Connection,
    flow_key: int,
    *,
    at: datetime,
    error: str | None,
    purpose: str = "backfill",
) -> None:
    db.execute(
        "INSERT INTO store.pages (flow_key, run, purpose, asked, messages, as_of, requested_at,"
        " error) VALUES (%s, gen_random_uuid(), %s, '[1,9)', 0, 0, %s, %s)",
        [flow_key, purpose, at, error],
    )


async def report(tx: Transaction, flow_key: int, *, exact: bool = False) -> FlowReport:
    (found,) = await reading.flow_reports(tx, [flow_key], now=NOW, exact=exact)
    return found


async def test_an_empty_archive_is_told_as_empty(tx: Transaction) -> None:
    assert await directory.flow_paths(tx) == {}
    assert await reading.flow_reports(tx, [], now=NOW, exact=False) == []
    totals = await reading.totals(tx, exact=False)
    assert (totals.signals, totals.rejects, totals.written_at) == (Count(0), Count(0), None)
    assert totals.database_bytes > 0


async def test_a_flow_of_which_nothing_is_known_claims_nothing(
    db: psycopg.Connection, tx: Transaction
) -> None:
    found = await report(tx, add_flow(db, "acme/new"))
    assert (found.events, found.gaps, found.missing_ids) == (Count(0), None, None)
    assert (found.proven, found.lag_seconds, found.newest_at, found.newest_id) == (
        None, None, None, 0
    )  # fmt: skip


async def test_a_flow_proven_by_both_witnesses_has_no_gap_and_no_lag(
    db: psycopg.Connection, tx: Transaction
) -> None:
    flow_key = add_flow(db, "acme/main", streamed="{[50,101)}", listed="{[1,60)}", due=100)
    add_events(db, flow_key, "SELECT generate_series(1, 100)")
    found = await report(tx, flow_key)
    assert (found.gaps, found.missing_ids, found.proven, found.lag_seconds) == (0, 0, 1.0, 0.0)
    assert found.newest_at == NOW - timedelta(seconds=3500)


async def test_gaps_are_what_neither_witness_proves(
    db: psycopg.Connection, tx: Transaction
) -> None:
    flow_key = add_flow(db, "acme/main", streamed="{[91,101)}", listed="{[1,51),[61,71)}", due=100)
    found = await report(tx, flow_key)
    assert (found.gaps, found.missing_ids, found.proven) == (2, 30, 0.7)


async def test_lag_is_how_long_the_first_id_above_the_proven_has_been_known(
    db: psycopg.Connection, tx: Transaction
) -> None:
    flow_key = add_flow(db, "acme/main", listed="{[1,11)}", due=10)
    add_events(db, flow_key, "VALUES (5), (100), (200)")
    found = await report(tx, flow_key)
    assert (found.newest_id, found.lag_seconds) == (200, 3500.0)
    only_told_of = add_flow(db, "acme/told", listed="{[1,11)}", due=20)
    assert (await report(tx, only_told_of)).lag_seconds == 7.0


async def test_the_last_error_is_that_of_the_newest_request(
    db: psycopg.Connection, tx: Transaction
) -> None:
    flow_key = add_flow(db, "acme/main")
    assert (await report(tx, flow_key)).last_error is None
    add_page(db, flow_key, at=NOW - timedelta(2), error=None)
    add_page(db, flow_key, at=NOW - timedelta(1), error="503")
    assert (await report(tx, flow_key)).last_error == "503"
    add_page(db, flow_key, at=NOW, error=None)
    assert (await report(tx, flow_key)).last_error is None


async def test_what_was_dated_while_a_clock_was_ahead_is_not_the_newest(
    db: psycopg.Connection, tx: Transaction
) -> None:
    flow_key = add_flow(db, "acme/main", due=10)
    ahead = NOW + timedelta(1)
    add_page(db, flow_key, at=ahead, error="503")
    add_page(db, flow_key, at=NOW, error=None)
    found = await report(tx, flow_key)
    assert found.last_error is None
    add_page(db, flow_key, at=NOW + timedelta(seconds=30), error="504")
    assert (await report(tx, flow_key)).last_error == "504"
    db.execute("UPDATE store.ledger SET due_at = %s", [ahead])
    assert (await report(tx, flow_key)).lag_seconds == 0


async def test_whether_a_flow_is_told_is_told_by_the_order_of_requests(
    db: psycopg.Connection, tx: Transaction
) -> None:
    flow_key = add_flow(db, "acme/main")
    for at, error in (
        (NOW + timedelta(2), "503"),
        (NOW, None),
        (NOW + timedelta(1), None),
        (NOW, "504"),
    ):
        add_page(db, flow_key, at=at, error=error, purpose="head")
        assert (await report(tx, flow_key)).not_told == error


async def test_reports_are_of_the_flows_asked_for_in_their_order(
    db: psycopg.Connection, tx: Transaction
) -> None:
    keys = [add_flow(db, path) for path in ("acme/b", "acme/a", "acme/c")]
    assert list((await directory.flow_paths(tx)).values()) == ["acme/a", "acme/b", "acme/c"]
    found = await reading.flow_reports(tx, [keys[2], keys[0]], now=NOW, exact=False)
    assert [one.flow for one in found] == ["acme/c", "acme/b"]


async def test_an_event_in_several_forms_counts_once(
    db: psycopg.Connection, tx: Transaction
) -> None:
    flow_key = add_flow(db, "acme/main")
    for form in range(3):
        add_events(db, flow_key, "SELECT generate_series(1, 10)", form=form)
    for exact in (False, True):
        assert (await report(tx, flow_key, exact=exact)).events == Count(10)


@pytest.mark.parametrize(
    "nth",
    [
        "n",
        "n * 3",
        "n * 2 - random()::int",
        "n + 900000 * (n > 5000)::int",
        "n + greatest(n, 15000) * 4",
    ],
    ids=["dense", "sparse", "uneven", "with a gap", "sparser in the end"],
)
async def test_a_big_flow_is_estimated_and_counted_only_on_demand(
    db: psycopg.Connection,
    tx: Transaction,
    nth: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "SMALL_INDEX_BYTES", 0)
    flow_key = add_flow(db, "acme/main")
    add_events(db, flow_key, f"SELECT {nth} FROM generate_series(1, 20000) AS n")
    told = (await report(tx, flow_key)).events
    assert not told.exact
    assert told.rows == pytest.approx(20000, rel=0.15)
    assert (await report(tx, flow_key, exact=True)).events == Count(20000)


async def test_small_flows_of_a_big_archive_are_counted_exactly(
    db: psycopg.Connection, tx: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SMALL_INDEX_BYTES", 0)
    keys = {rows: add_flow(db, f"acme/{rows}") for rows in (0, 1, 2, 31, 400)}
    for rows, flow_key in keys.items():
        add_events(db, flow_key, f"SELECT generate_series(7, {rows + 6})")
    found = await reading.flow_reports(tx, list(keys.values()), now=NOW, exact=False)
    assert [one.events for one in found] == [Count(rows) for rows in keys]


async def test_the_newest_event_was_written_though_nothing_is_proven_by_it(
    db: psycopg.Connection, tx: Transaction
) -> None:
    add_events(db, add_flow(db, "acme/main"), "SELECT generate_series(1, 5000)")
    add_flow(db, "acme/quiet")
    db.execute("UPDATE store.ledger SET due_at = NULL")
    written = NOW - timedelta(hours=1) + timedelta(seconds=5000)
    assert (await reading.totals(tx, exact=False)).written_at == written
    db.execute("UPDATE store.ledger SET due_at = %s", [NOW + timedelta(days=1)])
    await tx.rollback()
    assert (await reading.totals(tx, exact=False)).written_at == NOW + timedelta(days=1)


async def test_signals_and_rejects_are_counted(
    db: psycopg.Connection, tx: Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.execute(
        "INSERT INTO store.signals (event, at, payload)"
        " SELECT 'presence', now(), '{}' FROM generate_series(1, 300)"
    )
    db.execute("ANALYZE store.signals")
    add_flow(db, "acme/main")
    totals = await reading.totals(tx, exact=False)
    assert (totals.signals, totals.rejects) == (Count(300), Count(0))
    assert totals.written_at == NOW - timedelta(seconds=7)
    monkeypatch.setattr(reading, "SMALL_INDEX_BYTES", 0)
    estimated = await reading.totals(tx, exact=False)
    assert estimated.signals == Count(300, exact=False)
    assert (await reading.totals(tx, exact=True)).signals == Count(300)
