"""The command line as people use it: a process, its output and its exit status."""

import json
import os
import pty
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from archiver.simulator.server import Simulator
from tests.cli.forks import Starter

Run = Callable[..., subprocess.CompletedProcess[str]]
OnTerminal = Callable[[Sequence[str], Mapping[str, str]], str]
JsonShown = Callable[..., Any]

HOSTILE = "acme/named\x9b31m\u202e"

IMPORTED = """
    WITH flow AS (
        INSERT INTO store.flows (flow_id, path, first_seen_at) VALUES ('old', 'old/main', now())
        RETURNING flow_key
    )
    INSERT INTO store.journal (flow_key, id, form, digest, witness, event, received_at, as_of,
                               payload)
    SELECT flow_key, 7, 0, gen_random_uuid(), 'import', 'message', now(), 7, '{}' FROM flow
"""
"""The flow old/main, known from one imported event; nobody has asked for its newest id."""


def leading_to(flowdock: Simulator, database_url: str) -> dict[str, str]:
    """Settings that point a command at *flowdock*, without a token, and at the database."""
    return {
        "ARCHIVER_API_URL": flowdock.api_url,
        "ARCHIVER_STREAM_URL": flowdock.stream_url,
        "ARCHIVER_DATABASE_URL": database_url,
    }


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment without the archiver's settings, and with a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ARCHIVER_")}
    dropped = {"STATE_DIRECTORY", "XDG_STATE_HOME", "NO_COLOR", "COLUMNS"}
    return {**{name: kept[name] for name in kept.keys() - dropped}, "HOME": str(tmp_path)}


@pytest.fixture
def hasty(starter: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make commands read the ledger often, and list without waiting for the streams first."""
    places = ("archiver.daemon", "archiver.ingest.source", "archiver.cli.verify")
    shorter: dict[str, object] = {f"{place}.STREAM_FIRST_SECONDS": 0.0 for place in places}
    shorter["archiver.ingest.backfill.PLAN_SECONDS"] = 0.2
    monkeypatch.setattr(starter, "constants", shorter)


@pytest.fixture
def archiver(starter: Starter, environ: dict[str, str]) -> Run:
    """A function that runs the command line with arguments, and with settings as keywords."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        ended = starter.run(arguments, environ | settings)
        told = (ended.stdout.decode(), ended.stderr.decode())
        return subprocess.CompletedProcess(ended.args, ended.returncode, *told)

    return run


@pytest.fixture
def on_terminal(starter: Starter) -> OnTerminal:
    """A function that returns what a command shows on its own terminal; it must succeed."""

    def run(arguments: Sequence[str], environ: Mapping[str, str]) -> str:
        ours, its = pty.openpty()
        with starter.start(arguments, {**environ, "TERM": "xterm"}, its, its, its) as started:
            os.close(its)
            shown = b""
            with suppress(OSError):  # Linux: EIO once the other side is closed
                while chunk := os.read(ours, 65536):
                    shown += chunk
            os.close(ours)
            assert started.wait() == 0
        return shown.decode().replace("\r\n", "\n")

    return run


@pytest.fixture
def json_shown(on_terminal: OnTerminal, environ: dict[str, str]) -> JsonShown:
    """A function that returns the JSON that a command shows on a terminal.

    Before that, the path of every flow is made `HOSTILE`.
    """

    def run(url: str, *arguments: str) -> Any:
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("UPDATE store.flows SET path = %s || flow_key", [HOSTILE])
        shown = on_terminal([*arguments, "--json"], environ | {"ARCHIVER_DATABASE_URL": url})
        assert shown.removesuffix("\n").isprintable()
        return json.loads(shown)

    return run
