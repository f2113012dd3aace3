"""How Postgres answers what people ask of a big archive: by an index, whatever the size.

The table is so large that the planner avoids reading all of it, and it has statistics; sequential
scans are allowed.
"""

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.conftest import created, named

BIG = frozenset({"messages", "revisions", "journal", "threads", "pages"})

FILL = """
    INSERT INTO store.flows (flow_id, path, first_seen_at)
        SELECT n, 'acme/flow-' || n, now() FROM generate_series(1, 200) AS n;
    INSERT INTO store.users (user_id, nick, first_seen_at, last_seen_at)
        SELECT n, 'nick-' || n, now(), now() FROM generate_series(1, 400) AS n;
    INSERT INTO store.messages (flow_key, id, event, user_id, sent_at, content, tags, thread_id,
                                edits, removed, attachments, as_of, revisions)
        SELECT n % 200 + 1, n, 'message', n * 7 % 400 + 1,
               timestamptz '2020-01-01Z' + n * interval '3 minutes', repeat('some words ', 9),
               CASE WHEN n % 10 = 0 THEN ARRAY['tag-' || n % 400, ':user:' || n % 390]
                    ELSE '{}' END,
               CASE WHEN n % 2 = 0 THEN 'thread-' || n % 200 || '-' || n / 800 END,
               0, false,
               CASE WHEN n % 400 = 50 THEN '[{"file_name": "a.png", "size_bytes": 7}]'::jsonb END,
               n, CASE WHEN n % 20 = 0 THEN 2 ELSE 0 END
        FROM generate_series(1, 40000) AS n;
    INSERT INTO store.revisions (flow_key, message_id, ordinal, revision, kind, at, tags, event)
        SELECT flow_key, id, ordinal, id + ordinal, 'edited', sent_at + ordinal * interval '1 day',
               '{}', 'message'
        FROM store.messages CROSS JOIN generate_series(0, 1) AS ordinal WHERE revisions = 2;
    INSERT INTO store.journal (flow_key, id, form, digest, witness, event, sent_at, target_id,
                               received_at, as_of, payload)
        SELECT flow_key, id, 0, gen_random_uuid(), 'stream', event, sent_at,
               CASE WHEN id % 20 = 0 THEN id - 200 END, sent_at, id, '{}'
        FROM store.messages;
    INSERT INTO store.threads (flow_key, thread_id, title, as_of)
        SELECT flow_key, thread_id, 'a title', max(id) FROM store.messages
        WHERE thread_id IS NOT NULL GROUP BY 1, 2;
    INSERT INTO store.ledger (flow_key, listed, due)
        SELECT n, '{[1, 100), [200, 300)}', 400 FROM generate_series(1, 2) AS n;
    INSERT INTO store.pages (flow_key, run, purpose, asked, messages, as_of, requested_at, error)
        SELECT n % 2 + 1, gen_random_uuid(), 'audit', int8range(1, 90), 0, 0, now(),
               CASE WHEN n % 21 = 0 THEN 'too slow' END
        FROM generate_series(1, 40000) AS n;
"""

ROWS_CHOSEN = frozenset({"Index Cond", "Recheck Cond"})
"""Keys of a scan that reads only some rows, by an index."""

DAY = "sent >= '2020-03-01Z' AND sent < '2020-03-02Z'"
QUESTIONS = {
    "a flow's day": f"SELECT * FROM messages WHERE flow = 'acme/flow-7' AND {DAY}",
    "a flow's newest": "SELECT * FROM messages WHERE flow = 'acme/flow-7'"
    " ORDER BY sent DESC LIMIT 20",
    "the newest of a flow by the function": "SELECT * FROM newest_messages(20)"
    " WHERE flow = 'acme/flow-7'",
    "the newest of all flows": "SELECT * FROM newest_messages(20) ORDER BY sent DESC LIMIT 20",
    "a message": "SELECT * FROM messages WHERE flow = 'acme/flow-7' AND id = 4006",
    "a thread": "SELECT * FROM messages WHERE thread_id = 'thread-6-3' ORDER BY id",
    "a thread's title": "SELECT title FROM threads WHERE flow = 'acme/flow-7'"
    " AND thread_id = 'thread-6-3'",
    "a tag": "SELECT * FROM messages WHERE tags @> '{tag-40}'",
    "a tag of a flow": "SELECT * FROM messages WHERE tags @> '{tag-40}' AND flow = 'acme/flow-41'",
    "mentions of a person": "SELECT * FROM messages WHERE tags @> '{:user:40}'",
    "a person's messages, by id": "SELECT * FROM messages WHERE user_id = '40'",
    "a person's messages, by nick": "SELECT * FROM messages WHERE nick = 'nick-40'",
    "a person's month": "SELECT * FROM messages WHERE user_id = '40'"
    " AND sent >= '2020-03-01Z' AND sent < '2020-04-01Z'",
    "a person's newest": "SELECT * FROM messages WHERE user_id = '40' ORDER BY sent DESC LIMIT 20",
    "a flow's files": "SELECT * FROM attachments WHERE flow = 'acme/flow-51'",
    "all files": "SELECT * FROM attachments ORDER BY file_size DESC LIMIT 20",
    "a message's history": "SELECT * FROM revisions WHERE flow = 'acme/flow-21'"
    " AND message_id = 4020 ORDER BY ordinal",
    "a message's events": "SELECT * FROM events WHERE flow = 'acme/flow-21' AND target_id = 3820",
    "events from an id on": "SELECT * FROM events WHERE flow = 'acme/flow-7' AND id > 38000",
    "a flow's day as of then": "SELECT * FROM messages_as_of('2020-04-01Z')"
    f" WHERE flow = 'acme/flow-7' AND {DAY}",
    "a message as of then": "SELECT * FROM messages_as_of('2020-04-01Z')"
    " WHERE flow = 'acme/flow-21' AND id = 4020",
    "a person's month as of then": "SELECT * FROM messages_as_of('2020-04-01Z')"
    " WHERE user_id = '40' AND sent >= '2020-03-01Z'",
    "a flow's thread as of then": "SELECT * FROM messages_as_of('2021-01-01Z')"
    " WHERE flow = 'acme/flow-7' AND thread_id = 'thread-6-3'",
    "a flow's tag as of then": "SELECT * FROM messages_as_of('2021-01-01Z')"
    " WHERE flow = 'acme/flow-51' AND tags @> '{tag-50}'",
    "all of a flow as of then": "SELECT id FROM messages_as_of('2020-01-05Z')"
    " WHERE flow = 'acme/flow-7'",
    "what failed of each gap": "SELECT * FROM gaps",
}


@pytest.fixture(scope="module")
def big(
    postgres_url: str, postgres_admin: psycopg.Connection, template_database: str
) -> Iterator[psycopg.Connection]:
    with (
        created(postgres_admin, template_database) as name,
        psycopg.connect(named(postgres_url, name), autocommit=True) as connection,
    ):
        connection.execute(FILL)
        connection.execute("VACUUM ANALYZE")
        connection.execute("SET search_path = archive")
        yield connection


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def read_whole(big: psycopg.Connection, question: str) -> frozenset[str]:
    """The big tables that the plan of *question* scans as a whole."""
    ((told,),) = big.execute(f"EXPLAIN (FORMAT JSON) {question}").fetchall()
    (plan,) = told if isinstance(told, list) else json.loads(told)
    scans = [node for node in nodes(plan["Plan"]) if node["Node Type"].endswith(" Scan")]
    whole = [node for node in scans if "Relation Name" in node and not ROWS_CHOSEN & node.keys()]
    return BIG & {node["Relation Name"] for node in whole}


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_big_table_is_read_whole_for(big, question):
    assert read_whole(big, QUESTIONS[question]) == set()


def test_a_table_that_is_read_whole_is_noticed(big):
    assert read_whole(big, "SELECT * FROM messages WHERE content LIKE '%word%'") == {"messages"}


def test_what_was_asked_is_found(big):
    """Each question has an answer in this table, so no plan is good for want of rows."""
    empty = [name for name, question in QUESTIONS.items() if not big.execute(question).fetchall()]
    assert empty == []
