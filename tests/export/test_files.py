"""Contents of files in exports: each is there once, whole, and where messages say."""

import csv
import json
import ntpath
import zipfile
from collections.abc import Iterator, Mapping
from hashlib import sha256
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import html5lib
import msgspec
import psycopg
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.cli.main import run as archiver
from archiver.domain.model import Flow, FlowId
from archiver.export.book import File
from archiver.export.files import DamagedFile, file_name, inert_place
from archiver.export.manifest import NamedFiles, check, read_manifest
from archiver.export.reading import Progress
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.store import directory, files
from archiver.store.connection import Engine
from archiver.store.engine import transaction
from archiver.store.exporting_files import NamedFile
from archiver.store.files import DueFile
from tests.conftest import created, named
from tests.export.conftest import JULY, JUNE, Export, content, exporter, fill, lines
from tests.export.test_names import is_reserved
from tests.export.test_writing import Killed
from tests.ingest.arriving import NOW, edit, frame, running, streamed

SPACE = "{http://www.w3.org/1999/xhtml}"
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d4944415478da63fcffff3f030005fe02fea7d6059b0000000049454e44ae426082"
)
PAGE = b"<!doctype html><script>document.title = 'taken over'</script>"
DRAWING = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
LONG = bytes(range(256)) * 9
FILES = {
    "/files/1": ("a b.PNG", "image/png", PICTURE),
    "/files/2": ("../../etc/<b>\u202egnp.html", "text/html", PAGE),
    "/files/3": ("drawing.svg", "image/svg+xml", DRAWING),
    "/files/4": ("the same again.html", "text/html", PICTURE),
    "/files/5": ("con", None, b""),
    "/files/6": ("x" * 400 + ".pdf", "application/pdf", LONG),
    "/files/7": ("never given.zip", "application/zip", None),
    "/files/8": ("of a message that is deleted.txt", "text/plain", b"gone"),
    "/files/9": ("no\nbody knows.png", "image/png", b"of somebody\n\xff"),
}
"""By path: the name, the type, and the content if it is in the archive."""
CONTENTS = {one for _, _, one in FILES.values() if one is not None}


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


async def attach(engine: Engine) -> None:
    """Add messages to a flow, each with a file; the last one names the first file again."""
    async with transaction(engine) as tx:
        key = (await directory.flow_keys(tx))[FlowId("f")]
    frames = []
    for number, path in enumerate([*FILES, "/files/1"], start=101):
        name, type_, held = FILES[path]
        size = 7 if held is None else len(held)
        told = {"file_name": name, "content_type": type_, "file_size": size, "path": path}
        sent = (JUNE if number % 2 else JULY) + number
        frames.append(frame(number, content=f"see {number}", attachments=[told], sent=sent))
    frames.append(edit(120, 108, ""))
    arrivals = [streamed(one, key) for one in frames]
    await apply(engine, Batch(now=NOW, arrivals=arrivals))
    await keep(engine, {path: held for path, (_, _, held) in FILES.items() if held is not None})


async def keep(engine: Engine, held: Mapping[str, bytes], flow: str = "f") -> None:
    """Store these contents, by path, as files of a flow."""
    async with transaction(engine) as tx:
        key = (await directory.flow_keys(tx))[FlowId(flow)]
        for path, data in held.items():
            one = DueFile(flow_key=key, path=path, size_bytes=len(data), attempts=0)
            await files.keep(tx, one, BytesIO(data), sha256=digest(data))


def change(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(statement.encode())


@pytest.fixture(scope="module")
def archive_url(
    postgres_url: str, postgres_admin: psycopg.Connection, template_database: str
) -> Iterator[str]:
    """The URL of an archive with files; tests only read it."""
    with created(postgres_admin, template_database) as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "PART_BYTES", 100)
        with running(url := named(postgres_url, name)) as (run, engine):
            run(fill(engine))
            run(attach(engine))
        yield url


@pytest.fixture
def own_url(database_url: str) -> str:
    """The URL of another such archive, which a test may change."""
    with running(database_url) as (run, engine):
        run(fill(engine))
        run(attach(engine))
    return database_url


def held(folder: Path) -> dict[str, bytes]:
    """The contents of files in an export, by path."""
    found = content(folder)
    return {path: data for path, data in found.items() if path.startswith(("files/", "__uploads/"))}


@pytest.mark.parametrize("style", ["jsonl", "csv", "parquet", "html", "text", "markdown", "slack"])
def test_each_content_is_there_once_whole_and_as_the_manifest_says(
    export: Export, tmp_path: Path, style: str
) -> None:
    manifest = export(out := tmp_path / "out", style, files=True)
    wanted = CONTENTS - {b"gone"} if style == "slack" else CONTENTS
    assert sorted(held(out).values()) == sorted(wanted)
    for path, data in held(out).items():
        assert path.split("/")[1].removeprefix("F").lower() == digest(data)
        assert File(path=path, size_bytes=len(data), sha256=digest(data)) in manifest.files
    assert read_manifest(out).files == manifest.files
    assert read_manifest(out).named_files == manifest.named_files
    assert list(check(out, manifest)) == manifest.files
    gone = style == "slack"
    assert manifest.named_files == NamedFiles(
        # In addition, a message of the sample names a file that is not in the archive.
        named=11 - gone,
        kept=9 - gone,
        contents=len(wanted),
        bytes=sum(map(len, wanted)),
        not_kept={"acme/main": 2},
    )
    export(zipped := tmp_path / "out.zip", style, files=True)
    with zipfile.ZipFile(zipped) as packed:
        assert {name: packed.read(name) for name in packed.namelist()} == content(out)
        stored = {one.filename for one in packed.infolist() if one.compress_size == one.file_size}
        assert stored >= held(out).keys()
    assert list(check(zipped, manifest)) == manifest.files


@pytest.mark.parametrize("style", ["jsonl", "html", "text", "slack"])
def test_without_being_asked_for_nothing_is_told_of_what_files_hold(
    export: Export, tmp_path: Path, style: str
) -> None:
    export(tmp_path / "out", style)
    assert not held(tmp_path / "out")
    manifest = json.loads((tmp_path / "out/manifest.json").read_bytes())
    assert "named_files" not in manifest
    for path, data in content(tmp_path / "out").items():
        assert path == "manifest.json" or digest(PICTURE).encode() not in data.lower()
        assert path == "manifest.json" or b"not in the archive" not in data


def test_a_content_is_called_as_the_first_message_calls_it(export: Export, tmp_path: Path) -> None:
    export(tmp_path / "out", "jsonl", files=True)
    names = {
        digest(data): PurePosixPath(path).name for path, data in held(tmp_path / "out").items()
    }
    assert names[digest(PICTURE)] == "a b.PNG"
    assert names[digest(PAGE)] == "%2E.%2F..%2Fetc%2F%3Cb%3E%E2%80%AEgnp.html"
    assert names[digest(b"")] == "%63on"
    assert names[digest(LONG)].endswith(".pdf")
    assert len(names[digest(LONG)]) < 150


@pytest.fixture
def long_fields() -> Iterator[None]:
    """Let the CSV reader take fields as long as messages are."""
    before = csv.field_size_limit(10**6)
    yield
    csv.field_size_limit(before)


@pytest.mark.usefixtures("long_fields")
def test_attachments_tell_the_digest_of_what_they_hold(export: Export, tmp_path: Path) -> None:
    told = {
        100 + number: None if data is None else digest(data)
        for number, (_, _, data) in enumerate(FILES.values(), start=1)
    }
    told |= {20: None, 110: digest(PICTURE)}
    export(tmp_path / "jsonl", "jsonl", files=True)
    read = {row["id"]: row["attachments"] for row in lines(tmp_path / "jsonl")}
    assert {id_: one[0]["sha256"] for id_, one in read.items() if one} == told

    export(tmp_path / "csv", "csv", files=True)
    in_csv = {}
    for table in (tmp_path / "csv/acme/main").glob("*.csv"):
        for row in csv.DictReader(table.read_text().replace("\0", "").splitlines(keepends=True)):
            if row["attachments"] not in {"[]", "", None}:
                in_csv[int(row["id"])] = json.loads(row["attachments"])[0]["sha256"]
    assert in_csv == told

    export(tmp_path / "parquet", "parquet", files=True)
    in_parquet = {}
    for table in (tmp_path / "parquet").rglob("*.parquet"):
        for row in pyarrow.parquet.ParquetFile(table).read().to_pylist():
            if row["attachments"]:
                in_parquet[row["id"]] = row["attachments"][0]["sha256"]
    assert in_parquet == told


def test_transcripts_name_the_path_from_where_they_are(export: Export, tmp_path: Path) -> None:
    export(tmp_path / "out", "text", files=True)
    folder = tmp_path / "out/acme/main"
    told = "".join(one.read_text() for one in folder.glob("*.txt"))
    picture = f"../../files/{digest(PICTURE)}/a b.PNG"
    assert (folder / picture).read_bytes() == PICTURE
    assert f"    [a b.PNG: {picture}]\n" in told
    assert f"    [the same again.html: {picture}]\n" in told
    assert "    [never given.zip: not in the archive]\n" in told


def test_what_a_file_holds_is_chosen_with_its_message(export: Export, tmp_path: Path) -> None:
    export(tmp_path / "june", "jsonl", files=True, until=NOW.replace(year=2019, month=7, day=1))
    in_june = [data for _, _, data in list(FILES.values())[::2] if data is not None]
    assert sorted(held(tmp_path / "june").values()) == sorted(in_june)
    export(tmp_path / "other", "jsonl", files=True, flows=("private/1/2",))
    assert held(tmp_path / "other") == {}
    # As of a time before the deletion, and as of one before anything was said.
    export(tmp_path / "past", "text", files=True, as_of=NOW)
    assert sorted(held(tmp_path / "past").values()) == sorted(CONTENTS)
    export(tmp_path / "before", "text", files=True, as_of=NOW.replace(year=2010))
    assert held(tmp_path / "before") == {}


def test_pages_lead_to_what_files_hold_and_show_pictures_alone(
    export: Export, tmp_path: Path
) -> None:
    export(out := tmp_path / "out", "html", files=True)
    parser = html5lib.HTMLParser(strict=True)
    seen: dict[str, set[bytes]] = {"href": set(), "src": set()}
    for page in (out / "acme/main").glob("20*.html"):
        root = parser.parse(page.read_bytes().decode())
        policy = root.find(f".//{SPACE}meta[@http-equiv]").get("content")
        assert "img-src 'self' file:;" in policy
        assert "default-src 'none'; " in policy
        assert "unsafe" not in policy
        for shown in root.iter(f"{SPACE}p"):
            for element in shown.iter():
                assert element.tag in {SPACE + "p", SPACE + "a", SPACE + "img"}
                assert not [name for name in element.attrib if name.startswith("on")]
                for name in seen.keys() & element.attrib.keys():
                    target = (page.parent / unquote(element.get(name))).resolve()
                    assert target.is_relative_to(out / "files")
                    seen[name].add(target.read_bytes())
                if element.tag == SPACE + "img":
                    assert element.get("loading") == "lazy"
    assert seen == {"href": CONTENTS, "src": {PICTURE, FILES["/files/9"][2]}}
    names = {data: PurePosixPath(path).name for path, data in held(out).items()}
    assert names[PAGE].endswith("gnp.html.txt")
    assert names[DRAWING] == "drawing.svg.txt"
    assert names[b""] == "%63on.txt"
    assert names[LONG].endswith(".pdf")
    days = "".join(page.read_text() for page in (out / "acme/main").glob("20*.html"))
    assert "never given.zip · application/zip · 7 bytes · not in the archive</p>" in days
    first = (out / "index.html").read_text()
    assert "11 files are named, of which 2 are not in the archive." in first
    assert "img-src &#39;none&#39;" in first


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("a.html", None), ("a.HTM", None), ("a.xhtml", None), ("a.xht", None), ("a.svg", None),
        ("a.svgz", None), ("a.xml", None), ("a.xsl", None), ("a.mht", None), ("a.mhtml", None),
        ("a.eml", None), ("a.js", None), ("a.mjs", None), ("a.swf", None), ("a.hta", None),
        ("a.shtml", None), ("a.url", None), ("a.webarchive", None), (".htaccess", None),
        ("a.html ", None), ("a.html.", None), ("a.html.gz", None), ("a.svg.br", None),
        ("html", None), ("", None), (None, None), ("a", "text/plain"), ("a.unheard", None),
        ("a.png", "text/html"), ("a.png", "image/svg+xml"), ("a.pdf", "Application/XHTML+XML"),
        ("a.txt", "application/xml; charset=utf-8"), ("a.doc", "multipart/related"),
        ("a.zip", "application/javascript"), ("a.html\u202egnp.", None),
        ("a.png", "application/x-shockwave-flash"), ("a.doc", "application/x-mimearchive"),
        ("a.doc", "message/rfc822"), ("a.png", "image/svg"),
        ("a.html.gz.gz.gz.gz.gz", None), ("a.html.gz.xz.bz2", None),
    ],
)  # fmt: skip
def test_nothing_that_a_browser_would_run_is_called_as_such(
    name: str | None, type_: str | None
) -> None:
    assert inert_place(a_file(name, type_)).endswith(".txt")


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("a.png", "image/png"), ("a.PNG", None), ("a.tar.gz", None), ("v1.2.pdf", None),
        ("a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("a.zip", "application/x-zip"), ("a.gz", None), ("a.mp4", "video/mp4"),
        ("a.txt.gz.xz.bz2", None),
    ],
)  # fmt: skip
def test_what_acts_nowhere_keeps_its_name(name: str, type_: str | None) -> None:
    assert PurePosixPath(inert_place(a_file(name, type_))).name == name


def a_file(name: str | None, type_: str | None) -> NamedFile:
    return NamedFile("acme/main", "2019-06", 1, name, type_, "0" * 64, 1, is_plain=True)


@given(st.text() | st.sampled_from(["..", ".", "", "con.png", "nul", "a" * 500 + ".png", "a/../b"]))
def test_no_name_of_a_file_leads_anywhere_else(name: str) -> None:
    safe = file_name(name)
    assert PurePosixPath(safe).parts == (safe,)
    assert ntpath.basename(safe) == safe
    assert not safe.startswith(".")
    assert safe.isascii()
    assert safe.isprintable()
    assert len(safe) < 150
    assert not is_reserved(safe)
    assert not any(letter in safe for letter in '\\:*?"<>|')
    assert unquote(safe) == (name or "file") or "~" in safe or safe == "%"


def test_what_slack_exports_hold_lies_where_it_is_looked_for(
    export: Export, tmp_path: Path
) -> None:
    export(out := tmp_path / "out", "slack", files=True)
    days = [json.loads(one.read_bytes()) for one in (out / "main").glob("*.json")]
    told = {one["name"]: one for day in days for said in day for one in said.get("files", [])}
    assert told["a b.PNG"]["id"] == told["the same again.html"]["id"]
    (picture,) = (out / "__uploads" / told["a b.PNG"]["id"]).iterdir()
    assert picture.read_bytes() == PICTURE
    assert not (out / "__uploads" / told["never given.zip"]["id"]).exists()
    assert {len(path.split("/")) for path in held(out)} == {3}


@pytest.mark.parametrize(
    ("style", "path"), [("slack", "acme/__uploads"), ("jsonl", f"files/{digest(b'x')}")]
)
def test_no_flow_is_called_as_the_folder_of_what_files_hold(
    own_url: str, tmp_path: Path, style: str, path: str
) -> None:
    async def add(engine: Engine) -> None:
        async with transaction(engine) as tx:
            keys = await directory.see_flows(tx, [Flow(id=FlowId("h"), path=path)], now=NOW)
        told = {"file_name": "2019-06.jsonl", "file_size": 1, "path": "/files/x"}
        said = frame(1, flow="h", content="forged", sent=JUNE, attachments=[told])
        await apply(engine, Batch(now=NOW, arrivals=[streamed(said, keys[FlowId("h")])]))
        await keep(engine, {"/files/x": b"x"}, "h")

    with running(own_url) as (run, engine):
        run(add(engine))
    exporter(own_url)(out := tmp_path / "out", style, files=True, flows=[path])
    assert list(held(out).values()) == [b"x"]
    assert [data for path, data in content(out).items() if b"forged" in data]


def test_a_path_is_that_of_one_flow(own_url: str, tmp_path: Path) -> None:
    async def add(engine: Engine) -> None:
        async with transaction(engine) as tx:
            keys = await directory.flow_keys(tx)
        for flow, data in (("g", b"of g"), ("private/1/2", None)):
            told = {"file_name": "x.txt", "file_size": 4, "path": "/files/1"}
            said = frame(9, flow=flow, sent=JUNE, attachments=[told])
            await apply(engine, Batch(now=NOW, arrivals=[streamed(said, keys[FlowId(flow)])]))
            if data is not None:
                await keep(engine, {"/files/1": data}, flow)

    with running(own_url) as (run, engine):
        run(add(engine))
    manifest = exporter(own_url)(out := tmp_path / "out", "jsonl", files=True)
    named = [row for row in lines(out) if row["id"] == 9]
    assert {row["flow"]: row["attachments"][0]["sha256"] for row in named} == {
        "acme/sp ace%": digest(b"of g"), "private/1/2": None,
    }  # fmt: skip
    assert isinstance(manifest.named_files, NamedFiles)
    assert manifest.named_files.not_kept == {"acme/main": 2, "private/1/2": 1}
    assert sorted(held(out).values()) == sorted([*CONTENTS, b"of g"])


DAMAGES = {
    "a part is missing": "DELETE FROM store.file_parts WHERE part = 1",
    "the last part is missing": f"DELETE FROM store.file_parts WHERE sha256 = '{digest(PAGE)}'",
    "a byte is another": (
        f"UPDATE store.file_parts SET bytes = set_byte(bytes, 0, 1) WHERE sha256 = '{digest(PAGE)}'"
    ),
    "it is not there": f"DELETE FROM store.files WHERE sha256 = '{digest(PAGE)}'",
    "another length is noted": (
        f"UPDATE store.files SET size_bytes = 3 WHERE sha256 = '{digest(PAGE)}'"
    ),
    "it has a part too many": (
        f"INSERT INTO store.file_parts VALUES ('{digest(b'')}', 7, 'too much')"
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("style", ["jsonl", "slack"])
def test_what_is_damaged_is_refused_and_never_taken_for_whole(
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
    style: str,
) -> None:
    monkeypatch.setattr(files, "PART_BYTES", 20)
    with running(database_url) as (run, engine):
        run(fill(engine))
        run(attach(engine))
    change(database_url, DAMAGES[damage])
    export = exporter(database_url)
    with pytest.raises(
        DamagedFile, match=r"SHA-256 [0-9a-f]{64} is damaged in the archive: .*archive\.attach"
    ):
        export(tmp_path / "out", style, files=True)
    assert not (tmp_path / "out").exists()
    # Those who are in a hurry can export without files.
    export(tmp_path / "other", style)
    change(database_url, "DELETE FROM store.files; DELETE FROM store.file_parts")
    with running(database_url) as (run, engine):
        change(database_url, "UPDATE store.attached SET sha256 = NULL")
        run(keep(engine, {path: data for path, (*_, data) in FILES.items() if data is not None}))
    export(tmp_path / "out", style, files=True)
    export(tmp_path / "fresh", style, files=True)
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


def kill_among_files(count: int) -> Any:
    """A callback that kills an export once contents were reported more than *count* times."""
    told: list[Progress] = []

    def tell(progress: Progress) -> None:
        if progress.bytes:
            told.append(progress)
            if len(told) > count:
                raise Killed

    return tell


@pytest.mark.parametrize("style", ["jsonl", "html", "text"])
def test_an_export_that_was_killed_keeps_what_is_whole_and_tells_all_of_one_moment(
    own_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    monkeypatch.setattr("archiver.export.reading.TOLD_BYTES", 1)
    export = exporter(own_url)
    with pytest.raises(Killed):
        export(out := tmp_path / "out", style, files=True, tell=kill_among_files(3))
    partial = tmp_path / "out.partial"
    before = {path: (partial / path).stat().st_ino for path in held(partial)}
    assert before
    # Meanwhile two files are stored: one that was missing, and one with a known content, which has
    # another name in an earlier message.
    with running(own_url) as (run, engine):
        run(keep(engine, {"/files/7": b"given at last", "/p/a": PICTURE}))
    steps: list[Progress] = []
    export(out, style, files=True, tell=steps.append)
    after = {path: (out / path).stat().st_ino for path in held(out)}
    renamed = {path for path in before if "a%20b" in path or "a b" in path}
    assert renamed
    kept = {path for path, inode in before.items() if after.get(path) == inode}
    assert kept
    assert not kept & renamed
    assert (steps[-1].bytes, steps[-1].rows) == (steps[-1].total_bytes, steps[-1].total)
    export(fresh := tmp_path / "fresh", style, files=True)
    assert content(out) == content(fresh)
    assert b"given at last" in held(out).values()
    assert any(path.endswith("/a%22%3Cb%3E.png") for path in held(out))


def test_parts_that_name_files_are_written_once_if_nothing_changes(
    own_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archiver.export.reading.TOLD_BYTES", 1)
    export = exporter(own_url)
    with pytest.raises(Killed):
        export(out := tmp_path / "out", "jsonl", files=True, tell=kill_among_files(3))
    parts = list((tmp_path / "out.partial").rglob("20*.jsonl"))
    before = {one.relative_to(tmp_path / "out.partial"): one.stat().st_ino for one in parts}
    assert len(before) >= 3
    export(out, "jsonl", files=True)
    assert {path: (out / path).stat().st_ino for path in before} == before


def test_a_check_finds_a_content_that_the_archive_names_otherwise(
    export: Export, tmp_path: Path
) -> None:
    manifest = export(out := tmp_path / "out", "jsonl", files=True)
    (place,) = [one for one in manifest.files if one.sha256 == digest(PAGE)]
    other = PAGE.replace(b"taken", b"token")
    (out / place.path).write_bytes(other)
    (found,) = [one for one in check(out, manifest) if not isinstance(one, File)]
    assert (found.path, found.trouble) == (place.path, "changed: its SHA-256 differs")
    # It does not help to change the manifest as well.
    forged = (out / "manifest.json").read_bytes()
    entry = b'"sha256": "%s"'
    forged = forged.replace(entry % digest(PAGE).encode(), entry % digest(other).encode())
    (out / "manifest.json").write_bytes(forged)
    (found,) = [one for one in check(out, read_manifest(out)) if not isinstance(one, File)]
    assert found.trouble == "its SHA-256 is not the one in its path"


def test_the_command_tells_how_much_it_took_and_what_is_not_there(
    archive_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ARCHIVER_DATABASE_URL", archive_url)
    out = str(tmp_path / "out")
    assert archiver(["export", out, "--files", "--format", "html"]) == 0
    told = capsys.readouterr().out
    size = sum(map(len, CONTENTS))
    assert f"9 of 11 files that messages name, {size:,} bytes in {len(CONTENTS)} contents\n" in told
    assert "not in the archive: 2 files that messages name, of 1 flow; " in told
    assert archiver(["export", "--check", out]) == 0
    capsys.readouterr()
    assert archiver(["export", str(tmp_path / "out.zip"), "--files", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["named_files"]
    assert msgspec.convert(found, NamedFiles).not_kept == {"acme/main": 2}
    manifest = read_manifest(tmp_path / "out.zip")
    assert manifest.arguments["files"] is True


def test_files_are_refused_where_they_make_no_sense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert archiver(["export", str(tmp_path / "out"), "--check", "--files"]) == 2
    assert "--files cannot go with it" in capsys.readouterr().err
