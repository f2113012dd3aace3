"""The ledger in Postgres: unions commute, views of gaps agree, and locks do not deadlock."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import text

from archiver.domain.coverage import Ranges
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.store import coverage, missing, wanted
from archiver.store.connection import Transaction
from archiver.store.coverage import NEWEST_PROVABLE, PageRow, Purpose, Standing
from archiver.store.engine import connect, transaction
from tests.ingest.arriving import NOW, frame, new_flow, query, running, streamed

LAST = 2**63 - 1
FEW = settings(
    max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
_ends = st.integers(1, 30) | st.sampled_from([LAST - 2, LAST - 1, LAST])
_ranges = st.lists(st.tuples(_ends, _ends), max_size=3).map(Ranges.of)
_standings = st.builds(Standing, streamed=_ranges, listed=_ranges, due=st.just(0) | _ends)


def bounded(ranges: Ranges) -> Ranges:
    return ranges - Ranges(((NEWEST_PROVABLE + 1, LAST),))


def page(
    flow_key: int, purpose: Purpose, asked: tuple[int, int], *, error: str | None = None
) -> PageRow:
    return PageRow(
        flow_key=flow_key,
        run="00000000-0000-0000-0000-000000000000",
        purpose=purpose,
        asked=asked,
        proven=None if error else asked,
        messages=0,
        as_of=0,
        requested_at=NOW,
        error=error,
    )


def test_what_is_proven_is_the_union_of_all_gains_in_any_order(database_url):
    with running(database_url) as (run, engine):

        async def stand(gains: Sequence[Standing]) -> tuple[Standing, Ranges]:
            flow_key = await new_flow(engine)
            for gain in gains:
                async with transaction(engine) as tx:
                    await coverage.advance(tx, {flow_key: gain}, now=NOW)
            async with transaction(engine) as tx:
                standing = (await coverage.standings(tx))[flow_key]
                asked = (await wanted.wanting(tx, [flow_key])).get(flow_key)
                return standing, asked.missing if asked else Ranges()

        @FEW
        @given(
            st.lists(_standings, min_size=1, max_size=4).flatmap(
                lambda gains: st.tuples(st.just(gains), st.permutations(gains))
            )
        )
        def law(orders):
            standing, missing = run(stand(orders[0]))
            assert run(stand(orders[1])) == (standing, missing)
            gains = orders[0]
            assert standing.streamed == bounded(Ranges.of(s for g in gains for s in g.streamed))
            assert standing.listed == bounded(Ranges.of(s for g in gains for s in g.listed))
            assert standing.due == min(max(gain.due for gain in gains), NEWEST_PROVABLE)
            assert missing == Ranges.of([(1, standing.due)]) - standing.proven

        law()


def scattered(count: int, *, seed: int) -> Ranges:
    """So many ranges, with irregular lengths and distances."""
    chance, spans, at = Random(seed), [], 0
    for _ in range(count):
        first = at + chance.randint(2, 100_000)
        at = first + chance.randint(0, 100_000)
        spans.append((first, at))
    return Ranges.of(spans)


@pytest.mark.parametrize(("count", "is_kept"), [(20, True), (60, False), (3000, False)])
async def test_of_very_many_ranges_of_streams_those_are_dropped_that_listings_prove(
    database_url, count, is_kept
):
    """Otherwise ten years of connections would make a row of megabytes, written twice a second."""
    streamed, listed = scattered(count, seed=1), scattered(count, seed=2)
    newest = streamed.last
    covered = Ranges(((1, newest // 2),)) | listed
    before = streamed | covered
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        gain = Standing(streamed=Ranges(((newest + 2, newest + 9),)), due=newest + 9)
        for one in (Standing(streamed=streamed, listed=covered, due=newest), gain):
            async with transaction(engine) as tx:
                await coverage.advance(tx, {flow_key: one}, now=NOW)
        async with transaction(engine) as tx:
            standing = (await coverage.standings(tx))[flow_key]
    assert standing.proven == before | gain.streamed
    assert standing.listed == covered
    left = streamed if is_kept else streamed - covered
    assert standing.streamed == left | gain.streamed


def test_the_view_of_gaps_and_the_view_of_coverage_agree_with_the_ledger(database_url):
    with running(database_url) as (run, engine):

        async def prove() -> None:
            flow_key = await new_flow(engine)
            gain = Standing(streamed=Ranges(((5, 9),)), listed=Ranges(((20, LAST),)), due=LAST)
            async with transaction(engine) as tx:
                await coverage.advance(tx, {flow_key: gain}, now=NOW)

        run(prove())
    spans = query(database_url, "SELECT witness, from_id, to_id FROM archive.coverage ORDER BY 2")
    assert spans == [("stream", 5, 9), ("list", 20, LAST - 1)]
    told = query(database_url, "SELECT from_id, to_id, attempts FROM archive.gaps ORDER BY 1")
    assert told == [(1, 4, 0), (10, 19, 0)]


async def test_a_failed_request_is_told_with_the_gap(database_url):
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        row = page(flow_key, "backfill", (3, LAST), error="503")
        async with transaction(engine) as tx:
            await coverage.advance(tx, {flow_key: Standing(due=9)}, pages=[row], now=NOW)
    told = query(database_url, "SELECT from_id, to_id, attempts, last_error FROM archive.gaps")
    assert told == [(1, 9, 1, "503")]


async def test_of_what_was_asked_again_and_again_long_ago_little_is_kept(database_url):
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        rows = [
            page(flow_key, "audit", (4, 9), error="500"),
            *(page(flow_key, "backfill", (2, 9), error=error) for error in ("501", None)),
            *(page(flow_key, purpose, (1, 9)) for purpose in ("backfill", "audit", "verify")),
        ]
        rows += [page(flow_key, "backfill", (1, 9), error=f"50{number}") for number in range(5)]
        rows += [page(flow_key, "backfill", (4, 9), error="504"), page(flow_key, "verify", (1, 9))]
        rows = [replace(one, requested_at=NOW + timedelta(days=n)) for n, one in enumerate(rows)]
        async with transaction(engine) as tx:
            gain = {flow_key: Standing(due=9)}
            await coverage.advance(tx, gain, pages=rows, now=NOW)
            await coverage.drop_audits(
                tx, before=NOW + timedelta(days=9), until=NOW + timedelta(days=99)
            )
        kept = "SELECT purpose, error, lower(asked) FROM store.pages ORDER BY page_key"
    assert query(database_url, kept) == [
        ("audit", "500", 4),
        ("backfill", "501", 2),
        ("backfill", None, 2),
        ("backfill", None, 1),
        *[("backfill", error, 1) for error in ("502", "503", "504")],
        ("backfill", "504", 4),
        ("verify", None, 1),
    ]
    told = query(database_url, "SELECT last_error FROM archive.gaps")
    assert told == [("504",)]


async def test_what_is_wanted_of_flows_is_found_without_reading_all_others(database_url):
    """In ten years, tens of thousands of flows may have been closed, many of them doubted."""
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        async with transaction(engine) as tx:
            await coverage.advance(tx, {flow_key: Standing(due=9)}, now=NOW)
            await tx.execute(text(_CLOSED), {"above": flow_key})
        async with transaction(engine) as tx:
            await tx.execute(text("ANALYZE store.ledger"))
            before = (await tx.execute(text(_READ_OF_LEDGER))).scalar_one()
            assert (await wanted.wanting(tx, [flow_key])).keys() == {flow_key}
            assert (await tx.execute(text(_READ_OF_LEDGER))).scalar_one() - before < 10


async def test_of_looks_at_a_flows_newest_message_long_ago_the_last_are_kept(database_url):
    """The service fails for a moment every few days, and each time the flow has come further."""
    async with connect(database_url) as engine:
        flow_key, other = await new_flow(engine), await new_flow(engine)
        looks = [
            page(key, "head", (number, LAST), error=error)
            for number in range(1, 5)
            for key, error in ((flow_key, "500"), (flow_key, None), (other, "502"))
        ]
        rows = [replace(one, requested_at=NOW + timedelta(days=n)) for n, one in enumerate(looks)]
        async with transaction(engine) as tx:
            await coverage.advance(tx, {}, pages=rows, now=NOW)
            await coverage.drop_audits(
                tx, before=NOW + timedelta(days=9), until=NOW + timedelta(days=99)
            )
            assert await missing.untold(tx, [flow_key, other]) == {other: "502"}
    kept = "SELECT flow_key, error, lower(asked) FROM store.pages ORDER BY page_key"
    assert query(database_url, kept) == [
        (flow_key, "500", 3),
        (flow_key, None, 3),
        (other, "502", 3),
        (flow_key, "500", 4),
        (flow_key, None, 4),
        (other, "502", 4),
    ]


async def test_what_is_not_told_of_a_flow_is_found_without_reading_the_pages_since(database_url):
    """One that failed and was then closed stays as it was for years."""
    async with connect(database_url) as engine:
        flow_key, closed = await new_flow(engine), await new_flow(engine)
        async with transaction(engine) as tx:
            looked = page(closed, "head", (1, LAST), error="500")
            await coverage.advance(tx, {}, pages=[looked], now=NOW)
            await tx.execute(text(_FILL_PAGES), {"flow_key": flow_key, "now": NOW})
        async with transaction(engine) as tx:
            await tx.execute(text("ANALYZE store.pages"))
            before = (await tx.execute(text(_READ))).scalar_one()
            assert await missing.untold(tx, [flow_key, closed]) == {closed: "500"}
            assert (await tx.execute(text(_READ))).scalar_one() - before < 100


async def test_pages_that_are_kept_for_good_are_read_only_once_for_others_to_be_dropped(
    database_url,
):
    """Each reconnection adds one to each flow; in ten years, that may make a hundred million."""

    def audits(flow_key: int, *days: int) -> list[PageRow]:
        row = page(flow_key, "audit", (1, 9))
        return [replace(row, requested_at=NOW + timedelta(days=n)) for n in days]

    async def drop(tx: Transaction, *, day: int, looked_through: int) -> tuple[int, int]:
        before = (await tx.execute(text(_READ))).scalar_one()
        passed = await coverage.drop_audits(
            tx,
            before=NOW + timedelta(days=day),
            until=NOW + timedelta(days=day + 90),
            looked_through=looked_through,
        )
        return passed, (await tx.execute(text(_READ))).scalar_one() - before

    kept = "SELECT requested_at FROM store.pages WHERE purpose = 'audit' ORDER BY page_key"
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        async with transaction(engine) as tx:
            await tx.execute(text(_FILL_PAGES), {"flow_key": flow_key, "now": NOW})
            # The last was under way when the one before it was requested; one has a wrong date.
            rows = audits(flow_key, 1, 2, 9999, 5, 4)
            await coverage.advance(tx, {flow_key: Standing(due=9)}, pages=rows, now=NOW)
        async with transaction(engine) as tx:
            await tx.execute(text("ANALYZE store.pages"))
        async with transaction(engine) as tx:
            passed, first = await drop(tx, day=3, looked_through=0)
        assert [at for (at,) in query(database_url, kept)] == [
            row.requested_at for row in audits(flow_key, 9999, 5, 4)
        ]
        async with transaction(engine) as tx:
            passed, second = await drop(tx, day=6, looked_through=passed)
        assert first > 20_000
        assert second < 100
        assert [at for (at,) in query(database_url, kept)] == [NOW + timedelta(days=9999)]
        async with transaction(engine) as tx:
            assert (await drop(tx, day=7, looked_through=passed))[0] == passed


_FILL_PAGES = """
    INSERT INTO store.pages (flow_key, run, purpose, asked, proven, messages, as_of, requested_at)
    SELECT :flow_key, gen_random_uuid(), 'backfill', int8range(n, n + 1), int8range(n, n + 1), 1, n,
           :now
    FROM generate_series(1, 20000) AS n
"""
_CLOSED = """
    INSERT INTO store.ledger (flow_key, due, doubted)
    SELECT :above + n, 9, '{[1,9]}' FROM generate_series(1, 3000) AS n
"""
_READ = """
    SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables
    WHERE schemaname = 'store' AND relname = 'pages'
"""
_READ_OF_LEDGER = _READ.replace("pages", "ledger")


async def test_two_that_lock_the_same_flows_in_opposite_orders_do_not_wait_for_each_other(
    database_url,
):
    async with connect(database_url) as engine:
        flows = [await new_flow(engine) for _ in range(20)]

        async def write(order: Sequence[int]) -> None:
            for _ in range(10):
                async with transaction(engine) as tx:
                    await coverage.lock(tx, order)
                    gains = {flow_key: Standing(due=1) for flow_key in order}
                    await coverage.advance(tx, gains, now=NOW)

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for order in (flows, flows[::-1], flows[5:] + flows[:5]):
                group.create_task(write(order))


async def test_who_locks_a_flow_keeps_others_from_writing_to_it(database_url):
    async with connect(database_url) as engine:
        one, other = await new_flow(engine), await new_flow(engine)
        async with transaction(engine) as tx:
            await coverage.lock(tx, [one])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1), transaction(engine) as second:
                    await coverage.lock(second, [one])
            async with asyncio.timeout(20), transaction(engine) as second:
                await coverage.lock(second, [other])


async def test_a_flow_has_come_to_what_is_due_or_kept_whichever_is_newer(database_url):
    async with connect(database_url) as engine:
        kept, due, neither = [await new_flow(engine) for _ in range(3)]
        said = [streamed(frame(id_), key) for key in (kept, due) for id_ in (3, 7, 5)]
        await apply(engine, Batch(now=NOW, arrivals=said, gains={due: Standing(due=9)}))
        async with transaction(engine) as tx:
            newest = await coverage.heads(tx, [kept, due, neither])
    assert newest == {kept: 7, due: 9, neither: 0}
