"""An export is complete or absent, always the same, and is resumed where it was stopped."""

import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.engine import make_url

from archiver.cli import export_checking
from archiver.embedded import run_server
from archiver.errors import ArchiverError, Corruption
from archiver.export import writing
from archiver.export.book import BOOK, File, asked_before
from archiver.export.folder import SMALL_BYTES, Sink, partial_of
from archiver.export.manifest import check, read_manifest
from archiver.export.reading import Progress
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.store import exporting, exporting_rows
from archiver.store.engine import connect, create_engine
from archiver.store.exporting_choice import Part
from tests.conftest import UNSAFE, migrate, swift_directory
from tests.export.conftest import JULY, Export, content, exporter, fill, lines, rows
from tests.ingest.arriving import NOW, edit, frame, listed, query, running, streamed


@pytest.mark.parametrize("style", ["jsonl", "csv", "parquet", "events"])
def test_the_same_archive_makes_the_same_bytes(export: Export, tmp_path: Path, style: str) -> None:
    export(tmp_path / "one", style)
    export(tmp_path / "two", style)
    assert content(tmp_path / "one") == content(tmp_path / "two")


async def test_no_export_is_ended_for_how_long_its_files_take(database_url: str) -> None:
    async with (
        connect(database_url, standstill_seconds=15) as engine,
        exporting.moment(engine) as tx,
    ):
        shown = await tx.execute(text("SHOW idle_in_transaction_session_timeout"))
        assert shown.scalar_one() == "0"


@pytest.mark.parametrize("style", ["jsonl", "html"])
def test_parts_that_are_read_side_by_side_are_of_one_moment(
    export: Export, archive_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    export(tmp_path / "one", style)
    monkeypatch.setattr(writing, "LARGE", 0)
    sessions: list[int] = []
    with psycopg.connect(archive_url, autocommit=True) as db:

        def change(_: Progress) -> None:
            db.execute("UPDATE store.users SET nick = 'Robert' WHERE user_id = '2'")
            sessions.extend(db.execute(_READING).fetchone() or ())

        export(tmp_path / "two", style, tell=change)
        db.execute("UPDATE store.users SET nick = 'Bob' WHERE user_id = '2'")
    assert max(sessions) == 2
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_an_export_with_less_than_was_counted_is_not_finished(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = exporting.parts

    async def miscounted(*given: Any) -> Sequence[Part]:
        first, *others = await parts(*given)
        return [replace(first, rows=first.rows + 1), *others]

    monkeypatch.setattr(exporting, "parts", miscounted)
    with pytest.raises(Corruption, match="rows were counted, but"):
        export(tmp_path / "one", "jsonl")
    assert not (tmp_path / "one").exists()


_READING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'archiver %'
      AND backend_type = 'client backend' AND xact_start IS NOT NULL
"""


def test_where_there_is_one_connection_alone_it_is_enough(
    export: Export,
    archive_url: str,
    postgres_admin: psycopg.Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    export(tmp_path / "one", "jsonl")
    monkeypatch.setattr(writing, "LARGE", 0)
    role = sql.Identifier(name := f"alone_{uuid4().hex[:8]}")
    create = "CREATE ROLE {} LOGIN CONNECTION LIMIT 1 IN ROLE pg_read_all_data"
    postgres_admin.execute(sql.SQL(create).format(role))
    try:
        url = make_url(archive_url).set(username=name).render_as_string(hide_password=False)
        exporter(url)(tmp_path / "two", "jsonl")
    finally:
        postgres_admin.execute(sql.SQL("DROP ROLE {}").format(role))
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_a_second_connection_is_not_waited_for_long(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(tmp_path / "one", "jsonl")
    monkeypatch.setattr(writing, "LARGE", 0)
    monkeypatch.setattr(exporting, "PATIENCE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://archiver@127.0.0.1:{silent.getsockname()[1]}/archive"
        monkeypatch.setattr(exporting, "beside", lambda _engine: create_engine(url))
        export(tmp_path / "two", "jsonl")
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_a_zip_holds_what_a_directory_would(export: Export, tmp_path: Path) -> None:
    export(tmp_path / "out", "csv")
    for name in ("one.zip", "two.zip"):
        export(tmp_path / name, "csv")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as packed:
        held = {name: packed.read(name) for name in packed.namelist()}
    assert held == content(tmp_path / "out")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["one.zip", "out", "two.zip"]


def test_the_manifest_tells_what_is_there_and_what_is_proven(
    export: Export, tmp_path: Path
) -> None:
    export(tmp_path / "out", "jsonl", flows=["acme/main"])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["flows"] == {"acme/main": manifest["rows"]}
    assert manifest["coverage"] == {
        "acme/main": {
            "due": 33,
            "proven": [
                {"witness": "list", "from": 25, "to": 33},
                {"witness": "stream", "from": 1, "to": 20},
            ],
            "missing": [{"from": 21, "to": 24}],
            "doubted": [],
        }
    }


@given(st.lists(st.integers(0, 3 * SMALL_BYTES), max_size=6))
def test_large_and_small_pieces_are_written_and_digested_in_their_order(sizes: list[int]) -> None:
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
    file = BytesIO()
    sink = Sink(file)
    for piece in pieces:
        sink.write(piece)
    sink.flush()
    whole = b"".join(pieces)
    assert file.getvalue() == whole
    assert (sink.size_bytes, sink.sha256()) == (len(whole), sha256(whole).hexdigest())


def test_an_export_that_is_killed_when_it_has_its_name_is_as_its_manifest_says(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, *, missing_ok: bool = False) -> None:
        raise RuntimeError(path, missing_ok)

    with monkeypatch.context() as dying:
        dying.setattr(Path, "unlink", killed)
        with pytest.raises(RuntimeError):
            export(tmp_path / "out", "csv")

    manifest = read_manifest(tmp_path / "out")
    assert (tmp_path / "out" / BOOK).exists()
    assert list(check(tmp_path / "out", manifest)) == manifest.files


def test_a_check_finds_what_is_no_more_as_it_was(export: Export, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = export(out, "csv")
    assert list(check(out, read_manifest(out))) == manifest.files
    first, second, third = (out / file.path for file in manifest.files[:3])
    first.unlink()
    second.write_bytes(second.read_bytes() + b"x")
    third.write_bytes(third.read_bytes().replace(b"e", b"f"))
    (out / "stranger").touch()
    found = [one for one in check(out, manifest) if not isinstance(one, File)]
    assert [one.trouble.split(" ")[0] for one in found] == [
        "missing", found[1].trouble.split(" ")[0], "changed:", "not",
    ]  # fmt: skip
    assert "bytes instead of" in found[1].trouble


def test_a_check_of_many_files_adds_up_their_sizes_once(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be a hundred thousand of them: sums after each would take minutes."""
    export(tmp_path / "out", "csv")
    summed: list[int] = []

    def total_bytes(files: list[File]) -> int:
        summed.append(len(files))
        return sum(file.size_bytes for file in files)

    monkeypatch.setattr(export_checking, "total_bytes", total_bytes)
    assert export_checking.check_export(tmp_path / "out", as_json=True) == 0
    assert summed == [len(read_manifest(tmp_path / "out").files)]


def test_a_pipe_is_no_export_and_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for pipe, export in (("pipe", "pipe"), ("out/manifest.json", "out")):
        os.mkfifo(tmp_path / pipe)
        with pytest.raises(ArchiverError, match=f"{pipe} is not a regular file"):
            read_manifest(tmp_path / export)


def test_others_of_the_machine_cannot_read_an_export(export: Export, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        for name in ("out", "out.zip"):
            export(tmp_path / "made for it" / name, "jsonl")
    finally:
        os.umask(before)
    modes = {
        path.name: stat.filemode(path.stat().st_mode)
        for path in (tmp_path / "made for it").iterdir()
    }
    assert modes == {"out": "drwx------", "out.zip": "-rw-------"}


@pytest.mark.parametrize("is_link", [False, True])
def test_no_export_is_written_where_another_user_waits_for_it(
    export: Export, tmp_path: Path, give_away: Callable[[Path], None], is_link: bool
) -> None:
    """Where all may create files, the owner of such a folder could read the export in it."""
    waiting = tmp_path / "out.partial"
    if is_link:
        (tmp_path / "mine").mkdir()
        waiting.symlink_to("mine")
    else:
        waiting.mkdir(0o777)
    give_away(waiting)
    with pytest.raises(ArchiverError, match="belongs to another user"):
        export(tmp_path / "out", "jsonl")
    assert list(waiting.iterdir()) == []


def test_a_pipe_of_another_user_is_not_waited_for(
    tmp_path: Path, give_away: Callable[[Path], None]
) -> None:
    os.mkfifo(tmp_path / BOOK)
    give_away(tmp_path)
    me = f"import os, sys; os.geteuid = lambda: {os.geteuid()}"
    reading = "from archiver.export.book import *; print(asked_before(Path(sys.argv[1])))"
    program = [sys.executable, "-c", f"{me}; {reading}", str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "None\n"


def test_a_zip_is_not_written_into_a_file_that_somebody_made_meanwhile(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier file is removed, but another user may be quick enough to create it again."""
    touch = Path.touch

    def made_meanwhile(path: Path, *args: Any, **kwargs: Any) -> None:
        if path.name == "out.zip.tmp":
            path.write_bytes(b"")
        touch(path, *args, **kwargs)

    monkeypatch.setattr(Path, "touch", made_meanwhile)
    with pytest.raises(ArchiverError, match=r"cannot write .*: File exists"):
        export(tmp_path / "out.zip", "jsonl")
    assert (tmp_path / "out.zip.tmp").read_bytes() == b""


def test_a_check_finds_what_of_a_zip_is_damaged(export: Export, tmp_path: Path) -> None:
    out = tmp_path / "out.zip"
    manifest = export(out, "csv")
    whole = out.read_bytes()
    with zipfile.ZipFile(out) as packed:
        entries = [packed.getinfo(file.path) for file in manifest.files]
    for entry in entries:
        packed_at = entry.header_offset + 30 + len(entry.filename)
        torn = bytearray(whole)
        torn[packed_at : packed_at + entry.compress_size] = bytes(entry.compress_size)
        out.write_bytes(torn)
        (found,) = [one for one in check(out, manifest) if not isinstance(one, File)]
        assert found.path == entry.filename


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_python_unpacks_at_once_is_not_read_from_a_zip(
    export: Export, tmp_path: Path, method: int
) -> None:
    out = tmp_path / "out.zip"
    manifest = export(out, "csv")
    with zipfile.ZipFile(out) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    with zipfile.ZipFile(out, "w", method) as packed:
        for name, told in files.items():
            packed.writestr(name, told)
    with pytest.raises(ArchiverError, match="compressed by another method than deflate"):
        read_manifest(out)
    troubles = {one.trouble for one in check(out, manifest) if not isinstance(one, File)}
    assert troubles == {"cannot be read: compressed by another method than deflate"}


def test_a_manifest_that_bursts_is_not_read_whole(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "out.zip", "w", zipfile.ZIP_DEFLATED) as packed,
        packed.open("manifest.json", "w") as entry,
    ):
        for _ in range(257):
            entry.write(b" " * (1 << 20))
    with pytest.raises(ArchiverError, match="is too long"):
        read_manifest(tmp_path / "out.zip")


def link(place: Path, to: Path) -> None:
    if place.exists():
        place.rename(to)
    place.symlink_to(to)


@pytest.mark.parametrize(
    ("place", "change", "trouble"),
    [
        ("acme/main/2019-06.csv", link, "a symbolic link, whose target is not in the export"),
        ("acme", link, "a symbolic link, whose target is not in the export"),
        ("nowhere", link, "a symbolic link, whose target is not in the export"),
        ("acme/pipe", lambda place, _to: os.mkfifo(place), "not a regular file"),
    ],
)
def test_a_check_finds_what_is_no_file_of_its_own(
    export: Export, tmp_path: Path, place: str, change: Callable[[Path, Path], None], trouble: str
) -> None:
    out = tmp_path / "out"
    manifest = export(out, "csv")
    change(out / place, tmp_path / "elsewhere")
    found = [one for one in check(out, manifest) if not isinstance(one, File)]
    assert [(one.path, one.trouble) for one in found] == [(place, trouble)]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_check_finds_what_is_twice_in_a_zip(export: Export, tmp_path: Path) -> None:
    out = tmp_path / "out.zip"
    manifest = export(out, "csv")
    path = manifest.files[0].path
    with zipfile.ZipFile(out, "a") as packed:
        packed.writestr(path, packed.read(path))
    (found,) = [one for one in check(out, manifest) if not isinstance(one, File)]
    assert (found.path, found.trouble) == (path, "present 2 times, so readers may take any of them")


@pytest.mark.parametrize("path", ["../beside", "/etc/hostname", "a/../../beside", "a\0b"])
def test_a_manifest_leads_to_nothing_outside(export: Export, tmp_path: Path, path: str) -> None:
    (tmp_path / "beside").touch()
    manifest = export(tmp_path / "out", "csv")
    outside = File(path=path, size_bytes=0, sha256=sha256().hexdigest())
    lying = replace(manifest, files=[*manifest.files, outside])
    found = [one for one in check(tmp_path / "out", lying) if not isinstance(one, File)]
    assert [one.trouble for one in found] == ["leads out of the export"]


def test_what_is_there_is_never_written_over(export: Export, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export(out, "csv")
    with pytest.raises(ArchiverError, match="is not empty"):
        export(out, "csv")
    (tmp_path / "a.zip").touch()
    with pytest.raises(ArchiverError, match="already exists"):
        export(tmp_path / "a.zip", "csv")
    (tmp_path / "b.partial").mkdir()
    (tmp_path / "b.partial" / "mine").touch()
    with pytest.raises(ArchiverError, match="not an unfinished export"):
        export(tmp_path / "b", "csv")
    assert (tmp_path / "b.partial" / "mine").exists()


def test_where_no_export_can_be_is_told(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for here in (Path(), tmp_path):
        with pytest.raises(ArchiverError, match=" is the current directory, "):
            export(here, "csv")
    with pytest.raises(ArchiverError, match=r"^/ is not empty"):
        export(Path("/"), "csv")
    with pytest.raises(ArchiverError, match=r"cannot write .*: File name too long"):
        export(tmp_path / ("x" * 300), "csv")
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_a_directory_is_refused_before_anything_is_written(
    export: Export, tmp_path: Path
) -> None:
    """At the end, the finished export could not be renamed to it."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    with pytest.raises(ArchiverError, match=r"name a new directory in it, as .*/link/export$"):
        export(tmp_path / "link", "csv")
    assert not partial_of(tmp_path / "link").exists()
    export(tmp_path / "link" / "export", "csv")
    assert (tmp_path / "disk" / "export" / "manifest.json").exists()


def test_the_root_of_a_file_system_is_refused_before_anything_is_written(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == disk)
    with pytest.raises(ArchiverError, match=r"name a new directory in it, as .*/disk/export$"):
        export(disk, "csv")
    assert not partial_of(disk).exists()


class Killed(BaseException):
    """Ends an export in the middle, as a kill would."""


def kill_at(rows_written: int):
    def tell(progress: Progress) -> None:
        if progress.rows >= rows_written:
            raise Killed

    return tell


def stop(progress: Progress, steps: list[Progress]) -> None:
    """End an export at once, and record how far it had come."""
    steps.append(progress)
    raise Killed


def test_an_export_that_was_stopped_goes_on_and_is_of_one_moment(
    database_url: str, tmp_path: Path
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
    export = exporter(database_url)
    with pytest.raises(Killed):
        export(tmp_path / "out", "jsonl", tell=kill_at(10))
    assert not (tmp_path / "out").exists()
    kept = set(content(tmp_path / "out.partial"))
    assert {"acme/main/2019-06.jsonl", ".progress.jsonl"} <= kept

    # Meanwhile something changes in a part that was already written.
    with running(database_url) as (run, engine):
        ((key,),) = query(database_url, "SELECT flow_key FROM store.flows WHERE flow_id = 'f'")
        change = streamed(edit(50, 1, "changed meanwhile"), key)
        run(apply(engine, Batch(now=NOW, arrivals=[change])))
    with pytest.raises(ArchiverError, match="other arguments"):
        export(tmp_path / "out", "csv")
    steps: list[Progress] = []
    export(tmp_path / "out", "jsonl", tell=steps.append)
    assert lines(tmp_path / "out") == rows(database_url)
    export(tmp_path / "fresh", "jsonl")
    assert content(tmp_path / "out") == content(tmp_path / "fresh")
    assert not (tmp_path / "out.partial").exists()


def test_nothing_is_kept_of_what_another_server_wrote(database_url: str, tmp_path: Path) -> None:
    """As after a dump was restored elsewhere: there, transactions have numbers of their own."""
    with running(database_url) as (run, engine):
        run(fill(engine))
    with psycopg.connect(database_url, autocommit=True) as db:
        for _ in range(5_000):
            db.execute("SELECT pg_current_xact_id()")
    with pytest.raises(Killed):
        exporter(database_url)(tmp_path / "out", "jsonl", tell=kill_at(10))
    with swift_directory() as home, run_server(home, binaries=None, settings=UNSAFE) as server:
        migrate(server.url)
        with running(server.url) as (run, engine):
            run(fill(engine))
            ((key,),) = query(server.url, "SELECT flow_key FROM store.flows WHERE flow_id = 'f'")
            change = streamed(edit(50, 1, "changed meanwhile"), key)
            run(apply(engine, Batch(now=NOW, arrivals=[change])))
        export = exporter(server.url)
        export(tmp_path / "out", "jsonl")
        export(tmp_path / "fresh", "jsonl")
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


@pytest.mark.parametrize(
    ("style", "change"),
    [
        ("events", "listed again"),
        ("html", "a thread that is called otherwise"),
        ("html", "a name that is a nick now"),
    ],
)
def test_what_stands_beside_a_message_may_have_changed_as_well(
    database_url: str, tmp_path: Path, style: str, change: str
) -> None:
    with running(database_url) as (run, engine):
        run(fill(engine))
        export = exporter(database_url)
        ((key,),) = query(database_url, "SELECT flow_key FROM store.flows WHERE flow_id = 'f'")
        with psycopg.connect(database_url, autocommit=True) as db:
            db.execute("UPDATE store.users SET nick = NULL, name = 'Kim' WHERE user_id = '1'")
            with pytest.raises(Killed):
                export(tmp_path / "out", style, tell=kill_at(15))
            if change == "listed again":
                again: dict[str, Any] = {"sent": JULY + 22, "thread_id": "t/1", "tags": ["late"]}
                shown = frame(22, content="an answer", user="2", **again)
                at = NOW.replace(day=9)
                told = [listed(shown, key, as_of=60, at=at)]
                run(apply(engine, Batch(now=NOW, arrivals=told)))
            elif change.startswith("a thread"):
                named = {"id": "t/1", "title": "renamed", "updated_at": "2024-01-01T00:00:00Z"}
                told = [streamed(frame(60, "thread-change", content=named), key)]
                run(apply(engine, Batch(now=NOW, arrivals=told)))
            else:
                db.execute("UPDATE store.users SET nick = 'Kim', name = NULL WHERE user_id = '1'")
    export(tmp_path / "out", style)
    export(tmp_path / "fresh", style)
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


def test_what_was_written_and_has_not_changed_is_kept(
    export: Export, archive_url: str, tmp_path: Path
) -> None:
    steps: list[Progress] = []
    with pytest.raises(Killed):
        export(tmp_path / "out", "csv", tell=kill_at(15))
    before = (tmp_path / "out.partial/acme/main/2019-06.csv").stat()
    export(tmp_path / "out", "csv", tell=steps.append)
    after = (tmp_path / "out/acme/main/2019-06.csv").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert steps[-1].kept > 0
    # Every part contains nicks: when one has changed, nothing can be kept.
    with pytest.raises(Killed):
        export(tmp_path / "two", "csv", tell=kill_at(15))
    with psycopg.connect(archive_url, autocommit=True) as db:
        db.execute("UPDATE store.users SET nick = 'Robert' WHERE user_id = '2'")
        steps.clear()
        export(tmp_path / "two", "csv", tell=steps.append)
        db.execute("UPDATE store.users SET nick = 'Bob' WHERE user_id = '2'")
    assert {step.kept for step in steps} == {0}
    assert b"Robert" in (tmp_path / "two/acme/main/2019-07.csv").read_bytes()


def test_a_file_that_cannot_be_written_is_told_and_looks_like_nothing(
    archive_url: str, tmp_path: Path
) -> None:
    def limit() -> None:  # it would truncate bytecode, too: see env
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))

    command = [sys.executable, "-m", "archiver", "export", str(tmp_path / "out")]
    told = subprocess.run(
        command,
        env={
            "ARCHIVER_DATABASE_URL": archive_url,
            "PATH": "/usr/bin",
            "HOME": str(tmp_path),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2
    assert "cannot write" in told.stderr
    assert "is kept in" in told.stderr
    assert not (tmp_path / "out").exists()


def test_a_book_that_was_torn_by_a_kill_is_good_as_far_as_it_goes(
    export: Export, tmp_path: Path
) -> None:
    export(tmp_path / "whole", "csv")
    book = tmp_path / "out.partial" / BOOK
    book.parent.mkdir()
    book.write_bytes(b'{"argum')
    with pytest.raises(Killed):
        export(tmp_path / "out", "csv", tell=kill_at(10))
    for _ in range(2):  # what follows the torn line is read, too
        with book.open("ab") as more:
            more.write(b'{"name": "acme')
        steps: list[Progress] = []

        def kill_after_more(step: Progress, steps: list[Progress] = steps) -> None:
            steps.append(step)
            if step.rows > step.kept:
                raise Killed

        with pytest.raises(Killed):
            export(tmp_path / "out", "csv", tell=kill_after_more)
        assert steps[0].kept > 0
    export(tmp_path / "out", "csv")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize("damaged", [b"{\n", b'{"arguments": {}, "names": "\xff"}\n'])
def test_a_damaged_book_is_told(export: Export, tmp_path: Path, damaged: bytes) -> None:
    home = tmp_path / "out.partial"
    home.mkdir()
    (home / BOOK).write_bytes(damaged)
    assert asked_before(home) is None
    with pytest.raises(ArchiverError, match=r"is damaged: remove .*out\.partial and start again"):
        export(tmp_path / "out", "csv")


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_an_export_that_fails_at_the_very_end_goes_on_from_there(
    export: Export, tmp_path: Path, name: str
) -> None:
    obstacle = tmp_path / ("out" if name == "out" else "out.zip.tmp") / "mine"

    def hinder(_: Progress) -> None:
        obstacle.mkdir(parents=True, exist_ok=True)

    with pytest.raises(
        ArchiverError, match=f"cannot write .*{name}: .* run the same command again"
    ):
        export(tmp_path / name, "csv", tell=hinder)
    shutil.rmtree(obstacle.parent)
    partial = partial_of(tmp_path / name)  # all rows are there, but it is not complete
    (found,) = [one for one in check(partial, read_manifest(partial)) if not isinstance(one, File)]
    assert found.path == BOOK
    steps: list[Progress] = []
    export(tmp_path / name, "csv", tell=steps.append)
    assert steps
    assert all(step.rows == step.kept for step in steps)  # no part had to be written again
    assert [one.name for one in tmp_path.iterdir()] == [name]
    manifest = read_manifest(tmp_path / name)
    assert list(check(tmp_path / name, manifest)) == manifest.files


class Full(Exception):
    """Ends an export as a full disk would, while Postgres has more to send."""


@pytest.mark.parametrize("style", ["jsonl", "csv", "parquet", "html", "text", "slack"])
def test_an_export_that_fails_does_not_wait_for_what_it_did_not_read(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    monkeypatch.setattr(exporting_rows, "BLOCK_BYTES", 1)
    monkeypatch.setattr(exporting_rows, "ROWS_AT_ONCE", 1)
    monkeypatch.setattr(writing, "LARGE", 0)  # so that the other part is not finished either
    failed = []

    def write(sink: Sink, data: bytes) -> int:
        failed.append(data)
        if len(failed) > 3:
            raise Full
        return len(data)

    monkeypatch.setattr(Sink, "write", write)
    with pytest.raises(Full):
        export(tmp_path / "out", style)
    assert len(failed) >= 4
