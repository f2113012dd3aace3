"""``archiver config``: the settings in force, and where each comes from."""

import json
import tomllib
from pathlib import Path

import pytest

from archiver.cli.main import run
from tests.cli.conftest import Run

FILE = """
token = "s3cret-marker"
[database]
url = "postgresql://ada:p%40ss-marker@db.example.com/archive"
[stream]
silence_seconds = 30
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "archiver.toml"
    path.write_text(FILE)
    return path


def test_each_setting_is_shown_with_its_source_and_no_secret(
    archiver: Run, file: Path, tmp_path: Path
) -> None:
    told = archiver("config", "--config", str(file), ARCHIVER_LOG_FORMAT="json")
    assert (told.returncode, told.stderr) == (0, "")
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in told.stdout.splitlines()}
    source = str(file)[:50]  # cells are cut where no terminal wraps them
    assert lines["token"].startswith(f'"***" {source}')
    assert lines["database.url"].startswith(
        f'"postgresql://ada:***@db.example.com/archive" {source}'
    )
    assert lines["stream.silence_seconds"].startswith(f"30.0 {source}")
    assert lines["logs.format"] == '"json" ARCHIVER_LOG_FORMAT'
    assert lines["data_dir"].endswith("default")
    assert "marker" not in told.stdout


def test_json_and_what_has_changed(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ARCHIVER_TOKEN", "ARCHIVER_POSTGRES_BIN", "STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert run(["--config", str(file), "config", "--changed", "--json"]) == 0
    told = capsys.readouterr().out
    found = {one["name"]: one for one in json.loads(told)["settings"]}
    assert found.keys() == {"token", "database.url", "stream.silence_seconds"}
    assert found["token"] | {"source": ""} == {
        "name": "token", "environ": "ARCHIVER_TOKEN", "value": "***", "source": ""
    }  # fmt: skip


def test_where_nothing_has_changed_no_table_is_shown(archiver: Run) -> None:
    assert archiver("config", "--changed").stdout == "every setting is at its default\n"


def test_the_example_is_a_file_to_begin_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["config", "--example"]) == 0
    path = tmp_path / "archiver.toml"
    path.write_text(capsys.readouterr().out)
    assert tomllib.loads(path.read_text())
    assert run(["--config", str(path), "config", "--changed"]) == 0
    assert run(["config", "--example", "--json"]) == 2
