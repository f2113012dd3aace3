"""Search: the first page of a thousand mixed queries, and of a word that one message holds.

The messages are the simulator's sentences, spread over eight years and two hundred flows, more of
them in later years; a few hold a word of their own. They are put into `store.messages` as rows and
indexed as the daemon indexes them, but with the indexes made at the end. Queries run one after the
other on one connection, as the command runs them, from their text to the keys of the page; each
kind is asked once before the clock counts, so that what it reads is in memory.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from statistics import quantiles
from time import perf_counter

from archiver.domain.query_parsing import parse
from archiver.ingest.indexing import adopt_lexicon, catch_up
from archiver.simulator import text
from archiver.store.connection import Engine
from archiver.store.engine import connect, transaction
from archiver.store.search import search
from archiver.store.search_meaning import understand
from tests.bench.figures import Figure, Target
from tests.bench.lab import Archive, Lab
from tests.bench.options import Options

QUERIES = 1_000
FLOWS = 200
PEOPLE = 100
BEGIN = datetime(2016, 1, 1, tzinfo=UTC)
YEARS = 8
PAGE = 20
SECONDS = 30.0
EVERY = 997
"""Of so many messages one holds a word of its own."""

NICKS = tuple(f"nick{number}" for number in range(PEOPLE))
LANGUAGE = "english"

PARTS = ("ild", "eploy", "ertif", "staging", "рвер", "äytt", "erscor", "tbucket", "epo")
TERMS = (
    *("build", "logs", "deploying", "cache", "migration", "huomenta", "Skript", "größere"),
    *("сборка", "qwen3.6", "C++20", "foo_bar()", "libpq.so.5", "github.com/acme", "再起動"),
    *("会议", "👍", "🎉", "#todo", "#bug", '"roll back"', '"works on my machine"', "user@host"),
    *("back", "flaky", "certificate", "screenshot", "standup", "nothingofthekind", "صباح"),
)


def run(lab: Lab, options: Options) -> Iterator[Figure]:
    """Yield how long the first page takes, by kind of query."""
    messages = options.amount(500_000, quick=50_000, full=10_000_000)
    with lab.archive() as archive:
        fill(archive, messages)
        yield from asyncio.run(_measure(archive.url, messages))


def fill(archive: Archive, messages: int) -> None:
    """Store *messages* messages, and index them."""
    chance = Random(7)
    sql = archive.sql
    sql.execute(
        "INSERT INTO store.flows (flow_id, path, first_seen_at)"
        " SELECT 'f' || n, 'acme/flow-' || n, now() FROM generate_series(1, %s) AS n",
        [FLOWS],
    )
    sql.execute(
        "INSERT INTO store.users (user_id, nick, first_seen_at, last_seen_at)"
        " SELECT n, 'nick' || n, now(), now() FROM generate_series(0, %s) AS n",
        [PEOPLE - 1],
    )
    keys = [row[0] for row in sql.execute("SELECT flow_key FROM store.flows ORDER BY 1")]
    columns = "flow_key, id, event, user_id, sent_at, content, tags, edits, removed, as_of"
    copying = f"COPY store.messages ({columns}, revisions, thread_id) FROM STDIN"
    span = timedelta(days=365.25 * YEARS)
    with sql.cursor().copy(copying.encode()) as copy:
        for number in range(messages):
            sent_at = BEGIN + span * (number / messages) ** 0.6
            content = text.message(chance, NICKS).replace("\0", "\ufffd")
            if number % EVERY == 0:
                content += f" unique{number}"
            tags = [text.hashtag(chance)[1:]] if number % 12 == 0 else []
            thread = f"t{number // 9}" if number % 3 else None
            user = str(int(chance.random() ** 2 * PEOPLE))
            key = keys[int(chance.random() ** 2 * FLOWS)]
            row = (key, number + 1, "message", user, sent_at, content, tags, 0, False)
            copy.write_row((*row, number + 1, 0, thread))
    sql.execute("VACUUM ANALYZE store.messages")
    with archive.unindexed("texts"):
        asyncio.run(_index(archive.url))
    sql.execute("VACUUM ANALYZE store.texts")


async def _index(url: str) -> None:
    async with connect(url) as engine:
        async with transaction(engine) as tx:
            await adopt_lexicon(tx, language=LANGUAGE)
        await catch_up(engine)


def queries(chance: Random, kind: str, messages: int) -> Iterator[str]:
    """Queries of one kind, without end."""
    while True:
        term = chance.choice(TERMS)
        match kind:
            case "words and filters":
                year = chance.randint(2016, 2023)
                filters = (
                    *("", "", "", f"from:{chance.choice(NICKS)}", "has:link", "has:thread"),
                    *(f"in:flow-{chance.randint(1, FLOWS)}", f"before:{year}-06", "in:acme/*"),
                    *(f"on:{year}-0{chance.randint(1, 9)}", "tag:todo", f"-{chance.choice(TERMS)}"),
                    *(f"OR {chance.choice(TERMS)}", chance.choice(TERMS)),
                )
                yield f"{term} {chance.choice(filters)}"
            case "parts of words":
                yield f"*{chance.choice(PARTS)}*"
            case _:
                yield f"unique{chance.randrange(messages) // EVERY * EVERY}"


async def _measure(url: str, messages: int) -> Iterator[Figure]:
    """Time the queries of each kind."""
    limits = {"words and filters": 150.0, "parts of words": 400.0, "a rare word": 10.0}
    figures = []
    async with connect(url) as engine:
        for kind, limit in limits.items():
            asked = queries(Random(11), kind, messages)
            some = [next(asked) for _ in range(QUERIES if kind != "a rare word" else 200)]
            for one in some[:100]:
                await milliseconds(engine, one)
            took = [(await milliseconds(engine, one), one) for one in some]
            figures += list(_figures(f"search in {messages:,}, {kind}", took, limit))
    return iter(figures)


def _figures(bench: str, took: Sequence[tuple[float, str]], limit: float) -> Iterator[Figure]:
    times = [milliseconds for milliseconds, _ in took]
    cuts = quantiles(times, n=100)
    yield Figure(bench=f"{bench}, p50", unit="ms", values=[cuts[49]])
    target = Target("value", "at most", limit)
    yield Figure(bench=f"{bench}, p99", unit="ms", values=[cuts[98]], target=target)


async def milliseconds(engine: Engine, query: str) -> float:
    """How long the first page of *query* takes."""
    began = perf_counter()
    async with engine.connect() as tx:
        meaning = await understand(
            tx, parse(query), now=datetime.now(UTC), localize=lambda at: at.replace(tzinfo=UTC)
        )
    await search(engine, meaning, most=PAGE, seconds=SECONDS)
    return (perf_counter() - began) * 1000
