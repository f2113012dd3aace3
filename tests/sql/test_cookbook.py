"""``docs/sql.md``: each query, run as a reader on a known world, gives the answer beside it."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.store.engine import connect
from archiver.store.granting import grant
from tests.conftest import created, named
from tests.ingest.arriving import (
    NOW,
    SENT,
    edit,
    frame,
    listed,
    new_flow,
    query,
    streamed,
    tag_change,
)
from tests.sql.conftest import PASSWORD, Roles
from tests.sql.world import build
from tests.test_migrations import CONTRACT

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = (ROOT / "docs/sql.md").read_text()
RECIPE = re.compile(
    r"^### (?P<question>[^\n]+)\n[^#]*?"
    r"^```sql\n(?P<query>.*?)^```\n\n(?P<answer>(?:\|[^\n]*\n)*)",
    re.MULTILINE | re.DOTALL,
)
VIEW_ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \| (`[^|]+`) \|$", re.MULTILINE)


@dataclass(frozen=True)
class Recipe:
    """A question of the cookbook, its query, and the answer that is printed there."""

    question: str
    query: str
    answer: str


RECIPES = [
    Recipe(found["question"], found["query"], found["answer"])
    for found in RECIPE.finditer(DOCUMENT)
]


@pytest.fixture(scope="module")
def archive(
    postgres_url: str, postgres_admin: psycopg.Connection, template_database: str, roles: Roles
) -> Iterator[psycopg.Connection]:
    """The known world, as a reader sees it."""

    async def fill(url: str) -> None:
        async with connect(url) as engine:
            await grant(engine, writer=roles.writer, reader=roles.reader)
            await build(engine)

    with created(postgres_admin, template_database) as name:
        url = named(postgres_url, name)
        asyncio.run(fill(url))
        postgres_admin.execute(f"ALTER ROLE \"{roles.reader}\" PASSWORD '{PASSWORD}'")
        with psycopg.connect(roles.of(url, roles.reader), autocommit=True) as reader:
            reader.execute("SET TimeZone = 'UTC'")
            yield reader


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """*rows* as a table of Markdown."""
    lines = [columns, ["---"] * len(columns), *([cell(value) for value in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n".replace("  |", " |") for line in lines)


def cell(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}" if value.second == 0 else f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, list):
        return ", ".join(map(cell, value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value).replace("|", "\\|")


def asked(archive: psycopg.Connection, query: str) -> str:
    cursor = archive.execute(query)
    return table([column.name for column in cursor.description or ()], cursor.fetchall())


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.question)
def test_the_cookbook_tells(archive, recipe):
    assert asked(archive, recipe.query) == recipe.answer


@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Auckland"])
def test_months_end_when_they_end_in_the_zone_of_the_session(archive, zone):
    recipe = recipe_of("end of each month")
    archive.execute(f"SET TimeZone = '{zone}'")
    try:
        of_months = recipe.query.partition("FROM ")[2].partition("CROSS")[0]
        ends = archive.execute(f"SELECT month + interval '1 month' FROM {of_months}").fetchall()
        assert [(end.month, end.day, end.hour) for (end,) in ends] == [
            (2, 1, 0), (3, 1, 0), (4, 1, 0),
        ]  # fmt: skip
        assert asked(archive, recipe.query) == recipe.answer
    finally:
        archive.execute("SET TimeZone = 'UTC'")


def test_only_others_wait_for_an_answer_and_only_while_they_ask(database_url, admin):
    """Of three mentions, one is deleted, and in one the sender mentions himself."""
    frames = [
        frame(1, content="@dmitri, hello?", tags=[":user:4"], user="1"),
        frame(2, content="@dmitri, are you there?", tags=[":user:4"], user="1"),
        edit(3, 2, ""),
        frame(4, content="I am @dmitri", tags=[":user:4"], user="4", sent=SENT - 1),
    ]
    archived(database_url, frames)
    admin.execute("SET search_path = archive")
    admin.execute(
        "INSERT INTO store.users (user_id, nick, first_seen_at, last_seen_at)"
        " VALUES ('4', 'dmitri', now(), now())"
    )
    waiting = admin.execute(recipe_of("still unanswered").query).fetchall()
    assert [id_ for _, id_, *_ in waiting] == [1]
    mentions = admin.execute(recipe_of("answer a mention").query).fetchall()
    assert mentions == [("dmitri", 1, 0, None)]


def test_tags_that_an_edit_brings_are_told(database_url, admin):
    archived(
        database_url,
        [
            frame(1, tags=["old"]),
            edit(2, 1, "the plan #release", updated_tags=["old", "release"]),
            edit(3, 1, "the plan, again #release", updated_tags=["release", "old"]),
            tag_change(4, 1, remove=["old"]),
        ],
    )
    admin.execute("SET search_path = archive")
    told = admin.execute(recipe_of("Who put which tags").query).fetchall()
    assert [(id_, on, off) for _, _, id_, on, off in told] == [
        (1, ["release"], []),
        (1, [], ["old"]),
    ]


def archived(url: str, frames: Sequence[bytes]) -> None:
    """Archive *frames* in a new flow, which is called ``acme/main``."""

    async def run() -> None:
        async with connect(url) as engine:
            flow_key = await new_flow(engine)
            arrivals = [streamed(one, flow_key) for one in frames]
            await apply(engine, Batch(now=NOW, arrivals=arrivals))

    asyncio.run(run())
    query(url, "UPDATE store.flows SET path = 'acme/main' RETURNING path")


def recipe_of(words: str) -> Recipe:
    """The recipe with *words* in its question."""
    (recipe,) = [one for one in RECIPES if words in one.question]
    return recipe


def test_every_question_has_a_query_and_an_answer():
    questions = re.findall(r"^### (.*)$", DOCUMENT, re.MULTILINE)
    assert [recipe.question for recipe in RECIPES] == questions
    assert len(questions) >= 25
    # A heading, a rule and at least one row: a query that finds nothing shows nothing.
    assert [one.question for one in RECIPES if one.answer.count("\n") < 3] == []


def test_the_views_and_columns_are_all_in_the_document():
    told = {
        view: columns.replace("`", "").split(", ") for view, columns in VIEW_ROW.findall(DOCUMENT)
    }
    assert told == {view: columns.split() for view, columns in CONTRACT.items()}


def test_a_column_that_may_be_null_says_so(archive):
    """A column with a null in a world of four people says in its comment when it is null."""
    silent = []
    for view, columns in CONTRACT.items():
        for column in columns.split():
            comment, nulls = archive.execute(
                f"SELECT col_description(%s::regclass, (SELECT attnum FROM pg_attribute"
                f" WHERE attrelid = %s::regclass AND attname = %s)),"
                f" (SELECT count(*) FROM {view} WHERE {column} IS NULL)",
                [view, view, column],
            ).fetchone()
            if nulls and "null" not in comment:
                silent.append((view, column))
    assert silent == []


async def test_what_postgres_cannot_read_of_a_payload_can_be_left_out(database_url):
    """As the document says of ``payload``."""
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        frames = [frame(1, content="plain"), frame(2, content="a\0b")]
        arrivals = [streamed(one, flow_key) for one in frames]
        await apply(engine, Batch(now=NOW, arrivals=arrivals))
    said = "SELECT payload ->> 'content' FROM archive.events"
    with pytest.raises(psycopg.errors.UntranslatableCharacter):
        query(database_url, said)
    (left_out,) = re.findall(r"`(payload::text NOT LIKE [^`]+)`", DOCUMENT)
    assert query(database_url, f"{said} WHERE {left_out}".replace("%", "%%")) == [("plain",)]
    assert query(database_url, "SELECT content FROM archive.messages WHERE id = 2") == [
        ("a\ufffdb",)
    ]


async def test_a_file_of_unknown_size_is_not_the_largest(database_url):
    async with connect(database_url) as engine:
        flow_key = await new_flow(engine)
        contents = [{"file_name": "b", "file_size": 7, "content_type": "b/b"}]
        contents.append({"file_name": "a", "content_type": "a/a"})
        frames = [frame(id_, "file", content=told) for id_, told in enumerate(contents, start=1)]
        await apply(engine, Batch(now=NOW, arrivals=[streamed(one, flow_key) for one in frames]))
    questions = "Which files are the largest?", "What types of files are there?"
    with psycopg.connect(database_url, options="-c search_path=archive") as reader:
        for recipe in (one for one in RECIPES if one.question in questions):
            told = [row[0] for row in reader.execute(recipe.query)]
            assert [name[0] for name in told] == ["b", "a"]


async def test_all_links_are_found_whether_the_service_marked_them_or_not(database_url: str):
    said = "https://example.com/build"
    async with connect(database_url) as engine:
        key = await new_flow(engine)
        frames = [frame(1, "mail", content={"content": f"see {said}"}), frame(2, content=said)]
        frames.append(frame(3, content=said, tags=[":url"]))
        await apply(engine, Batch(now=NOW, arrivals=[streamed(one, key) for one in frames]))
    (recipe,) = (one for one in RECIPES if one.question == "Which links were shared?")
    with psycopg.connect(database_url, options="-c search_path=archive") as reader:
        assert [row[0] for row in reader.execute(recipe.query)] == [said, said, said]


async def test_integrations_are_no_people_with_an_id_or_without(database_url: str):
    thread: dict[str, Any] = {"thread_id": "t", "thread": {"id": "t", "title": "Deploy?"}}
    async with connect(database_url) as engine:
        key = await new_flow(engine)
        frames = [
            frame(1, content="Did it work?", sent=SENT, **thread),
            frame(2, content="Failed", user=None, sent=SENT + 2, app="influx", **thread),
            frame(3, content="Passed", user="0", sent=SENT + 3, app="influx", **thread),
        ]
        await apply(engine, Batch(now=NOW, arrivals=[streamed(one, key) for one in frames[:2]]))
        with psycopg.connect(database_url, options="-c search_path=archive") as reader:
            asked = {one.question: reader.execute(one.query).fetchall() for one in RECIPES}
        assert asked["Which questions did nobody answer within a day?"] == []
        assert asked["Which threads got no answer?"] == []
        await apply(engine, Batch(now=NOW, arrivals=[streamed(frames[2], key)]))
    with psycopg.connect(database_url, options="-c search_path=archive") as reader:
        asked = {one.question: reader.execute(one.query).fetchall() for one in RECIPES}
    assert asked["In which thread did most people take part?"][0][2] == 1
    senders = asked["How many messages came from which integration?"]
    assert {row[:2] for row in senders} == {("unknown", "people"), ("influx", "no name")}


async def test_the_readme_tells_what_was_said_last_before_it_was_taken_back(database_url: str):
    """This holds also if an unheard edit is older than a change that was heard."""
    (asked,) = re.findall(
        r'archiver sql "(SELECT DISTINCT ON.*?)"', (ROOT / "README.md").read_text(), re.DOTALL
    )
    async with connect(database_url) as engine:
        key = await new_flow(engine)
        second = frame(10, content="second", edited=SENT + 11, tags=["todo"])
        arrivals = [
            streamed(frame(10, content="first"), key),
            streamed(tag_change(12, 10, add=["todo"]), key),
            listed(second, key, as_of=13),
            streamed(edit(15, 10, ""), key),
        ]
        await apply(engine, Batch(now=NOW, arrivals=arrivals))
    with psycopg.connect(database_url, options="-c search_path=archive") as reader:
        rows = reader.execute(asked.replace("\\\n", "")).fetchall()
    assert [row[-1] for row in rows] == ["second"]
