"""``archiver files``: files that are not kept are reported, and those that are can be saved."""

import asyncio
import json
import os
import re
import resource
import subprocess
import sys
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import psycopg
import pytest

from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.store import files
from archiver.store.engine import connect, transaction
from tests.cli.conftest import Run
from tests.ingest.arriving import NOW, frame, new_flow, query, streamed

ROOT = Path(__file__).parents[2]
CONTENT = b"the bytes of it"
HOSTILE = "..\u202e/../pl\x1b[31man.pdf"


@pytest.fixture
def archive(database_url: str) -> str:
    """A flow with three files in two messages: one is kept, one was refused, one has no path."""

    async def fill() -> None:
        async with connect(database_url) as engine:
            flow_key = await new_flow(engine)
            kept = {"path": "/files/1/k/a", "file_name": HOSTILE, "file_size": len(CONTENT)}
            refused = {"path": "/files/1/k/b", "file_name": "b\x1b[2J.png", "file_size": 2_000}
            arrivals = [
                streamed(frame(5, attachments=[kept]), flow_key),
                streamed(frame(6, attachments=[refused, {"file_name": "c"}]), flow_key),
                streamed(frame(7), flow_key),
            ]
            await apply(engine, Batch(now=NOW, arrivals=arrivals))
            async with transaction(engine) as tx:
                first, second = await files.due(tx, [flow_key], most=9)
                digest = sha256(CONTENT).hexdigest()
                await files.keep(tx, first, BytesIO(CONTENT), sha256=digest)
                rest = NOW - NOW
                await files.fail(tx, second, error="the file was answered\x07", rest=rest)

    asyncio.run(fill())
    with psycopg.connect(database_url) as db:
        db.execute("UPDATE store.flows SET path = 'acme/main'")
    return database_url


def test_what_is_not_kept_is_listed_and_why(archiver: Run, archive: str) -> None:
    told = archiver("files", ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 1, told.stderr
    rows = [re.split(r" {2,}", line.strip()) for line in told.stdout.splitlines()]
    assert rows[2:] == [
        ["acme/main", "6", "b␛[2J.png", "2 kB", "1", "the file was answered␇"],
        ["acme/main", "6", "c", "-", "-", "the message does not say where it is"],
        ["1 file kept (1 not)"],
    ]
    as_json = json.loads(archiver("files", "--json", ARCHIVER_DATABASE_URL=archive).stdout)
    assert as_json["counts"] == {"kept": 1, "missing": 1}
    assert [one["last_error"] for one in as_json["missing"]] == ["the file was answered\x07", None]


def test_an_explanation_tells_which_files_are_kept_and_why_others_are_not(
    archiver: Run, archive: str
) -> None:
    def told(id_: int, **settings: str) -> list[str]:
        settings["ARCHIVER_DATABASE_URL"] = archive
        lines = archiver("explain", "acme/main", str(id_), **settings).stdout.splitlines()
        return lines[lines.index("files") + 1 :] if "files" in lines else []

    kept, digest = told(5)
    kept_at = query(archive, "SELECT to_char(kept_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SSZ')"
                    " FROM archive.files")[0][0]  # fmt: skip
    assert kept == f"  ..\ufffd/../pl␛[31man.pdf: kept since {kept_at}, 15 B"
    assert digest == f"    sha256 {sha256(CONTENT).hexdigest()}"
    missing = [
        "  b␛[2J.png: not kept: the file was answered␇ (requested 1 time)",
        "  c: not kept: the message does not say where it is",
    ]
    assert told(6) == missing
    assert told(7) == []
    off = "no files are fetched: files.enabled is off"
    assert told(6, ARCHIVER_FILES_ENABLED="false") == [*missing, off]
    assert told(5, ARCHIVER_FILES_ENABLED="false") == [kept, digest]
    with psycopg.connect(archive) as db:
        db.execute("UPDATE store.flows SET joined = false")
    assert told(6) == [*missing, "  nothing is requested from this flow: no account can read it"]
    as_json = archiver("explain", "acme/main", "5", "--json", ARCHIVER_DATABASE_URL=archive)
    assert [one["sha256"] for one in json.loads(as_json.stdout)["files"]] == [digest.split()[1]]


def test_the_list_is_of_the_flows_that_are_asked_for(archiver: Run, archive: str) -> None:
    with psycopg.connect(archive) as db:
        db.execute(
            "INSERT INTO store.flows (flow_id, path, first_seen_at) VALUES ('o', 'old/all', now())"
        )
    told = archiver("files", "--flow", "old/*", ARCHIVER_DATABASE_URL=archive)
    assert (told.returncode, told.stdout) == (0, "0 files kept\n")
    told = archiver("files", "--limit", "1", ARCHIVER_DATABASE_URL=archive)
    assert (told.returncode, told.stdout.count("acme/main")) == (1, 1)
    with psycopg.connect(archive) as db:
        db.execute("UPDATE store.attached SET sha256 = NULL")
    told = archiver("files", "--json", ARCHIVER_DATABASE_URL=archive)
    assert [one["message_id"] for one in json.loads(told.stdout)["missing"]] == [5, 6, 6]
    told = archiver("files", "--limit", "1", ARCHIVER_DATABASE_URL=archive)
    assert told.stdout.count("not requested yet") == 1


def test_it_is_told_when_nothing_asks_for_files(archiver: Run, archive: str) -> None:
    told = archiver("files", ARCHIVER_DATABASE_URL=archive, ARCHIVER_FILES_ENABLED="false")
    assert told.stdout.endswith("no files are fetched: files.enabled is off\n")


def test_a_file_without_a_path_is_missing_though_nothing_can_ask_for_it(
    archiver: Run, archive: str
) -> None:
    with psycopg.connect(archive) as db:
        db.execute("UPDATE store.attached SET sha256 = 'any'")
    told = archiver("files", ARCHIVER_DATABASE_URL=archive)
    assert (told.returncode, told.stdout.count("acme/main")) == (1, 1)
    with psycopg.connect(archive) as db:
        db.execute("UPDATE store.messages SET attachments = NULL WHERE id = 6")
    off = {"ARCHIVER_FILES_ENABLED": "false"}
    told = archiver("files", ARCHIVER_DATABASE_URL=archive, **off)
    assert (told.returncode, told.stdout) == (0, "2 files kept\n")


def test_a_file_in_whose_place_is_an_empty_one_stays_away(
    archiver: Run, archive: str, tmp_path: Path
) -> None:
    home = {"ARCHIVER_DATABASE_URL": archive}
    before = str(tmp_path / "before")
    assert archiver("export", before, "--events", "--files", **home).returncode == 0
    document = (ROOT / "docs/security.md").read_text()
    (statements,) = re.findall(r"```sql\n(BEGIN;.*?COMMIT;)\n```", document, re.DOTALL)
    with psycopg.connect(archive, autocommit=True) as db:
        db.execute(statements.replace("8e68…", sha256(CONTENT).hexdigest()).encode())

    assert archiver("import", before, **home).returncode == 0
    unasked = archiver("rebuild", "--check", **home)
    assert unasked.returncode == 0, unasked.stdout
    assert archiver("rebuild", **home).returncode == 0
    saved = archiver("files", "save", "acme/main", "5", str(tmp_path), **home)
    assert saved.returncode == 0, saved.stderr
    after = archiver("export", str(tmp_path / "after"), "--events", "--files", **home)
    assert after.returncode == 0, after.stderr
    assert query(archive, "SELECT size_bytes FROM store.files") == [(0,)]
    assert query(archive, "SELECT * FROM store.file_parts") == []


def test_what_was_erased_is_told_as_what_nothing_asks_for(
    archiver: Run, archive: str, tmp_path: Path
) -> None:
    digest = sha256(CONTENT).hexdigest()
    with psycopg.connect(archive) as db:
        for table in ("attached", "file_parts", "files"):
            db.execute(f"DELETE FROM store.{table} WHERE sha256 = %s", [digest])
    told = archiver("files", ARCHIVER_DATABASE_URL=archive)
    assert told.stdout.splitlines()[2].endswith("  -   the archiver does not request it"), (
        told.stdout
    )
    save = ("files", "save", "acme/main", "5", str(tmp_path))
    told = archiver(*save, ARCHIVER_DATABASE_URL=archive)
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.endswith(" is not in the archive: the archiver does not request it\n")
    export = ("export", str(tmp_path / "out.zip"), "--events", "--files", "--json")
    told = archiver(*export, ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["named_files"]["contents"] == 0


def test_all_files_of_a_message_are_saved_whatever_they_are_called(
    archiver: Run, archive: str, tmp_path: Path
) -> None:
    for name in ("x" + "ä" * 150, "...", "a\\b/c"):
        with psycopg.connect(archive) as db:
            db.execute(
                "UPDATE store.messages SET attachments = attachments || "
                "jsonb_set(attachments -> 0, '{file_name}', to_jsonb(%s::text)) WHERE id = 5",
                [name],
            )
    told = archiver("files", "save", "acme/main", "5", str(tmp_path), ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 0, told.stderr
    names = [Path(line).name for line in told.stdout.splitlines()]
    assert names == ["__.._pl_[31man.pdf", "x" + "ä" * 99, "file", "a_b_c"]
    assert [(tmp_path / name).read_bytes() for name in names] == [CONTENT] * 4


def test_what_chooses_files_to_list_is_refused_beside_what_saves(
    archiver: Run, archive: str, tmp_path: Path
) -> None:
    save = ("save", "acme/main", "5", str(tmp_path))
    for option in (["--json"], ["--flow", "acme/*"], ["--limit", "1"]):
        told = archiver("files", *option, *save, ARCHIVER_DATABASE_URL=archive)
        assert told.returncode == 2
        assert "files save does not list files" in told.stderr
    assert list(tmp_path.iterdir()) == []


def test_files_are_saved_whole_and_over_nothing(
    archiver: Run, archive: str, tmp_path: Path
) -> None:
    to = tmp_path / "a" / "new"
    save = ("files", "save", "acme/main", "5", str(to))
    told = archiver(*save, ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 0, told.stderr
    [saved] = to.iterdir()
    assert (saved.name, saved.read_bytes()) == ("__.._pl_[31man.pdf", CONTENT)
    assert told.stdout == f"{saved}\n"

    saved.write_bytes(b"mine")
    again = archiver(*save, ARCHIVER_DATABASE_URL=archive)
    assert again.returncode != 0
    assert "File exists" in again.stderr
    assert [one.read_bytes() for one in to.iterdir()] == [b"mine"]


def test_files_of_one_name_are_all_saved(archiver: Run, archive: str, tmp_path: Path) -> None:
    with psycopg.connect(archive) as db:
        db.execute("UPDATE store.messages SET attachments = attachments || attachments")
    told = archiver("files", "save", "acme/main", "5", str(tmp_path), ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 0, told.stderr
    first, second = (Path(line) for line in told.stdout.splitlines())
    assert (first.name, second.name) == ("__.._pl_[31man.pdf", "2-__.._pl_[31man.pdf")
    assert first.read_bytes() == second.read_bytes() == CONTENT


def test_altered_bytes_are_not_saved(archiver: Run, archive: str, tmp_path: Path) -> None:
    with psycopg.connect(archive) as db:
        db.execute("UPDATE store.file_parts SET bytes = 'other'")
    (tmp_path / "to").mkdir()
    told = archiver(
        "files", "save", "acme/main", "5", str(tmp_path / "to"), ARCHIVER_DATABASE_URL=archive
    )
    assert told.returncode == 2
    assert told.stderr.startswith("archiver: error: the file ")
    assert told.stderr.count("\n") == 1
    assert "was altered" in told.stderr
    assert list((tmp_path / "to").iterdir()) == []


@pytest.mark.parametrize(
    ("flow", "id_", "to", "said"),
    [
        (
            "acme/main",
            "6",
            ".",
            "b␛[2J.png is not in the archive: the file was answered␇\nc is not in the archive: the",
        ),
        ("acme/main", "7", ".", "no message 7 of acme/main names a file"),
        ("acme/nosuch", "5", ".", "the archive has no flow acme/nosuch: did you mean"),
        ("acme/main", "5", "/dev/null/a", "cannot write /dev/null/a"),
        ("acme/main", "5", "/dev/null", "/dev/null is not a directory"),
    ],
)
def test_what_cannot_be_saved_is_told(
    archiver: Run, archive: str, flow: str, id_: str, to: str, said: str
) -> None:
    told = archiver("files", "save", flow, id_, to, ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == (1 if id_ == "6" else 2)
    assert said in told.stderr


def test_a_file_that_cannot_be_written_whole_is_not_there(archive: str, tmp_path: Path) -> None:
    large = bytes(5_000_000)
    with psycopg.connect(archive) as db:
        digest = sha256(large).hexdigest()
        db.execute("DELETE FROM store.file_parts")
        db.execute(
            "INSERT INTO store.file_parts SELECT %s, n, decode(repeat('00', 1000000), 'hex')"
            " FROM generate_series(0, 4) AS n",
            [digest],
        )
        db.execute("UPDATE store.attached SET sha256 = %s WHERE sha256 IS NOT NULL", [digest])
    save = [sys.executable, "-m", "archiver", "files", "save", "acme/main", "5", str(tmp_path)]
    told = subprocess.run(
        save,
        env={"PATH": os.environ["PATH"], "ARCHIVER_DATABASE_URL": archive},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2, told.stderr
    assert "File too large" in told.stderr
    assert told.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
