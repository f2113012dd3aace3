"""Each format says what the view says, to independent readers."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow.dataset
import pyarrow.parquet

from tests.export.conftest import Export, lines, moment, rows

TIMES = ("sent", "edited_at", "deleted_at")
JSON_CELLS = ("tags", "attachments", "reactions", "detail")


def test_jsonl_is_read_by_the_standard_library(
    export: Export, archive_url: str, tmp_path: Path
) -> None:
    export(tmp_path / "out", "jsonl")
    assert lines(tmp_path / "out") == rows(archive_url)


def test_csv_is_read_by_the_standard_library(
    export: Export, archive_url: str, tmp_path: Path
) -> None:
    manifest = export(tmp_path / "out", "csv")
    found = []
    for one in (tmp_path / "out").rglob("*.csv"):
        with one.open(newline="", encoding="utf-8") as source:
            found += list(csv.DictReader(source))
    expected = rows(archive_url)
    assert len(found) == manifest.rows == len(expected)
    found.sort(key=lambda row: (row["flow"], int(row["id"])))
    for row, truth in zip(found, expected, strict=True):
        for name, value in truth.items():
            if name in TIMES:
                assert moment(row[name] or None) == moment(value)
            elif name in JSON_CELLS:
                assert (json.loads(row[name]) if row[name] else None) == value
            else:
                assert row[name] == ("" if value is None else str(value)), name


def test_csv_is_read_by_postgres(export: Export, archive_url: str, tmp_path: Path) -> None:
    export(tmp_path / "out", "csv", flows=["acme/main"])
    columns = (
        "flow text, id bigint, event text, user_id text, nick text, sent timestamptz, content text,"
        " tags jsonb, thread_id text, parent_id bigint, edited_at timestamptz, edits int,"
        " deleted_at timestamptz, attachments jsonb, reactions jsonb, app text, uuid text,"
        " external_user_name text, detail jsonb"
    )
    with psycopg.connect(archive_url) as db:
        db.execute(f"CREATE TEMP TABLE back ({columns})".encode())
        for file in (tmp_path / "out").rglob("*.csv"):
            with db.cursor().copy("COPY back FROM STDIN WITH (FORMAT csv, HEADER)") as sink:
                sink.write(file.read_bytes())
        same = (
            "SELECT flow, id, event, user_id, nick, sent, content, {tags}, thread_id, parent_id,"
            " edited_at, edits, deleted_at, attachments, reactions, app, uuid,"
            " external_user_name, detail FROM {table}"
        )
        here = same.format(tags="to_jsonb(tags)", table="archive.messages WHERE flow = 'acme/main'")
        there = same.format(tags="tags", table="back")
        for one, other in ((here, there), (there, here)):
            assert db.execute(f"{one} EXCEPT {other}".encode()).fetchall() == []


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    """A row of Arrow in the form of the view's JSON."""
    row.pop("month")
    for name in TIMES:
        row[name] = row[name] and row[name].isoformat()
    row["reactions"] = dict(row["reactions"])
    row["attachments"] = [
        {name: value for name, value in one.items() if value is not None}
        for one in row["attachments"]
    ]
    row["detail"] = row["detail"] and json.loads(row["detail"])
    return row


def normal(row: dict[str, Any]) -> dict[str, Any]:
    for name in TIMES:
        at = moment(row[name])
        row[name] = at and at.isoformat()
    row["attachments"] = [
        {name: value for name, value in one.items() if value is not None}
        for one in row["attachments"]
    ]
    return row


def test_parquet_is_read_by_pyarrow(export: Export, archive_url: str, tmp_path: Path) -> None:
    export(tmp_path / "out", "parquet")
    read = pyarrow.dataset.dataset(
        tmp_path / "out", partitioning="hive", exclude_invalid_files=True
    ).to_table()
    found = sorted(map(as_json, read.to_pylist()), key=lambda row: (row["flow"], row["id"]))
    assert found == list(map(normal, rows(archive_url)))
    months = set(read.column("month").to_pylist())
    assert months == {"2019-06", "2019-07", "2020-01", "undated"}


def test_parquet_is_read_by_duckdb(export: Export, archive_url: str, tmp_path: Path) -> None:
    export(tmp_path / "out", "parquet")
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        source = f"read_parquet('{tmp_path}/out/**/*.parquet', hive_partitioning = true)"
        found = db.execute(
            f"SELECT flow, id, content, tags, epoch_ms(sent), attachments, deleted_at IS NOT NULL"
            f" FROM {source} ORDER BY 1, 2"
        ).fetchall()
        described = db.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    types = {row[0]: row[1] for row in described}
    assert types["sent"] == "TIMESTAMP WITH TIME ZONE"
    assert types["tags"] == "VARCHAR[]"
    assert types["id"] == "BIGINT"
    assert types["reactions"] == "MAP(VARCHAR, VARCHAR[])"
    expected = rows(archive_url)
    assert [row[:3] for row in found] == [(r["flow"], r["id"], r["content"]) for r in expected]
    assert [row[3] for row in found] == [row["tags"] for row in expected]
    assert [bool(row[6]) for row in found] == [row["deleted_at"] is not None for row in expected]


def test_the_journal_is_kept_byte_for_byte(
    export: Export, archive_url: str, tmp_path: Path
) -> None:
    export(tmp_path / "out", "events")
    found = lines(tmp_path / "out" / "events")
    with psycopg.connect(archive_url) as db:
        expected = db.execute(
            "SELECT flow, id, form, payload::text FROM archive.forms"
            ' ORDER BY flow COLLATE "C", id, form'
        ).fetchall()
    assert [(r["flow"], r["id"], r["form"], r["payload"]) for r in found] == expected
    (reject,) = (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()
    assert bytes.fromhex(json.loads(reject)["raw"]) == b"not JSON \x00\xff"
    assert io.StringIO((tmp_path / "out" / "users.jsonl").read_text()).readline()
