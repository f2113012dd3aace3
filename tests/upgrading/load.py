"""The load on an archive while it is migrated: writers, readers, a dump; and a watch on locks.

The writers and readers use statements of the oldest release, which remain valid in all later ones,
like a daemon that has not been restarted yet.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from types import TracebackType
from typing import Self

import psycopg

FLOWS = 20
LOOK_SECONDS = 0.01

Sql = psycopg.Connection[tuple[object, ...]]


@dataclass
class Timed:
    """The number of transactions of one kind, and the duration of the longest."""

    count: int = 0
    longest: float = 0.0


class Load:
    """Puts the database under load while the block lasts."""

    def __init__(self, url: str, *, dump_seconds: float) -> None:
        self._url = url
        self._dump_seconds = dump_seconds
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._timed: dict[str, Timed] = {}
        self._counting = threading.Lock()
        self.longest_lock_wait = 0.0
        """The longest wait for a lock, by anybody but the migration, in seconds."""
        self.written = 0
        """How many messages were added."""
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        for number in range(2):
            self._begin(partial(self._write, number), "writer")
        self._begin(_read_newest, "reader")
        self._begin(_read_history, "reader")
        self._start(self._look)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def take(self) -> dict[str, Timed]:
        """The timings since the last call."""
        with self._counting:
            taken, self._timed = self._timed, {}
        return taken

    def begin_dump(self) -> None:
        """Read all tables, as a dump does; returns when it has begun."""
        begun = threading.Event()

        def dump() -> None:
            with psycopg.connect(self._url) as sql:
                tables = sql.execute(
                    "SELECT relname FROM pg_class WHERE relkind = 'r'"
                    " AND relnamespace = 'store'::regnamespace"
                ).fetchall()
                for (table,) in tables:
                    sql.execute(f"SELECT FROM store.{table} LIMIT 1".encode())
                begun.set()
                self._ended.wait(self._dump_seconds)

        self._start(dump)
        assert begun.wait(60)

    def _begin(self, work: Callable[[Sql, int], None], name: str) -> None:
        def loop() -> None:
            with psycopg.connect(self._url) as sql:
                number = 0
                while not self._ended.is_set():
                    began = time.monotonic()
                    work(sql, number)
                    sql.commit()
                    took = time.monotonic() - began
                    with self._counting:
                        timed = self._timed.setdefault(name, Timed())
                        timed.count += 1
                        timed.longest = max(timed.longest, took)
                    number += 1
                    self._ended.wait(0.01)

        self._start(loop)

    def _start(self, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except psycopg.Error as error:
                self.failures.append(repr(error))

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _write(self, writer: int, sql: Sql, number: int) -> None:
        """Write a batch like the daemon's in one transaction: journal, rows, histories, ledger."""
        chosen = {"flow": 1 + (number * 2 + writer) % FLOWS, "id": NEW + number}
        sql.execute("SELECT FROM store.ledger WHERE flow_key = %(flow)s FOR NO KEY UPDATE", chosen)
        for statement in WRITE:
            sql.execute(statement, chosen)
        with self._counting:
            self.written += 1

    def _look(self) -> None:
        """Observe who waits for a lock, and how long."""
        with psycopg.connect(self._url, autocommit=True) as sql:
            while not self._ended.is_set():
                for (seconds,) in sql.execute(WAITING):
                    assert isinstance(seconds, Decimal)
                    self.longest_lock_wait = max(self.longest_lock_wait, float(seconds))
                self._ended.wait(LOOK_SECONDS)


def fill(url: str, rows: int) -> None:
    """Fill the first release's schema with *rows* messages, every tenth of them with a history."""
    with psycopg.connect(url, autocommit=True) as sql:
        for statement in FILL:
            sql.execute(statement, {"flows": FLOWS, "rows": rows})
        sql.execute("VACUUM ANALYZE")


def _read_newest(sql: Sql, number: int) -> None:
    path = f"acme/project-{1 + number % FLOWS}"
    sql.execute(
        "SELECT id, nick, content FROM archive.messages WHERE flow = %s ORDER BY id DESC LIMIT 20",
        [path],
    ).fetchall()


def _read_history(sql: Sql, number: int) -> None:
    path = f"acme/project-{1 + number % FLOWS}"
    sql.execute(
        "SELECT kind, content FROM archive.revisions WHERE flow = %s AND message_id = %s",
        [path, 10 * (number + 1)],
    ).fetchall()


NEW = 1_000_000_000
"""The id from which on the writers add messages."""

WAITING = """
    SELECT extract(epoch FROM clock_timestamp() - waitstart)
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE NOT granted AND waitstart IS NOT NULL AND application_name <> 'archiver'
      AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

FILL = (
    """
    WITH made AS (
        INSERT INTO store.flows (flow_id, path, first_seen_at)
        SELECT 'flow-' || n, 'acme/project-' || n, now() FROM generate_series(1, %(flows)s) AS n
        RETURNING flow_key
    )
    INSERT INTO store.ledger (flow_key) SELECT flow_key FROM made
    """,
    """
    INSERT INTO store.journal (flow_key, id, form, digest, witness, event, user_id, sent_at,
                               received_at, as_of, payload)
    SELECT 1 + n %% %(flows)s, 1 + n / %(flows)s, 0, CAST(md5(n::text) AS uuid), 'stream',
           'message', '1', at, at, 1 + n / %(flows)s,
           json_build_object('app', 'chat', 'event', 'message', 'content',
                             repeat(md5(n::text) || ' ', 5), 'tags', '[]'::json)
    FROM generate_series(0, %(rows)s - 1) AS n, to_timestamp(1600000000 + n) AS at
    """,
    """
    INSERT INTO store.messages (flow_key, id, event, user_id, sent_at, content, tags, edits,
                                removed, app, thread_id, as_of, revisions)
    SELECT 1 + n %% %(flows)s, 1 + n / %(flows)s, 'message', '1', at,
           repeat(md5(n::text) || ' ', 5), '{one,two}', 0, false, 'chat', 'thread-' || n / 10,
           1 + n / %(flows)s, 0
    FROM generate_series(0, %(rows)s - 1) AS n, to_timestamp(1600000000 + n) AS at
    """,
    """
    INSERT INTO store.revisions (flow_key, message_id, ordinal, revision, kind, at, user_id,
                                 content, tags)
    SELECT flow_key, id, 0, id, 'created', sent_at, user_id, content, tags
    FROM store.messages WHERE id %% 10 = 0
    """,
)

WRITE = (
    """
    INSERT INTO store.journal (flow_key, id, form, digest, witness, event, received_at, as_of,
                               payload)
    VALUES (%(flow)s, %(id)s, 0, CAST(md5(%(id)s::text) AS uuid), 'stream', 'message', now(),
            %(id)s, '{"event":"message","content":"said meanwhile"}')
    """,
    """
    INSERT INTO store.messages (flow_key, id, event, content, tags, edits, removed, as_of,
                                revisions, sent_at)
    VALUES (%(flow)s, %(id)s, 'message', 'said meanwhile', '{three}', 0, false, %(id)s, 0, now())
    """,
    """
    INSERT INTO store.revisions (flow_key, message_id, ordinal, revision, kind, tags)
    VALUES (%(flow)s, %(id)s, 0, %(id)s, 'created', '{}')
    """,
    "UPDATE store.ledger SET due = %(id)s, due_at = now() WHERE flow_key = %(flow)s",
)
