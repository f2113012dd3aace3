"""An archive for programs that inspect exports: ordinary chat, and hostile chat."""

import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from zlib import compress, crc32

from archiver.domain.model import FlowId, User, UserId
from archiver.embedded import run_server
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.simulator.official import write_exports
from archiver.simulator.seeding import HISTORY_ENDS_AT, settle, write_history
from archiver.simulator.world import World
from archiver.store import directory, files
from archiver.store.connection import Engine
from archiver.store.engine import transaction
from tests.export.conftest import JULY, fill
from tests.ingest.arriving import NOW, frame, running, streamed
from tests.oracle.programs import PROGRAM, ROOT, migrate, surroundings

FILES_SENT = JULY + 86_400_000 * 10


@contextmanager
def archive(home: Path, *, messages: int) -> Iterator[str]:
    """The URL of an archive with so many ordinary messages, and with all the hostile ones."""
    world = World(seed=5, clock=lambda: HISTORY_ENDS_AT)
    settle(world, flows=3, users=12, token=None)
    write_history(world, seed=5, messages=messages)
    official = home / "official"
    official.mkdir()
    write_exports(world, official)
    with serving(home, os.environ.get("ARCHIVER_TEST_DATABASE_URL")) as url:
        settings = {"ARCHIVER_DATABASE_URL": url}
        migrate(home, settings)
        with running(url) as (run, engine):
            run(fill(engine))
            run(add_namesake(engine))
            run(add_files(engine))
        for file in sorted(official.glob("*.zip")):
            flow = f"chat/{file.stem.partition('-')[2]}"
            told = ["--users", str(official / "users.json"), "--flow", flow]
            command = [*PROGRAM, "import", str(file), *told]
            subprocess.run(
                command, env=surroundings(settings), cwd=ROOT, check=True, stdout=subprocess.DEVNULL
            )
        yield url


async def add_namesake(engine: Engine) -> None:
    """Add a person who has the nick of another, and a message by that person."""
    person = User(id=UserId("900"), nick="Bob", name="Robert", email="robert@example.com")
    said = frame(40, content="said by the namesake", user="900", sent=JULY + 40)
    async with transaction(engine) as tx:
        await directory.see_users(tx, [person], now=NOW)
        main = (await directory.flow_keys(tx))[FlowId("f")]
    await apply(engine, Batch(now=NOW, arrivals=[streamed(said, main)]))


async def add_files(engine: Engine) -> None:
    """Add messages of one day with files that the archive keeps: a picture, and hostile files."""
    async with transaction(engine) as tx:
        main = (await directory.flow_keys(tx))[FlowId("f")]
    frames, held = [], {}
    for number, (name, (type_, content)) in enumerate(FILES.items(), start=41):
        path = f"/files/{number}"
        held[path] = content
        told = {"file_name": name, "content_type": type_, "file_size": len(content), "path": path}
        sent = FILES_SENT + number
        frames.append(frame(number, event="file", content=told, attachments=[told], sent=sent))
    await apply(engine, Batch(now=NOW, arrivals=[streamed(one, main) for one in frames]))
    async with transaction(engine) as tx:
        for one in await files.due(tx, [main], most=1000):
            if one.path in held:
                digest = sha256(held[one.path]).hexdigest()
                await files.keep(tx, one, BytesIO(held[one.path]), sha256=digest)


def picture(side: int = 64) -> bytes:
    """A PNG of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = (b"\0" + b"\x2a\x6f\xbf" * side) * side
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


ACT = b"<script>alert('a file acts'); new Image().src = 'https://elsewhere.example/'</script>"
DRAWING = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)">' + ACT + b"</svg>"
FILES = {
    "chart.png": ("image/png", picture()),
    "steal.html": ("text/html", b"<html>" + ACT),
    "steal.xhtml": ("application/octet-stream", b'<html xmlns="http://www.w3.org/1999/xhtml"/>'),
    "drawing.svg": ("image/svg+xml", DRAWING),
    "page.png": ("image/png", b"<html>no picture" + ACT),
    "../../../climb \u202egnp.html": ("image/png", b"<html>" + ACT),
}
"""By name: the type that they are said to have, and their contents."""


@contextmanager
def serving(home: Path, given: str | None) -> Iterator[str]:
    """The URL of an empty database: the one that is *given*, or one of a private server."""
    if given:
        yield given
        return
    with run_server(home / "postgres") as server:
        yield server.url
