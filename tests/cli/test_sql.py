"""``archiver sql``: one query, read-only, in three formats."""

import csv
import json
import re
from io import StringIO
from pathlib import Path

import psycopg
import pytest

from archiver.embedded import run_server
from tests.cli.conftest import OnTerminal, Run


@pytest.fixture
def archive(database_url: str) -> str:
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute(
            "INSERT INTO store.flows (flow_id, path, name, first_seen_at)"
            " VALUES ('1', 'acme/main', %s, '2023-07-01T12:00:00Z')",
            ["Ma\x1b[31min: 100%"],
        )
    return database_url


def test_views_need_no_schema_and_what_they_hold_is_harmless(archiver: Run, archive: str) -> None:
    told = archiver("sql", "SELECT flow, name FROM flows", ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 0, told.stderr
    assert "acme/main" in told.stdout
    assert "Ma␛[31min: 100%" in told.stdout
    assert told.stdout.endswith("1 row\n")


def test_json_has_an_object_for_each_row(archiver: Run, archive: str) -> None:
    query = "SELECT flow, first_seen_at, 1.5 AS share, ARRAY['a:b', '%s'] AS tags FROM flows"
    told = archiver("sql", "--json", query, ARCHIVER_DATABASE_URL=archive)
    assert json.loads(told.stdout) == {
        "flow": "acme/main",
        "first_seen_at": "2023-07-01T12:00:00+00:00",
        "share": 1.5,
        "tags": ["a:b", "%s"],
    }


def test_csv_has_a_header(archiver: Run, archive: str) -> None:
    query = "SELECT flow, NULL AS nothing, 'a,\"b' AS text FROM flows"
    told = archiver("sql", "--csv", query, ARCHIVER_DATABASE_URL=archive)
    assert list(csv.reader(told.stdout.splitlines())) == [
        ["flow", "nothing", "text"],
        ["acme/main", "", 'a,"b'],
    ]


FAILS = "SELECT 1 / (2500 - n) AS share FROM generate_series(1, 3000) AS n"


def test_rows_are_printed_while_they_come(archiver: Run, archive: str) -> None:
    for option, before in (("--csv", 1), ("--json", 0)):
        told = archiver("sql", option, FAILS, ARCHIVER_DATABASE_URL=archive)
        assert told.returncode == 2
        assert "division by zero" in told.stderr
        assert len(told.stdout.splitlines()) == before + 2000


def test_a_table_ends_before_memory_does_and_says_so(archiver: Run, archive: str) -> None:
    for most, end in ((10_000, "\n10,000 rows\n"), (10_001, "--csv and --json print all\n")):
        query = f"SELECT generate_series(1, {most}) AS n"
        told = archiver("sql", query, ARCHIVER_DATABASE_URL=archive)
        assert told.stdout.endswith(end)
        assert len(told.stdout.splitlines()) <= 10_003


TIME = "SELECT '2023-07-01T20:41:09.79Z'::timestamptz AS at"


def test_times_are_whole_but_in_tables(archiver: Run, archive: str) -> None:
    csv_, json_, table = (
        archiver("sql", *option, TIME, ARCHIVER_DATABASE_URL=archive).stdout
        for option in (["--csv"], ["--json"], [])
    )
    assert csv_.splitlines()[1] == "2023-07-01 20:41:09.790000+00:00"
    assert json.loads(json_) == {"at": "2023-07-01T20:41:09.790000+00:00"}
    assert "20:41:09Z" in table


def test_times_and_days_are_those_of_the_zone_that_is_asked_for(
    archiver: Run, archive: str
) -> None:
    query = (
        "SELECT '2023-07-01T22:41:09Z'::timestamptz AS at, '2023-07-01T22:41Z'::timestamptz::date"
    )
    zone = ["--zone", "Europe/Helsinki"]
    table = archiver("sql", *zone, query, ARCHIVER_DATABASE_URL=archive).stdout
    assert table.splitlines()[2].split() == ["2023-07-02", "01:41:09+03:00", "2023-07-02"]
    refused = archiver("sql", "--zone", "Nowhere", query, ARCHIVER_DATABASE_URL=archive)
    assert refused.returncode == 2
    assert "there is no time zone 'Nowhere'; use a name such as Europe/Helsinki" in refused.stderr


def test_the_help_names_every_view_and_function(archiver: Run, archive: str) -> None:
    with psycopg.connect(archive) as db:
        rows = db.execute(
            "SELECT table_name FROM information_schema.views WHERE table_schema = 'archive'"
            " UNION SELECT proname FROM pg_proc WHERE pronamespace = 'archive'::regnamespace"
        ).fetchall()
    told = set(re.findall(r"\w+", archiver("sql", "--help").stdout))
    assert {name for (name,) in rows} <= told


EXACT = r"""
    SELECT 'NaN'::float4 AS a, '-Infinity'::float8 AS b, 'Infinity'::numeric AS c,
           12345678901234567890.123456789 AS d, 1e-10 AS e, 0.1::float8 AS f, 2^70 AS g, 1.50 AS h,
           '{"n": 12345678901234567890.123456789, "e": 1e400}'::json AS i,
           E'[1.10,\n"\\u2028"]'::json AS j, ARRAY[1.10, 'NaN'] AS k, 'null'::jsonb AS l,
           'infinity'::timestamptz AS m, '0044-03-15 BC'::date AS n, ARRAY['infinity'::date] AS o,
           '1 mon'::interval AS p, true AS q, NULL AS r
"""


def test_json_holds_every_digit_and_is_json_to_others(archiver: Run, archive: str) -> None:
    told = archiver("sql", "--json", EXACT, ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 0, told.stderr
    assert told.stdout == (
        '{"a": "NaN", "b": "-Infinity", "c": "Infinity", "d": 12345678901234567890.123456789, '
        '"e": 0.0000000001, "f": 0.1, "g": 1.1805916207174113e+21, "h": 1.50, '
        '"i": {"n": 12345678901234567890.123456789, "e": 1e400}, "j": [1.10, "\\u2028"], '
        '"k": [1.10, "NaN"], "l": null, "m": "infinity", "n": "0044-03-15 BC", '
        '"o": ["infinity"], "p": "1 mon", "q": true, "r": null}\n'
    )
    json.loads(told.stdout, parse_constant=pytest.fail)


def test_csv_and_tables_hold_every_digit_too(archiver: Run, archive: str) -> None:
    header, values = csv.reader(
        StringIO(archiver("sql", "--csv", EXACT, ARCHIVER_DATABASE_URL=archive).stdout)
    )
    number = "12345678901234567890.123456789"
    assert dict(zip(header, values, strict=True)) == {
        "a": "NaN", "b": "-Infinity", "c": "Infinity", "d": number, "e": "0.0000000001",
        "f": "0.1", "g": "1.1805916207174113e+21", "h": "1.50",
        "i": f'{{"n": {number}, "e": 1e400}}', "j": '[1.10,\n"\\u2028"]', "k": '[1.10, "NaN"]',
        "l": "null", "m": "infinity", "n": "0044-03-15 BC", "o": '["infinity"]', "p": "1 mon",
        "q": "true", "r": "",
    }  # fmt: skip
    table = archiver("sql", EXACT, ARCHIVER_DATABASE_URL=archive).stdout.splitlines()
    for shown in ("NaN", "-Infinity", number, '[1.10, "\\u2028"]', "0044-03-15 BC", "1 mon"):
        assert shown in table[2]


@pytest.mark.parametrize("option", [["--csv"], ["--json"], []])
def test_a_span_of_less_than_nothing_is_told_as_such(
    archiver: Run, archive: str, option: list[str]
) -> None:
    query = (
        "SELECT interval '-5 minutes' AS a, interval '-1 day 3 hours' AS b,"
        " interval '-36 hours' AS c, interval '-1 day, -12:00:00' = interval '-36 hours' AS d"
    )
    told = archiver("sql", *option, query, ARCHIVER_DATABASE_URL=archive).stdout
    spans = re.findall("-(?:1 day, -)?[0-9:]+", told)
    assert spans == ["-0:05:00", "-21:00:00", "-1 day, -12:00:00"]
    assert "true" in told


def test_columns_of_one_name_are_told_apart_in_json(archiver: Run, archive: str) -> None:
    query = "SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a"
    told = archiver("sql", "--json", query, ARCHIVER_DATABASE_URL=archive)
    assert json.loads(told.stdout) == {"a": 1, "a_2": 2, "a_2_2": 3, "a_3": 4}


def test_one_form_is_asked_for_at_a_time(archiver: Run, archive: str) -> None:
    told = archiver("sql", "--json", "--csv", "SELECT 1", ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 2
    assert "exclude each other" in told.stderr


LONG = "SELECT repeat('long ', 400) AS text, 7 AS number, 'x' AS last"


def test_a_table_in_a_pipe_is_cut_and_has_nothing_behind_its_lines(
    archiver: Run, archive: str
) -> None:
    told = archiver("sql", LONG, ARCHIVER_DATABASE_URL=archive).stdout.splitlines()
    assert max(map(len, told)) < 100
    assert "…" in told[2]
    assert all(line == line.rstrip() for line in told)
    told = archiver("sql", LONG, ARCHIVER_DATABASE_URL=archive, COLUMNS="40").stdout.splitlines()
    assert max(map(len, told)) <= 40


def test_columns_that_have_no_room_become_lines(
    on_terminal: OnTerminal, archive: str, environ: dict[str, str]
) -> None:
    environ |= {"ARCHIVER_DATABASE_URL": archive, "NO_COLOR": "1", "LINES": "1000"}
    broken = on_terminal(["sql", LONG], environ | {"COLUMNS": "40"})
    assert broken.count("long") == 400
    assert "── 1 ──" not in broken
    lines = on_terminal(["sql", LONG], environ | {"COLUMNS": "20"}).split("\n")
    assert lines[0] == "── 1 ──"
    assert lines[1].startswith("text:   long long")
    assert lines[2:] == ["number: 7", "last:   x", "1 row", ""]


def test_a_table_longer_than_the_terminal_goes_through_the_pager(
    on_terminal: OnTerminal, archive: str, environ: dict[str, str], tmp_path: Path
) -> None:
    pager = tmp_path / "less"
    pager.write_text("#!/bin/sh\nsed 's/^/> /'\n")
    pager.chmod(0o700)
    environ |= {"ARCHIVER_DATABASE_URL": archive, "LINES": "8", "PAGER": str(pager)}
    shown = on_terminal(["sql", "SELECT generate_series(1, 30) AS n"], environ).split("\n")
    assert all(line.startswith("> ") for line in shown[:-1])
    assert shown[-3:-1] == ["> 30", "> \x1b[2m30 rows\x1b[0m"]


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_what_has_power_over_a_terminal_loses_it_there_alone(
    on_terminal: OnTerminal, archiver: Run, archive: str, environ: dict[str, str], option: str
) -> None:
    query = r"SELECT E'\x1b[31m\u009b\u202e日本' AS a"
    environ |= {"ARCHIVER_DATABASE_URL": archive}
    shown = on_terminal(["sql", option, query], environ)
    assert not {"\x1b", "\x9b", "\u202e"} & set(shown)
    assert "日本" in shown
    piped = archiver("sql", option, query, ARCHIVER_DATABASE_URL=archive).stdout
    assert "\u202e" in piped
    if option == "--json":
        assert json.loads(shown) == json.loads(piped) == {"a": "\x1b[31m\x9b\u202e日本"}


NUMBERED = "SELECT nextval('store.flows_flow_key_seq')"
"""A rollback does not undo this, so the query must not even begin."""


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (NUMBERED, "can only read the archive, not change it"),
        ("DELETE FROM messages", "can only read the archive, not change it"),
        ("  drop table store.flows", "can only read the archive, not change it"),
        (
            "WITH gone AS (DELETE FROM flows RETURNING 1) SELECT 1",
            "can only read the archive, not change it",
        ),
        ("COPY (SELECT 1) TO PROGRAM 'true'", "such as SELECT ..."),
        ("SELECT 1; COMMIT; DELETE FROM store.flows", "one query at a time"),
        ("SELECT E'\\x1b[31m'::int", "␛[31m"),
        ("COMMIT", "such as SELECT ..."),
        ("SELECT nonsense", "does not exist"),
        (
            "TABLE message",
            'relation "message" does not exist; archiver sql --help names the views\n',
        ),
        ("SELECT m.id", 'missing FROM-clause entry for table "m"\n'),
        ("SELECT pg_sleep(30)", "longer than 0.2 seconds"),
        ("SELECT $1", "error: $1 has no value: write the value itself"),
        ("EXPLAIN SELECT $1::int", "error: $1 has no value: write the value itself"),
        ("EXPLAIN ANALYZE SELECT pg_sleep(30)", "longer than 0.2 seconds"),
        ("EXPLAIN ANALYZE DELETE FROM messages", "can only read the archive, not change it"),
        (
            "explain (analyze) create table x as select 1",
            "can only read the archive, not change it",
        ),
        ("EXPLAIN ANALYZE SELECT 1 AS a INTO x", "INTO is not allowed here"),
        (
            "EXPLAIN ANALYZE SELECT nextval('store.flows_flow_key_seq')",
            "can only read the archive, not change it",
        ),
        (
            "EXPLAIN ANALYZE WITH x AS (SELECT 1) INSERT INTO store.flows SELECT",
            "such as SELECT ...",
        ),
        ("EXPLAIN (FORMAT 'a) SELECT ') CREATE TABLE x AS SELECT 1", "such as SELECT ..."),
        ("EXPLAIN (ANALYZE /*) SELECT 1 --*/) CREATE TABLE x AS SELECT 1", "such as SELECT ..."),
        ("EXPLAIN SELECT 1; COMMIT; DELETE FROM store.flows", "one query at a time"),
        ("EXPLAIN (NONSENSE) SELECT 1", 'unrecognized EXPLAIN option "nonsense"'),
        ("EXPLAIN", "such as SELECT ..."),
    ],
)
def test_what_is_no_quick_question_is_refused(
    archiver: Run, archive: str, query: str, reason: str
) -> None:
    told = archiver("sql", "--timeout", "0.2", query, ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 2
    assert reason in told.stderr
    with psycopg.connect(archive) as db:
        assert db.execute("SELECT FROM store.flows").rowcount == 1


def test_on_a_private_server_nothing_but_the_archive_is_reached(
    archiver: Run, swift_path: Path
) -> None:
    settings = {"ARCHIVER_DATA_DIR": str(swift_path)}
    with run_server(swift_path / "postgres") as server:
        for query, told in (
            ("SELECT pg_read_file('postgresql.conf')", "permission denied"),
            ("SELECT pg_create_physical_replication_slot('a', true)", "permission denied"),
            ("SELECT pg_reload_conf()", "permission denied"),
            ("SELECT set_config('role', 'archiver', true)", "permission denied"),
        ):
            refused = archiver("sql", query, **settings)
            assert (refused.returncode, refused.stdout) == (2, "")
            assert told in refused.stderr
        for query in (
            "SELECT count(*) FROM messages",
            "SELECT count(*) FROM messages_as_of(now())",
            "SELECT count(*) FROM store.journal",
        ):
            assert archiver("sql", "--csv", query, **settings).stdout.splitlines() == ["count", "0"]
        with psycopg.connect(server.url) as db:
            assert db.execute("SELECT FROM pg_replication_slots").rowcount == 0


MUCH = "SELECT count(*) FROM (SELECT n FROM generate_series(1, 3000000) AS n OFFSET 0) AS numbers"


def test_a_query_that_comes_to_a_limit_is_refused_for_that(
    archiver: Run, database_url: str, admin: psycopg.Connection
) -> None:
    admin.execute(f"ALTER DATABASE {admin.info.dbname} SET temp_file_limit = 0")
    told = archiver("sql", MUCH, ARCHIVER_DATABASE_URL=database_url)
    assert (told.returncode, told.stdout) == (2, "")
    why = told.stderr.replace('"', "")  # which PostgreSQL 15 does not write here
    assert why == "archiver: error: temporary file size exceeds temp_file_limit (0kB)\n"


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("SELECT id,\n  nik FROM messages", "  SELECT id,   nik FROM messages\n               ^\n"),
        ("EXPLAIN ANALYZE SELECT 再 FROM", "  EXPLAIN ANALYZE SELECT 再 FROM\n" + " " * 32 + "^\n"),
        (f"SELECT '{'x' * 60}', foo(1)", f"  …{'x' * 47}', foo(1)\n" + " " * 53 + "^\n"),
        (
            "EXPLAIN (ANALYZE, BUFFERS off, WRONG) SELECT 1",
            "expected one query, such as SELECT ...\n",
        ),
        ("SELECT 1/0", "division by zero\n"),
        ("", "expected one query, such as SELECT ...\n"),
    ],
)
def test_it_is_shown_where_a_query_is_wrong(
    archiver: Run, archive: str, query: str, shown: str
) -> None:
    told = archiver("sql", query, ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 2
    assert told.stderr.endswith(shown)


@pytest.mark.parametrize(
    "query",
    [
        "EXPLAIN SELECT id FROM messages WHERE content ~ 'what would be too long for a table'",
        " explain\nanalyze verbose TABLE messages",
        "EXPLAIN (ANALYZE, TIMING off) (SELECT id FROM messages)",
        "EXPLAIN (SELECT id FROM messages) ORDER BY 1;",
        "EXPLAIN ANALYZE(SELECT id FROM messages)",
        "EXPLAIN(COSTS off)WITH x AS (SELECT id FROM messages) TABLE x",
        "EXPLAIN (FORMAT yaml) SELECT id FROM messages",
    ],
)
def test_a_plan_is_told_line_by_line_and_whole(archiver: Run, archive: str, query: str) -> None:
    told = archiver("sql", query, ARCHIVER_DATABASE_URL=archive)
    assert (told.returncode, told.stderr) == (0, "")
    assert "Scan" in told.stdout
    assert ("Execution Time" in told.stdout) is ("analyze" in query.lower())
    assert ("too long for a table'::text)\n" in told.stdout) is ("too long" in query)


def test_a_plan_is_an_answer_as_any_to_programs(archiver: Run, archive: str) -> None:
    query = "EXPLAIN (FORMAT json) SELECT id FROM messages"
    told = archiver("sql", "--json", query, ARCHIVER_DATABASE_URL=archive)
    ((plan,),) = json.loads(told.stdout).values()
    assert "Plan" in plan
    told = archiver("sql", "--csv", "EXPLAIN SELECT 1", ARCHIVER_DATABASE_URL=archive)
    assert told.stdout.splitlines()[0] == "QUERY PLAN"


@pytest.mark.parametrize("command", ["sql", "search"])
def test_where_there_is_no_demonstration_none_is_made(
    archiver: Run, tmp_path: Path, command: str
) -> None:
    settings = {"ARCHIVER_DATA_DIR": str(tmp_path), "ARCHIVER_DATABASE_URL": "postgresql://a@b/c"}
    told = archiver(command, "--demo", "SELECT 1", **settings)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr == (
        f"archiver: error: there is no demo in {tmp_path}/demo: create one with: "
        "archiver demo; if you have run one, set ARCHIVER_DATA_DIR as it was then\n"
    )
    assert list(tmp_path.iterdir()) == []
