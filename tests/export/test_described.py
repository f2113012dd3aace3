"""``docs/export.md`` describes what an export of the journal consists of, and how to read it."""

import json
import re
import subprocess
import sys
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import psycopg
import pytest

from archiver.domain.model import Attachment, Flow, FlowId
from archiver.export.manifest import Manifest
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.store import directory, files
from archiver.store.engine import transaction
from tests.export.conftest import exporter, fill, lines
from tests.ingest.arriving import NOW, edit, frame, gone, listed, running, streamed

DOCUMENT = (Path(__file__).parents[2] / "docs/export.md").read_text()
SECTION = DOCUMENT.partition("\n## The format of the journal\n")[2].partition("\n## ")[0]
ROW = re.compile(r"^\| (.*) \|$", re.MULTILINE)
NAME = re.compile(r"`(\w+)`")


def part(heading: str) -> str:
    """The text below *heading*."""
    return SECTION.partition(f"\n### {heading}\n")[2].partition("\n### ")[0]


def keys(text: str) -> set[str]:
    """The names in the first column of the first table in *text*."""
    (table, *_) = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return {name for row in ROW.findall(table) for name in NAME.findall(row.split(" | ")[0])}


def keys_by_file() -> dict[str, set[str]]:
    """The keys of each of the smaller files, as the table of these names them."""
    found: dict[str, set[str]] = {}
    name = ""
    for row in ROW.findall(part("Flows, people, files, rejects"))[1:]:
        file, key, _ = row.split("| ")
        name = file.strip("` ") or name
        found.setdefault(name, set()).update(NAME.findall(key))
    return found


@pytest.fixture
def exported(database_url: str, tmp_path: Path) -> tuple[Path, Manifest]:
    """An export of the journal in which each kind of file has lines."""

    async def add(engine: Any) -> None:
        await fill(engine)
        flow = Flow(id=FlowId("h"), path="acme/late", organization="Acme", name="Late")
        async with transaction(engine) as tx:
            key = (await directory.see_flows(tx, [flow], now=NOW))[flow.id]
        comment = {"title": "above", "text": "a comment"}
        heard = [
            streamed(frame(1, content="said"), key),
            streamed(edit(7, 1, "edited by a person"), key),
            listed(frame(1, content="said", edited=None), key, as_of=9),
            listed(frame(2, content="was edited unheard", edited=99), key, as_of=9),
            streamed(frame(2, content="first"), key),
            streamed(frame(3, "comment", content=comment), key),
            streamed(frame(4, "comment", content=comment), key),
            streamed(
                frame(8, "message-edit", content={"message": 4, "updated_content": {"text": "!"}}),
                key,
            ),
            streamed(frame(5, content="gone"), key),
            gone(5, key, as_of=9),
            streamed(frame(6, "status", content="removed"), key),
            streamed(frame(9, "message-delete", content={"message": 6}), key),
            streamed(frame(10, "message-edit", content="of what, it does not say"), key),
            streamed(frame(11, "message-delete", content={}), key),
        ]
        await apply(engine, Batch(now=NOW, arrivals=heard))
        async with transaction(engine) as tx:
            paths = await directory.flow_paths(tx)
            (main,) = (key for key, path in paths.items() if path == "acme/main")
            held, digest = b"bytes", sha256(b"bytes").hexdigest()
            size = len(held)
            await files.want(tx, [(main, [Attachment(path="/p/a", size_bytes=size)])])
            await files.attach(tx, main, "/p/a", BytesIO(held), sha256=digest, size_bytes=size)

    with running(database_url) as (run, engine):
        run(add(engine))
    flows = ("acme/late", "acme/main", "acme/sp ace%", "private/1/2")
    out = tmp_path / "out"
    return out, exporter(database_url)(out, "events", flows=flows, files=True)


def test_each_key_is_described(exported: tuple[Path, Manifest]) -> None:
    out, _ = exported
    for line in lines(out / "events"):
        assert line.keys() == keys(part("Events"))
    described = keys_by_file()
    assert described.keys() == {"flows.jsonl", "users.jsonl", "files.jsonl", "rejects.jsonl"}
    for name, names in described.items():
        told = [json.loads(line) for line in (out / name).read_text().splitlines()]
        assert told, name
        assert all(line.keys() == names for line in told), name
    told = json.loads((out / "manifest.json").read_text())
    introduction, _, table = part("The keys of the manifest").partition("\n\n|")
    explained_above = set(NAME.findall(introduction.partition(" are explained")[0]))
    assert told.keys() == explained_above | keys(f"|{table}")
    (above,) = re.findall(r"\n### The manifest\n(.*?)\n## ", DOCUMENT, re.DOTALL)
    assert explained_above <= set(NAME.findall(above))


def test_each_file_is_described(exported: tuple[Path, Manifest]) -> None:
    _, manifest = exported
    described = {
        re.sub(r"[A-Z]{2,}(-256)?|2024-05", "*", name)
        for name in re.findall(r"^\| `([^`]+)`", SECTION.partition("\n### ")[0], re.MULTILINE)
    }
    found = {"manifest.json"}
    for file in manifest.files:
        top, *below = file.path.split("/")
        found.add({"events": "events/*/*/*.jsonl", "files": "files/*/*"}[top] if below else top)
    assert found == described


def test_the_example_prints_what_messages_say_now(
    exported: tuple[Path, Manifest], database_url: str, tmp_path: Path
) -> None:
    out, _ = exported
    (example,) = re.findall(r"^```python\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
    (tmp_path / "example.py").write_text(example)
    printed = subprocess.run(
        [sys.executable, "-I", tmp_path / "example.py", out],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = [json.loads(line) for line in printed.splitlines()]
    with psycopg.connect(database_url) as db:
        expected = db.execute(
            "SELECT flow, id, content FROM archive.messages WHERE deleted_at IS NULL"
            " AND content <> '' AND event IN ('message', 'comment', 'status')"
            ' ORDER BY flow COLLATE "C", id'
        ).fetchall()
    # A text in Postgres cannot hold NUL, as a payload can.
    assert [(f, i, text.replace("\0", "\ufffd")) for f, i, text in found] == expected
    texts = {(flow, id_): text for flow, id_, text in expected}
    assert texts["acme/late", 1] == "edited by a person"
    assert texts["acme/late", 2] == "was edited unheard"
    assert texts["acme/late", 4] == "!"
    assert not {("acme/late", 5), ("acme/late", 6)} & texts.keys()


def test_the_command_counts_events(exported: tuple[Path, Manifest]) -> None:
    out, manifest = exported
    (command,) = re.findall(r"^find export/.*$", SECTION, re.MULTILINE)
    told = subprocess.run(
        ["/bin/sh", "-c", command.replace("export/", f"{out}/")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert sum(map(int, re.findall(r": (\d+)", told))) == manifest.rows
