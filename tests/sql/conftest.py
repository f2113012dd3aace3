"""Roles of a server that other tests use as well: their names are these tests' own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest

from archiver.cli.main import run

PASSWORD = "no secret"


@dataclass(frozen=True)
class Roles:
    """The names of two roles that are gone after the test, whoever makes them."""

    writer: str
    reader: str

    def of(self, url: str, name: str) -> str:
        """*url*, connected to as the role *name*."""
        scheme, _, rest = url.partition("://")
        place = rest.partition("@")[2]
        return f"{scheme}://{quote(name)}:{quote(PASSWORD)}@{place}"


@pytest.fixture(scope="module")
def roles(postgres_admin: psycopg.Connection) -> Iterator[Roles]:
    mark = uuid4().hex[:12]
    named = Roles(writer=f"Archive writer {mark}", reader=f"archive_reader_{mark}")
    yield named
    for name in (named.writer, named.reader):
        postgres_admin.execute(f'DROP ROLE IF EXISTS "{name}"')


@dataclass(frozen=True)
class Told:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str


Command = Callable[..., Told]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command of the archiver, in this process, on the database of a URL."""

    def ran(*arguments: str, url: str) -> Told:
        monkeypatch.setenv("ARCHIVER_DATABASE_URL", url)
        status = run(arguments)
        told = capsys.readouterr()
        return Told(status, told.out, told.err)

    return ran
