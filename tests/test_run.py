"""./run, and the lock it installs from."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import SourceFileLoader
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from typing_extensions import override

from tests.conftest import refuse_archive

ROOT = Path(__file__).parent.parent
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGED = ("archiver", "migrations")


@pytest.fixture(scope="module")
def run() -> ModuleType:
    loader = SourceFileLoader("run", str(ROOT / "run"))
    spec = importlib.util.spec_from_loader("run", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_alone_it_lists_its_commands_each_with_a_line(run: ModuleType) -> None:
    told = subprocess.run([ROOT / "run"], capture_output=True, text=True, check=True).stdout
    known = {"demo", "test", "fuzz", "mutants", "check", "format", "lock", "build"}
    assert known <= set(run.COMMANDS)
    for name in run.COMMANDS:
        assert re.search(rf"^  {name} +\S", told, re.MULTILINE)
    assert list(run.COMMANDS)[:3] == ["check", "test", "demo"]


def test_an_unknown_command_is_refused_before_anything_is_set_up() -> None:
    done = subprocess.run([ROOT / "run", "tset"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "no command 'tset': ./run lists them\n")


def test_a_set_up_that_is_interrupted_ends_with_a_word(tmp_path: Path) -> None:
    for name in ("run", "uv.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    began, uv = tmp_path / "began", tmp_path / "bin" / "uv"
    os.mkfifo(began)
    uv.parent.mkdir()
    uv.write_text(f"#!/bin/sh\necho > {began}\nexec sleep 60\n")
    uv.chmod(0o755)
    environ = os.environ | {"PATH": f"{uv.parent}:{os.environ['PATH']}"}
    with subprocess.Popen(
        [tmp_path / "run", "demo"],
        env=environ,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        began.read_text()
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate()
    assert (process.returncode, told) == (130, "setting up .venv with uv …\nstopped\n")


def test_where_this_machine_alone_knows_who_signs_uv_is_told_to_believe_it(tmp_path: Path) -> None:
    for name in ("run", "uv.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    uv, program = tmp_path / "bin" / "uv", tmp_path / ".venv" / "bin" / "archiver"
    for path in (uv, program):
        path.parent.mkdir(parents=True)
    uv.write_text(
        f"#!/bin/sh\ncase $* in *--system-certs) exec mv {program}.new {program} ;; esac\n"
        "echo 'invalid peer certificate: UnknownIssuer'\nexit 1\n"
    )
    Path(f"{program}.new").write_text("#!/bin/sh\necho shown\n")
    for path in (uv, Path(f"{program}.new")):
        path.chmod(0o755)
    environ = os.environ | {"PATH": f"{uv.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        [tmp_path / "run", "demo"], env=environ, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "shown\n")
    assert "pip" not in done.stderr


def test_a_set_up_is_repeated_when_the_lock_or_the_project_changes(
    run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOCK", "PROJECT", "STAMP"):
        monkeypatch.setattr(run, name, tmp_path / name)
    run.LOCK.write_text("lock")
    run.PROJECT.write_text("project")
    assert not run.is_current()
    run.STAMP.write_text(run.stamp())
    assert run.is_current()
    run.LOCK.write_text("another lock")
    assert not run.is_current()


def test_a_check_counts_what_failed_and_what_was_skipped(run: ModuleType, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    assert run.counted(report) == (0, 0)
    report.write_text(
        '<testsuites><testsuite tests="9" failures="1" errors="2" skipped="3"/></testsuites>'
    )
    assert run.counted(report) == (3, 6)


class Advisories(BaseHTTPRequestHandler):
    """A fake of OSV, the service that knows vulnerabilities of packages, as far as it is asked."""

    vulnerable = ""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        names = [query["package"]["name"] for query in asked]
        assert {"aiohttp", "psycopg", "pytest"} <= set(names)
        found = [{"id": "GHSA-1", "modified": "2026-01-01T00:00:00Z"}]
        told = [{"vulns": found} if name == self.vulnerable else {} for name in names]
        self._answer({"results": told})

    def do_GET(self) -> None:
        about = {"id": "GHSA-1", "modified": "2026-01-01T00:00:00Z", "affected": []}
        self._answer(about | {"summary": "everything is lost"})

    def _answer(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def advisories(*, vulnerable: str = "") -> Iterator[str]:
    """The URL of a service that knows one package to be vulnerable."""
    handler = type("Handler", (Advisories,), {"vulnerable": vulnerable})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_an_audit_tells_what_is_vulnerable_and_when_nobody_answered(
    run: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UV_DEFAULT_INDEX", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # no index is asked for yanked ones
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with advisories(vulnerable="jinja2") as url:
        assert run.tell_audit("--service-url", url) == 1
    told = capsys.readouterr().out
    assert "FAILED" in told
    assert "jinja2" in told
    assert "everything is lost" in told

    with advisories() as url:
        assert run.tell_audit("--service-url", url) == 0
    assert re.match(r"audit +ok", capsys.readouterr().out)

    assert run.tell_audit("--service-url", "http://127.0.0.1:1/") == run.NOT_ANSWERED
    told = capsys.readouterr().out
    assert "NOT DONE" in told
    assert "nobody could be asked" in told

    assert run.tell_audit("--no-such-option") not in {0, run.NOT_ANSWERED}


def test_pip_is_held_to_every_version_of_the_lock(run: ModuleType) -> None:
    pins = [Requirement(line) for line in run.locked()]
    assert {(pin.name, str(pin.specifier)) for pin in pins} == {
        (package["name"], f"=={package['version']}")
        for package in LOCK["package"]
        if package["name"] != PROJECT["name"]
    }


def test_the_lock_names_only_the_public_hosts() -> None:
    text = (ROOT / "uv.lock").read_text()
    hosts = set(re.findall(r'"(?:https?|file)://([^/"]*)', text))
    assert hosts == {"pypi.org", "files.pythonhosted.org"}
    places = {key for package in LOCK["package"] for key in package["source"]}
    assert places == {"registry", "editable"}


def test_every_file_of_the_lock_has_a_digest() -> None:
    for package in LOCK["package"]:
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        assert files or package["name"] == PROJECT["name"]
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", file["hash"]) for file in files)


def test_what_the_package_imports_it_asks_for() -> None:
    extras = ("embedded", "parquet")
    texts = [text for extra in extras for text in PROJECT["optional-dependencies"][extra]]
    asked = {Requirement(text).name for text in (*PROJECT["dependencies"], *texts)}
    sources = [path for place in PACKAGED for path in (ROOT / place).rglob("*.py")]
    imports = re.compile(r"^ *(?:from|import) (\w+)[\w.]* *(?:import|as|$)", re.MULTILINE)
    found = {name for source in sources for name in imports.findall(source.read_text())}
    foreign = found - sys.stdlib_module_names - {"archiver"}
    known = packages_distributions()
    assert foreign >= {"aiohttp", "psycopg", "pyarrow"}
    assert {canonicalize_name(known[name][0]) for name in foreign} <= asked


def test_the_lock_is_of_this_project() -> None:
    (own,) = (package for package in LOCK["package"] if package["name"] == PROJECT["name"])
    extras = PROJECT["optional-dependencies"]
    texts = [*PROJECT["dependencies"], *(text for extra in extras.values() for text in extra)]
    asked = {(asking.name, asking.specifier) for asking in map(Requirement, texts)}
    assert asked == {
        (entry["name"], SpecifierSet(entry.get("specifier", "")))
        for entry in own["metadata"]["requires-dist"]
    }
    assert own["metadata"]["provides-extras"] == list(extras)
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert {
        group: {(asking.name, asking.specifier) for asking in map(Requirement, texts)}
        for group, texts in groups.items()
    } == {
        group: {(entry["name"], SpecifierSet(entry["specifier"])) for entry in entries}
        for group, entries in own["metadata"]["requires-dev"].items()
    }
    assert LOCK["requires-python"] == PROJECT["requires-python"]


def test_the_tests_are_those_of_a_foreground_in_the_background_as_well() -> None:
    asked = "import signal, tests.conftest; print(signal.getsignal(signal.SIGINT).__name__)"
    told = subprocess.run(
        [sys.executable, "-c", asked],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "default_int_handler\n"


def test_no_test_touches_the_server_of_an_archive_that_the_daemon_is_set_to(
    database_url: str, bare_database_url: str
) -> None:
    refuse_archive(bare_database_url)
    with pytest.raises(pytest.fail.Exception, match="leads to an archive"):
        refuse_archive(database_url)
