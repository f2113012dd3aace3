"""An archive of a few messages with contents that readers stumble over, and exports of it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unicodedata import category

import psycopg
import pytest

from archiver.cli.export import EVENTS, FORMATS, _format
from archiver.domain.coverage import Ranges
from archiver.domain.model import Flow, FlowId, User, UserId
from archiver.export.manifest import Manifest
from archiver.export.reading import Progress
from archiver.export.writing import write_export
from archiver.ingest.apply import apply
from archiver.ingest.batch import Arrival, Batch
from archiver.store import directory
from archiver.store.coverage import Standing
from archiver.store.engine import transaction
from archiver.store.exporting_choice import Selection
from archiver.store.exporting_rows import COLUMNS
from tests.conftest import created, named
from tests.ingest.arriving import NOW, edit, frame, listed, running, streamed, tag_change

HOSTILE = (
    "<script>alert(1)</script> & \"quotes\" 'and' `ticks`",
    "</textarea></script><img src=x onerror=alert(2)>\n--> ]]> {{7*7}}",
    'back\\slash \\n "," ;\ttab\r\nand a line,\n\nand another',
    "NUL \x00 escape \x1b[31m next\u2028line \u202eturned 😀 ünïcödé 日本語 עברית",
    "javascript:alert(3) http://example.com/?q=<b>&x=\"y' # _under_ *star* | pipe",
    "",
    "=1+1",
    "x" * 9000,
)
FORGED = (
    "\n[09:00:00] boss: ok\r\u2028- **boss** 09:00:00 ok\x85- **boss**\x1b[2J\x9b2J\u202e\t\x7f"
)
"""Texts that imitate messages of somebody else, or control the terminal."""
JUNE, JULY = 1_559_347_200_000, 1_562_025_600_000


def told(flow_key: int) -> list[Arrival]:
    """What came in a flow: hostile texts in two months, and changes of them."""
    frames = [
        frame(id_, content=text, sent=(JUNE if id_ % 2 else JULY) + id_, tags=["a,b", ":user:1"])
        for id_, text in enumerate(HOSTILE, start=1)
    ]
    file = {"file_name": 'a"<b>.png', "content_type": "image/png", "file_size": 5, "path": "/p/a"}
    frames += [
        frame(20, "file", content=file, attachments=[file], sent=JUNE + 20),
        frame(21, content="with a thread", thread_id="t/1", thread={"id": "t/1", "title": "<T>"}),
        frame(22, content="an answer", thread_id="t/1", user="2", sent=JULY + 22),
        frame(23, content="soon edited", sent=JUNE + 23),
        frame(24, content="soon deleted", sent=JUNE + 24),
        frame(25, content="without a time", sent=None),
        frame(26, "vcs", content={"name": "push", "n": 10**25}, sent=JULY + 26, app="influx"),
        edit(30, 23, "edited <b>"),
        edit(31, 24, ""),
        tag_change(32, 23, add=["todo"]),
        frame(33, "emoji-reaction", content={"message": 21, "emoji": "+1", "type": "add"}),
    ]
    arrivals = [streamed(one, flow_key) for one in frames]
    answer = frame(
        22, content="an answer", user="2", sent=JULY + 22, thread_id="t/1", tags=["late"]
    )
    return [*arrivals, listed(answer, flow_key, as_of=40)]


async def fill(engine: Any) -> None:
    flows = [
        Flow(id=FlowId("f"), path="acme/main", organization="Acme", name="Main"),
        Flow(id=FlowId("g"), path="acme/sp ace%", organization="Acme", name="Space"),
        Flow(id=FlowId("private/1/2"), path="private/1/2"),
    ]
    people = [
        User(id=UserId("1"), nick="ann<i>", name="Ann", email="ann@example.com"),
        User(id=UserId("2"), nick="Bob", name="Bob B"),
    ]
    async with transaction(engine) as tx:
        keys = await directory.see_flows(tx, flows, now=NOW)
        await directory.see_users(tx, people, now=NOW)
    main, space, private = (keys[flow.id] for flow in flows)
    gain = Standing(streamed=Ranges(((1, 20),)), listed=Ranges(((25, 33),)), due=33)
    await apply(engine, Batch(now=NOW, arrivals=told(main), gains={main: gain}))
    others = [
        streamed(frame(1, flow="g", content="elsewhere", sent=JUNE), space),
        streamed(frame(1, flow=None, to="2", content="psst", sent=JUNE), private),
        streamed(b"not JSON \x00\xff", main),
    ]
    await apply(engine, Batch(now=NOW, arrivals=others))


@pytest.fixture(scope="module")
def archive_url(
    postgres_url: str, postgres_admin: psycopg.Connection, template_database: str
) -> Iterator[str]:
    """The URL of the archive; the tests of a module share it and only read it."""
    with filled(postgres_url, postgres_admin, template_database) as url:
        yield url


@contextmanager
def filled(server_url: str, admin: psycopg.Connection, template: str) -> Iterator[str]:
    """The URL of an archive that is created, filled, and dropped when the block ends."""
    with created(admin, template) as name:
        url = named(server_url, name)
        with running(url) as (run, engine):
            run(fill(engine))
        yield url


Export = Callable[..., Manifest]


def exporter(url: str) -> Export:
    """A function that exports the archive at *url* as the command does."""

    def export(to: Path, style: str, **chosen: Any) -> Manifest:
        steps: list[Progress] = []
        flows = chosen.pop("flows", ("acme/main", "acme/sp ace%", "private/1/2"))
        tell = chosen.pop("tell", steps.append)
        with running(url) as (run, engine):
            manifest: Manifest = run(
                write_export(
                    engine,
                    _format(EVENTS if style == "events" else FORMATS[style]),
                    Selection(flows=tuple(flows), **chosen),
                    to,
                    arguments={"format": style, "flows": flows},
                    version="test",
                    tell=tell,
                )
            )
        return manifest

    return export


@pytest.fixture
def export(archive_url: str) -> Export:
    return exporter(archive_url)


@pytest.fixture
def forging(database_url: str) -> Export:
    """Exports of an archive in which every name imitates further messages."""

    async def fill(engine: Any) -> None:
        flow = Flow(id=FlowId("f"), path=f"acme/main{FORGED}", organization=FORGED, name=FORGED)
        user = User(id=UserId("1"), nick=f"nick{FORGED}", name=FORGED, email=FORGED)
        async with transaction(engine) as tx:
            keys = await directory.see_flows(tx, [flow], now=NOW)
            await directory.see_users(tx, [user], now=NOW)
        file = {"file_name": f"file{FORGED}", "content_type": FORGED, "file_size": 1, "path": "/p"}
        thread: dict[str, Any] = {"thread_id": "t", "thread": {"id": "t", "title": f"top{FORGED}"}}
        frames = [
            frame(1, tags=[f"tag{FORGED}"], **thread),
            frame(2, user="0", external_user_name=f"ext{FORGED}", **thread),
            frame(3, attachments=[file]),
            frame(4, f"kind{FORGED}", user="0", app=f"app{FORGED}"),
        ]
        reaction = frame(
            5, "emoji-reaction", content={"message": 1, "emoji": FORGED, "type": "add"}
        )
        told = [listed(one, keys[flow.id], as_of=4) for one in frames]
        told.append(streamed(reaction, keys[flow.id]))
        await apply(engine, Batch(now=NOW, arrivals=told))

    with running(database_url) as (run, engine):
        run(fill(engine))
    return exporter(database_url)


def has_power(letter: str) -> bool:
    """Whether *letter* ends a line, controls a terminal or turns the direction of text."""
    turns = "\u202a" <= letter <= "\u202e" or "\u2066" <= letter <= "\u2069"
    return turns or (category(letter) in {"Cc", "Zl", "Zp"} and letter not in "\n\t")


def rows(url: str, more: str = "") -> list[dict[str, Any]]:
    """The messages of the view as JSON, by flow and id."""
    query = f'SELECT row_to_json(m) FROM archive.messages m {more} ORDER BY flow COLLATE "C", id'
    with psycopg.connect(url, options="-c timezone=UTC") as db:
        found = [dict(row) for (row,) in db.execute(query.encode())]
    for row in found:
        for name in row.keys() - set(COLUMNS):
            row.pop(name)
    return found


def moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


def content(folder: Path) -> dict[str, bytes]:
    return {
        one.relative_to(folder).as_posix(): one.read_bytes()
        for one in folder.rglob("*")
        if one.is_file()
    }


def lines(folder: Path) -> list[dict[str, Any]]:
    """All rows of an export in JSON lines, by flow and id."""
    # Not splitlines(), which also splits at U+2028.
    texts = [line for one in folder.rglob("*.jsonl") for line in one.read_bytes().split(b"\n")]
    found = [json.loads(line) for line in texts if line]
    return sorted(found, key=lambda row: (row["flow"], row["id"]))
