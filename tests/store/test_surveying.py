"""How complete each flow is, for monitoring."""

from datetime import UTC, datetime, timedelta

import psycopg

from archiver.store.engine import connect
from archiver.store.surveying import events_beyond, survey

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def given(url: str) -> None:
    """Make flows that are proven, behind with two gaps, doubted, left, and empty."""
    flows = {
        "acme/proven": ("{[1,101)}", "{}", 100, True),
        "acme/behind": ("{[1,21),[31,41)}", "{}", 50, True),
        "acme/doubted": ("{[1,101)}", "{[1,51)}", 100, None),
        "acme/left": ("{}", "{}", 100, False),
        "acme/empty": ("{}", "{}", 0, True),
    }
    with psycopg.connect(url) as db:
        for path, (listed, doubted, due, joined) in flows.items():
            db.execute(
                "WITH f AS (INSERT INTO store.flows (flow_id, path, joined, first_seen_at)"
                " VALUES (%(path)s, %(path)s, %(joined)s, now()) RETURNING flow_key)"
                " INSERT INTO store.ledger (flow_key, listed, doubted, due, due_at)"
                " SELECT flow_key, %(listed)s, %(doubted)s, %(due)s, %(now)s FROM f",
                {
                    "path": path,
                    "joined": joined,
                    "listed": listed,
                    "doubted": doubted,
                    "due": due,
                    "now": NOW - timedelta(seconds=20),
                },
            )
        db.execute(
            "INSERT INTO store.journal (flow_key, id, form, digest, witness, event,"
            " received_at, as_of, payload) SELECT flow_key, id, 0, gen_random_uuid(), 'stream',"
            " 'message', %s - (60 - id) * interval '1 second', id, '{}'"
            " FROM store.flows, generate_series(31, 45) AS id WHERE path = 'acme/behind'",
            [NOW],
        )


async def test_each_flow_that_is_read_is_told_the_furthest_behind_first(database_url: str) -> None:
    given(database_url)
    async with connect(database_url) as engine, engine.connect() as tx:
        found = await survey(tx, now=NOW)
    told = {
        one.flow: (
            one.lag_seconds,
            one.gaps,
            one.unverified_ids,
            one.doubted_ids,
            one.oldest_gap_seconds,
        )
        for one in found.flows
    }
    assert list(told.items()) == [
        ("acme/behind", (19.0, 2, 20, 0, 29.0)),
        ("acme/doubted", (0.0, 0, 0, 50, 0.0)),
        ("acme/empty", (0.0, 0, 0, 0, 0.0)),
        ("acme/proven", (0.0, 0, 0, 0, 0.0)),
    ]
    assert found.lost == ["acme/left"]
    assert found.database_bytes > 1_000_000


async def test_what_has_come_since_is_counted_by_flow(database_url: str) -> None:
    given(database_url)
    async with connect(database_url) as engine, engine.connect() as tx:
        found = await events_beyond(tx, {"acme/behind": 40, "acme/proven": 0, "no/such": 1})
    assert found == {"acme/behind": 5}
