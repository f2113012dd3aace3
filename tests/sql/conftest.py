"""Roles on a server that other tests use as well, under names that only these tests use."""

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
    """The names of two roles, which are dropped after the test, whoever created them."""

    writer: str
    reader: str

    def of(self, url: str, name: str) -> str:
        """*url* with the name and the password of the role *name*."""
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
    """A function that runs a command in this process, on the database of a URL."""

    def ran(*arguments: str, url: str) -> Told:
        monkeypatch.setenv("ARCHIVER_DATABASE_URL", url)
        status = run(arguments)
        told = capsys.readouterr()
        return Told(status, told.out, told.err)

    return ran
