"""What a search must find, and what it must not: queries over a small world, and their messages."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.conftest import created, named
from tests.ingest.arriving import running
from tests.store.searching import FILE_ID, SAID, fill, find, ids

FOUND: list[tuple[str, set[int]]] = [
    # Words in any form, without case and accents.
    ("deploy", {1, 2, 3}),
    ("DEPLOYED", {1, 2, 3}),
    ('"deploy"', {2}),
    ("testing", {44}),
    ("grosse", set()),
    ("großere", {4}),
    ("GRÖSSERE änderungen", {4}),
    ("cafe", {5}),
    ("naive resume", {5}),
    ("обновить", {6}),
    ("еще", {6}),
    ("ДОКУМЕНТАЦИЮ", {6}),
    ("σισυφοσ", {37}),
    ("ΣΊΣΥΦΟΣ", {37}),
    ("istanbul", {41}),
    ("igdir", {41}),
    ("صباح", {36}),
    ("abc", {35}),
    ("fi", {35}),
    ("zerowidth", {34}),
    ("softhyphen", {34}),
    ("rollback", set()),
    ("the", {1, 2, 10, 23, 24, 46}),
    # Exact strings.
    ("qwen3.6", {7}),
    ("qwen3", {7, 8}),
    ("qwen", {7, 8}),
    ("C++20", {9}),
    ("c++", {9}),
    ("C", {9, 10, 14, 30, 39}),
    ("foo_bar()", {11}),
    ("foo_bar", {11}),
    ("foo_ba", set()),
    ("foo_ba*", {11}),
    ("foo.png", {12}),
    ("*.png", {12}),
    ("img/foo.png", {12}),
    ("snake_case_name", {27}),
    ("html", {27}),
    ("archiver", {27}),
    ("parsehtmldocument", {27}),
    ("v2.10.0-rc1", {40}),
    ("2.10", set()),
    (".NET", {32}),
    ("node.js", {32}),
    ("std::vector", {31}),
    ("vector<int>", {31}),
    ("--force", {29}),
    ('"-f"', {29}),
    ("&&", {30}),
    ('"=>"', {30}),
    ("ERROR 1045", {28}),
    ('"(28000)"', {28}),
    ("C:\\Users", {39}),
    ("\\d+", {39}),
    ("50%", {25}),
    ("100%", set()),
    ("_under_", {43}),
    ("_", {11, 27, 43, FILE_ID}),
    ("SELECT * FROM", {25}),
    ("'b';", {25}),
    ("'; DROP TABLE messages; --", set()),
    ("it's", {26}),
    ("don't", {26, 57}),
    ('"“quotes” - ever"'.replace("“", '\\"').replace("”", '\\"'), {57}),
    (":)", {55}),
    (":tada:", {55}),
    ("10.0.0.12", {56}),
    ("10.0.0.1", set()),
    ("hunter2", set()),
    ("x" * 80, {45}),
    ("x" * 79, set()),
    # URLs, addresses, tags, mentions.
    ("https://github.com/acme/component/pull/42?w=1", {13}),
    ("github.com/acme", {13}),
    ("pull/42", {13}),
    ("pull/4", set()),
    ("github", {13}),
    ("example.com", {14, 15}),
    ("b=c", {14}),
    ("bob.smith+lists@example.com", {15}),
    ("@example.com", {15}),
    ("#todo", {21, 23}),
    ("#release-1", {21}),
    ("#4711", {53}),
    ("@bob", {42}),
    # Scripts without spaces, emoji.
    ("再起動", {16}),
    ("サーバー", {16}),
    ("起", {16}),
    ("動再", set()),
    ("下午三点", {17}),
    ("会议 明天", {17}),
    ("회의", {18}),
    ("เซิร์ฟเวอร์", {38}),
    ("ガーデン", {54}),
    ("がーでん", {54}),
    ("か", set()),
    ("🎉", {3}),
    ("👍", {19}),
    ("👩‍💻", {19}),
    ("❤", {19}),
    ("🇫🇮", {20}),
    # Phrases and stars.
    ('"roll back"', {23}),
    ("roll back", {2, 23, 24}),
    ('"line two line three"', {33}),
    ("deploy*", {1, 2, 3}),
    ("*ploy*", {1, 2, 3}),
    ("*ubernete*", {49, 50, 51, 52}),
    ("foo_*()", {11}),
    ("k*s about", {49, 50}),
    ('"k*s about"', set()),
    ("t*ing", {8, 24, 44}),
    ("*起動*", {16}),
    # Logic.
    ("deploy -failed", {1, 3}),
    ("qwen3.6 OR C++17", {7, 9}),
    ("(qwen3.6 OR C++17) -modules", {7}),
    ("kubernetes -(reply OR thread)", {51, 52}),
    ("-(deploy) -in:acme/* -kubernetes", set()),
    # Filters.
    ("from:bob", {2, 50}),
    ("from:Jürgen", {4}),
    ('from:"Alice Liddell" in:beta/*', {51}),
    ("from:jenkins* OR from:2", {2, 50, 53}),
    ('from:"Jenkins CI"', {53}),
    ("in:acme/ops", {49, 50, 53}),
    ("in:main kubernetes", {51}),
    ("kubernetes in:*", {49, 50, 51, 52}),
    ("tag:todo", {21, 23}),
    ("tag:release*", {21}),
    ("tag:deployment", {1}),
    ("mentions:bob", {42}),
    ("thread:Th-1", {49, 50}),
    ("event:file", {FILE_ID}),
    ("has:file", {FILE_ID}),
    ("Überblick_2019.pdf", {FILE_ID}),
    ("uberblick", {FILE_ID}),
    ("has:link", {13, 14}),
    ("has:reaction", {1}),
    ("has:thread", {49, 50}),
    ("has:edit", {46}),
    ("is:edited", {46}),
    ("is:private", {52}),
    ("id:7", {7}),
    ("on:2019", set()),
    ("on:2020-01-01 qwen3.6", {7}),
    ("after:2020-01-02 deploy", set()),
    ("before:2020-01-02 qwen3.6", {7}),
    ("after:2019-12 before:2021 qwen3.6", {7}),
    # What was said before.
    ("hunter2 history:yes", {46}),
    ("password history:yes", {46}),
    ("password", {46}),
    ("is:deleted", {47}),
    ("removed is:deleted", {47}),
    ("removed", {46}),
    ("removed history:yes", {46, 47}),
]


@pytest.fixture(scope="module")
def world(
    postgres_url: str, postgres_admin: psycopg.Connection, template_database: str
) -> Iterator[tuple[Any, Any]]:
    with (
        created(postgres_admin, template_database) as name,
        running(named(postgres_url, name)) as (run, engine),
    ):
        run(fill(engine))
        yield run, engine


@pytest.mark.parametrize(("query", "found"), FOUND, ids=[query[:30] for query, _ in FOUND])
def test_a_query_finds_what_it_must_and_nothing_else(world, query: str, found: set[int]) -> None:
    run, engine = world
    assert ids(run(find(engine, query))) == found, {id_: SAID.get(id_) for id_ in found}
