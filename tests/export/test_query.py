"""An export of what a query finds: the same messages in every format, marked as a selection."""

import csv
import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.dataset
import pytest

from archiver.cli.main import run as archiver
from archiver.cli.searching.finding import refresh
from archiver.domain.query_parsing import parse
from archiver.export.manifest import read_manifest
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from tests.export.conftest import JULY, JUNE, Export, content, exporter, filled, lines
from tests.ingest.arriving import NOW, frame, running, streamed
from tests.ingest.arriving import query as sql


@pytest.fixture(scope="module")
def searched_url(
    postgres_url: str, postgres_admin: psycopg.Connection, template_database: str
) -> Iterator[str]:
    """An archive like `archive_url`, with a file that was withdrawn, and all of it searchable."""
    with filled(postgres_url, postgres_admin, template_database) as url:
        ((key,),) = sql(url, "SELECT flow_key FROM store.flows WHERE flow_id = 'f'")
        file = frame(40, "file", content={"file_name": "plan.pdf", "path": "/p"}, sent=JUNE + 40)
        withdrawn = frame(41, "message-delete", content={"message": 40}, sent=JULY)
        arrivals = [streamed(one, key) for one in (file, withdrawn)]
        with running(url) as (run, engine):
            run(apply(engine, Batch(now=NOW, arrivals=arrivals)))
            run(refresh(engine, language="english"))
        yield url


@pytest.fixture
def choose(searched_url: str) -> Export:
    return exporter(searched_url)


def ids(rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return sorted((row["flow"], int(row["id"])) for row in rows)


@pytest.mark.parametrize(
    ("query", "chosen"),
    [
        ("from:Bob", [("acme/main", 22)]),
        ("thread OR psst", [("acme/main", 21), ("private/1/2", 1)]),
        ("tag:todo edited", [("acme/main", 23)]),
        ("is:deleted", [("acme/main", 24), ("acme/main", 40)]),
        ("deleted history:yes soon", [("acme/main", 24)]),
        ("in:'acme/sp*'", [("acme/sp ace%", 1)]),
        ("after:2019-07-02 before:2019-08 has:thread", [("acme/main", 22)]),
        ("nowhere", []),
    ],
)
def test_a_query_chooses_what_a_search_finds(
    choose: Export, tmp_path: Path, query: str, chosen: list[tuple[str, int]]
) -> None:
    manifest = choose(tmp_path / "out", "jsonl", query=parse(query.replace("'", '"')))
    assert ids(lines(tmp_path / "out")) == chosen
    assert manifest.rows == len(chosen)
    assert manifest.left_out[0].startswith("messages that the query does not match: ")


def test_each_format_holds_what_was_chosen(choose: Export, tmp_path: Path) -> None:
    query = parse("with OR answer OR elsewhere OR without")
    expected = [("acme/main", 21), ("acme/main", 22), ("acme/main", 25), ("acme/sp ace%", 1)]
    choose(tmp_path / "csv", "csv", query=query)
    found: list[dict[str, Any]] = []
    for one in (tmp_path / "csv").rglob("*.csv"):
        with one.open(newline="", encoding="utf-8") as source:
            found += csv.DictReader(source)
    assert ids(found) == expected
    choose(tmp_path / "parquet", "parquet", query=query)
    dataset = pyarrow.dataset.dataset(
        tmp_path / "parquet", partitioning="hive", exclude_invalid_files=True
    )
    assert ids(dataset.to_table().to_pylist()) == expected
    choose(tmp_path / "html", "html", query=query)
    pages = content(tmp_path / "html")
    shown = b"".join(page for name, page in pages.items() if "threads-" not in name)
    assert shown.count(b"<article id=") == len(expected)
    assert b"A selection" in pages["index.html"]
    choose(tmp_path / "slack.zip", "slack", query=query)
    with zipfile.ZipFile(tmp_path / "slack.zip") as packed:
        days = [json.loads(packed.read(name)) for name in packed.namelist() if "/2" in name]
    assert sum(map(len, days)) == len(expected) - 1  # one message has no time


def test_the_first_page_says_what_was_chosen(choose: Export, tmp_path: Path) -> None:
    moments = {
        "as_of": datetime(2019, 7, 1, 0, 0, 35, tzinfo=UTC),
        "since": datetime(2019, 6, 1, tzinfo=UTC),
        "until": datetime(2019, 6, 30, 21, 30, tzinfo=UTC),
    }
    choose(tmp_path / "out", "html", **moments)
    page = (tmp_path / "out/index.html").read_text()
    assert ", as of 2019-07-01 00:00:35. Times are UTC." in page
    said = "A selection: messages, sent 2019-06-01 00:00 or later, sent before 2019-06-30 21:30."
    assert said in page


def test_a_query_of_the_past_chooses_by_what_was_said_then(choose: Export, tmp_path: Path) -> None:
    before, after = datetime(2019, 12, 1, tzinfo=UTC), datetime(2020, 2, 1, tzinfo=UTC)
    in_june = datetime(2019, 6, 30, tzinfo=UTC)
    expected = {
        ("soon", before): [23, 24],
        ("soon", after): [],
        ("edited b", before): [],
        ("edited b", after): [23],
        ("answer", before): [22],
        ("plan.pdf", before): [],
        ("plan.pdf", in_june): [40],
        ("plan.pdf is:deleted", before): [40],
    }
    for number, ((query, as_of), chosen) in enumerate(expected.items()):
        choose(tmp_path / str(number), "jsonl", query=parse(query), as_of=as_of)
        assert [id_ for _, id_ in ids(lines(tmp_path / str(number)))] == chosen, (query, as_of)


def command(*arguments: str, url: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("ARCHIVER_DATABASE_URL", url)
    return archiver(["export", *arguments])


def test_the_command_takes_a_query_and_the_manifest_tells_it(
    searched_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "out")
    words = ["--as-of", "2020-02-01", "from:ann*", "-x*"]
    assert command(out, "--json", "--", *words[2:], url=searched_url, monkeypatch=monkeypatch) == 0
    told = json.loads(capsys.readouterr().out)
    manifest = read_manifest(tmp_path / "out")
    assert told["rows"] == manifest.rows == len(lines(tmp_path / "out"))
    assert manifest.arguments["query"] == "from:ann* -x*"
    assert "asked_at" not in manifest.arguments
    assert told["left_out"] == list(manifest.left_out) != []
    assert command(out, "--check", url=searched_url, monkeypatch=monkeypatch) == 0
    relative = str(tmp_path / "relative")
    assert command(relative, "before:2w", "soon", url=searched_url, monkeypatch=monkeypatch) == 0
    assert "asked_at" in read_manifest(tmp_path / "relative").arguments
    assert "left out: messages that the query does not match" in capsys.readouterr().out


def test_an_export_of_nothing_says_so(
    searched_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for word, last in (("nowhere", "nothing was found"), ("thread", " rows/s")):
        out = str(tmp_path / word)
        assert command(out, word, url=searched_url, monkeypatch=monkeypatch) == 0
        assert capsys.readouterr().out.splitlines()[-1].endswith(last)


def test_a_filter_that_is_misspelt_is_told(
    searched_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "out")
    words = ["--json", "--", "-form:ann"]
    assert command(out, *words, url=searched_url, monkeypatch=monkeypatch) == 0
    told = capsys.readouterr()
    assert told.err == "form: is searched for as a word; did you mean from:?\n"
    assert json.loads(told.out)["rows"] > 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["yes OR"], "yes OR\n"),
        (["in:nowhere/x"], "there is no flow nowhere/x"),
        (["from:Rob"], "there is no person named Rob: did you mean Bob?"),
        (["--events", "yes"], "QUERY cannot go with it"),
        (["--since", "soonish"], "--since: 'soonish' is neither"),
    ],
)
def test_what_cannot_be_answered_is_told_with_its_place(
    searched_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
) -> None:
    out = tmp_path / "out"
    assert command(str(out), *words, url=searched_url, monkeypatch=monkeypatch) == 2
    shown = capsys.readouterr().err
    assert told in shown
    if not words[0].startswith("--"):
        assert shown.rstrip().endswith("^")
    assert not out.exists()
