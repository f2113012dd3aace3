"""An archive for programs that look at exports: ordinary chat, and chat that means harm."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from archiver.domain.model import FlowId, User, UserId
from archiver.embedded import run_server
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.simulator.official import write_exports
from archiver.simulator.seeding import HISTORY_ENDS_AT, settle, write_history
from archiver.simulator.world import World
from archiver.store import directory
from archiver.store.engine import Engine, transaction
from tests.export.conftest import JULY, fill
from tests.ingest.arriving import NOW, frame, running, streamed
from tests.oracle.programs import PROGRAM, ROOT, migrate, surroundings


@contextmanager
def archive(home: Path, *, messages: int) -> Iterator[str]:
    """The URL of an archive with so many messages of ordinary chat, and all that means harm."""
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
        for file in sorted(official.glob("*.zip")):
            flow = f"chat/{file.stem.partition('-')[2]}"
            told = ["--users", str(official / "users.json"), "--flow", flow]
            command = [*PROGRAM, "import", str(file), *told]
            subprocess.run(
                command, env=surroundings(settings), cwd=ROOT, check=True, stdout=subprocess.DEVNULL
            )
        yield url


async def add_namesake(engine: Engine) -> None:
    """Somebody who has the nick of another, and says something."""
    person = User(id=UserId("900"), nick="Bob", name="Robert", email="robert@example.com")
    said = frame(40, content="said by the namesake", user="900", sent=JULY + 40)
    async with transaction(engine) as tx:
        await directory.see_users(tx, [person], now=NOW)
        main = (await directory.flow_keys(tx))[FlowId("f")]
    await apply(engine, Batch(now=NOW, arrivals=[streamed(said, main)]))


@contextmanager
def serving(home: Path, given: str | None) -> Iterator[str]:
    """The URL of a database: an empty one that is *given*, or that of a private server."""
    if given:
        yield given
        return
    with run_server(home / "postgres") as server:
        yield server.url
