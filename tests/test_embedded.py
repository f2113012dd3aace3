"""The private server: every test runs a real one."""

import asyncio
import math
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from archiver import embedded
from archiver.embedded import LOG_BYTES, Server, run_server
from archiver.embedded.binaries import SYSTEM, choose_binaries
from archiver.embedded.home import require_usable
from archiver.errors import ArchiverError
from archiver.ingest.apply import when_possible
from archiver.store.connection import Engine, Transaction, driver_of
from archiver.store.engine import connect, transaction
from archiver.store.sessions import check_history

RUN = """
import pathlib, sys
from archiver.embedded import run_server
with run_server(pathlib.Path(sys.argv[1])) as server:
    print(server.pid, server.url, flush=True)
    sys.stdin.read()
"""
ROOT = os.geteuid() == 0
INSTALLED = [None, *SYSTEM.glob("*/bin")]


@pytest.fixture(scope="module")
def cluster(swift_module_path: Path) -> Path:
    """A home directory whose server has run and stopped; tests copy it."""
    with run_server(swift_module_path) as server:
        ask(server, "CREATE TABLE said (what text)")
    return swift_module_path


@pytest.fixture
def home(cluster: Path, swift_path: Path) -> Path:
    return Path(shutil.copytree(cluster, swift_path / "home"))


@pytest.fixture
def other_process() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start processes that run a server until their input ends, and end them after the test."""
    started = []

    def start(home: Path, *prefix: str, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-c", RUN, home],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environ},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.communicate()


def said_by(process: subprocess.Popen[str]) -> tuple[int, str]:
    assert process.stdout is not None
    pid, url = process.stdout.readline().split()
    return int(pid), url


def ask(server: Server, statement: str) -> tuple[object, ...] | None:
    with psycopg.connect(server.url) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone() if cursor.description else None


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    # An orphan stays a zombie until pid 1 reaps it.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def tools(directory: Path, *names: str) -> str:
    """Make a directory for PATH with these programs only."""
    directory.mkdir()
    for name in names:
        (directory / name).symlink_to(str(shutil.which(name)))
    return str(directory)


@pytest.mark.parametrize("locale", ["C", "fr_FR.UTF-8"])
@pytest.mark.parametrize("binaries", INSTALLED, ids=str)
def test_letters_are_known_beyond_ascii_whatever_the_locale_here(
    swift_path: Path, monkeypatch: pytest.MonkeyPatch, binaries: Path | None, locale: str
) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    with run_server(swift_path, binaries=binaries) as server:
        ask(server, "CREATE EXTENSION pg_trgm")
        assert ask(server, "SELECT lower('ÀÉ'), upper('привет')") == ("àé", "ПРИВЕТ")
        assert ask(server, "SELECT cardinality(show_trgm('Привет')) > 3") == (True,)
        assert ask(server, "SELECT current_setting('server_encoding')") == ("UTF8",)
        assert ask(server, "SELECT current_setting('data_checksums')") == ("on",)


@pytest.mark.parametrize("name", ["two words, a comma, 100% 'quoted'", "длинный" * 12, "x" * 200])
def test_any_path_will_do(cluster: Path, swift_path: Path, name: str) -> None:
    home = Path(shutil.copytree(cluster, swift_path / name))
    with run_server(home) as server:
        assert ask(server, "SELECT 1") == (1,)
        assert mode(server.socket_dir) == 0o700
    assert server.socket_dir.is_relative_to(home) or not server.socket_dir.exists()


def test_only_its_owner_reaches_it_and_nothing_around_it_changes(
    swift_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHIVER_TOKEN", "secret")
    swift_path.chmod(0o700)
    home = swift_path / "new" / "home"
    with run_server(home) as server:
        assert {mode(home), mode(server.socket_dir), mode(home / "data")} == {0o700}
        assert mode(home / "postgres.log") == 0o600
        assert ask(server, "SELECT current_setting('listen_addresses')") == ("",)
        environ = Path(f"/proc/{server.pid}/environ").read_bytes()
        assert b"PATH=" in environ
        assert b"secret" not in environ
    assert mode(swift_path) == 0o700


def test_no_server_is_kept_or_asked_where_another_user_waits_for_it(
    swift_path: Path, give_away: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner of the directory could hold its lock, and run a server of their own there."""
    home = swift_path / "home"
    home.mkdir(0o777)
    give_away(home)
    if os.geteuid() == 0:  # root runs the server as whoever owns the directory
        monkeypatch.setattr(os, "geteuid", lambda: 1)
    with pytest.raises(ArchiverError, match="belongs to another user"):
        require_usable(home)
    with pytest.raises(ArchiverError, match="belongs to another user"), run_server(home):
        pass
    assert list(home.iterdir()) == []


def test_what_the_environment_says_of_other_servers_does_not_count(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "PGSERVICE": "elsewhere",
        "PGTARGETSESSIONATTRS": "standby",
        "PGGSSENCMODE": "require",
        "PGOPTIONS": "-c default_transaction_read_only=on",
        "PGTZ": "nowhere",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with run_server(home) as server, psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE written ()")
    assert {name: os.environ[name] for name in given} == given


def test_it_stops_with_the_block_and_keeps_what_it_holds(home: Path) -> None:
    with run_server(home) as server:
        ask(server, "INSERT INTO said VALUES ('kept')")
    assert not server.answers()
    assert is_gone(server.pid)
    with run_server(home) as server:
        assert ask(server, "SELECT what FROM said") == ("kept",)


def test_a_second_process_shares_the_server_and_leaves_it_running(
    home: Path, other_process: Callable[..., subprocess.Popen[str]]
) -> None:
    with run_server(home) as server:
        guest = other_process(home)
        assert said_by(guest) == (server.pid, server.url)
        guest.communicate()
        assert guest.returncode == 0
        assert server.answers()


def test_a_killed_process_leaves_no_server(
    home: Path, other_process: Callable[..., subprocess.Popen[str]]
) -> None:
    parent = other_process(home)
    pid, _ = said_by(parent)
    parent.kill()
    wait_until(lambda: is_gone(pid))
    assert "received fast shutdown request" in (home / "postgres.log").read_text()


def test_a_server_left_behind_is_ended_first(
    home: Path, swift_path: Path, other_process: Callable[..., subprocess.Popen[str]]
) -> None:
    # Without setpriv there is no death signal.
    parent = other_process(home, PATH=tools(swift_path / "bin", "unshare", "true"))
    left, _ = said_by(parent)
    parent.kill()
    parent.wait()
    assert not is_gone(left)
    with run_server(home) as server:
        assert server.pid != left
        assert is_gone(left)


def test_a_program_left_in_the_data_directory_is_left_alone(home: Path) -> None:
    with subprocess.Popen(["sleep", "60"], cwd=home / "data") as program:
        with run_server(home) as server:
            assert server.answers()
        assert program.poll() is None
        program.kill()


def test_what_was_committed_survives_a_killed_postgres(home: Path) -> None:
    with run_server(home) as server:
        ask(server, "INSERT INTO said VALUES ('committed')")
        os.kill(server.pid, signal.SIGKILL)
    with run_server(home) as server:
        assert ask(server, "SELECT what FROM said") == ("committed",)
    assert "was interrupted" in (home / "postgres.log").read_text()


def test_a_postgres_that_crashed_in_the_midst_of_writing_is_not_taken_for_an_earlier_one(
    home: Path,
) -> None:
    """What it had in memory is gone, but nothing that was committed."""

    async def go_on_after_the_crash() -> None:
        async with connect(server.url) as engine:
            with pytest.raises(OperationalError):
                await crash_while_writing(engine)
            assert await when_possible(engine, count_said) == 0

    with run_server(home) as server:
        asyncio.run(go_on_after_the_crash())


async def count_said(tx: Transaction) -> int:
    return int((await tx.execute(text("SELECT count(*) FROM public.said"))).scalar_one())


async def crash_while_writing(engine: Engine) -> None:
    """Kill the process of a session that has written, and that has seen how far the server came."""
    history = engine.get_execution_options()["history"]
    async with transaction(engine) as tx:
        await tx.execute(text("INSERT INTO public.said SELECT generate_series(1, 9999)"))
        history.looked_at = -math.inf
        await check_history(tx, history)
        os.kill(driver_of(tx).info.backend_pid, signal.SIGKILL)
        await tx.execute(text("SELECT 1"))


@pytest.mark.parametrize("content", ["", "12", "{pid}\n/elsewhere\n1\n5432\n/tmp\n\n1 1\n"])
def test_a_stale_pid_file_does_not_stop_it(home: Path, content: str) -> None:
    (home / "data/postmaster.pid").write_text(content.format(pid=os.getpid()))
    with run_server(home) as server:
        assert server.answers()


def test_a_server_that_names_no_socket_yet_is_waited_for(home: Path) -> None:
    """The file with its pid has an empty line for the socket until the server has made it."""
    file = home / "data/postmaster.pid"
    with run_server(home) as server:
        complete = file.read_text()
        file.write_text(complete.replace(str(server.socket_dir), "", 1))
        later = threading.Timer(0.3, file.write_text, [complete])
        later.start()
        with run_server(home) as shared:
            assert (shared.pid, shared.is_shared) == (server.pid, True)
        later.join()


@pytest.mark.parametrize("content", ["", "{pid}\n{home}/data\n1\n5432\n{home}/run\n\n"])
def test_a_stale_lock_of_the_socket_does_not_stop_it(home: Path, content: str) -> None:
    """Its process was killed, and another process has its id now."""
    with subprocess.Popen(["sleep", "60"]) as other:
        (home / "run/.s.PGSQL.5432.lock").write_text(content.format(pid=other.pid, home=home))
        with run_server(home) as server:
            assert server.socket_dir == home / "run"
            assert server.answers()
        assert other.poll() is None
        other.kill()


def test_half_a_cluster_is_made_anew(swift_path: Path) -> None:
    (swift_path / "data.new").mkdir()
    (swift_path / "data.new" / "PG_VERSION").write_text("18")
    with run_server(swift_path) as server:
        assert server.answers()


def test_a_server_that_will_not_start_tells_why(home: Path) -> None:
    with (
        pytest.raises(ArchiverError) as raised,
        run_server(home, settings={"shared_buffers": "much"}),
    ):
        pass
    assert str(raised.value) == (
        'PostgreSQL did not start: invalid value for parameter "shared_buffers": "much"; '
        f"see its log, {home}/postgres.log"
    )


def test_what_an_earlier_server_said_is_not_told_as_the_reason(home: Path, tmp_path: Path) -> None:
    with (home / "postgres.log").open("a") as earlier:
        earlier.write("FATAL:  could not write: No space left on device\n")
    binaries, _ = choose_binaries(home)
    library = "error while loading shared libraries: libicu.so: cannot open shared object file"
    (tmp_path / "initdb").symlink_to(binaries / "initdb")
    (tmp_path / "postgres").write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec {binaries}/postgres "$1"\n'
        f'echo "postgres: {library}" >&2\nexit 127\n'
    )
    (tmp_path / "postgres").chmod(0o755)
    with pytest.raises(ArchiverError) as raised, run_server(home, binaries=tmp_path):
        pass
    assert str(raised.value) == (
        f"PostgreSQL did not start: postgres: {library}; see its log, {home}/postgres.log"
    )


def test_a_disk_without_room_for_a_cluster_is_told_in_a_line(swift_path: Path) -> None:
    # The output of initdb 18 on a disk of 20 MB.
    initdb = """#!/bin/sh
        [ "$1" = --version ] && exit
        echo 'The files belonging to this database system will be owned by user "daemon".'
        echo 'creating subdirectories ... ok'
        printf 'running bootstrap script ... ' >&2
        echo '2026-01-01 12:00:00.000 UTC [7] FATAL:  could not extend file "base/1/2691": No space left on device' >&2
        echo '2026-01-01 12:00:00.000 UTC [7] HINT:  Check free disk space.' >&2
        echo 'child process exited with exit code 1' >&2
        exit 1
    """  # noqa: E501
    binaries = swift_path / "bin"
    binaries.mkdir()
    for name, script in (("initdb", initdb), ("postgres", "#!/bin/sh\necho postgres 18.0\n")):
        (binaries / name).write_text(script)
        (binaries / name).chmod(0o755)
    home = swift_path / "home"
    with pytest.raises(ArchiverError) as raised, run_server(home, binaries=binaries):
        pass
    assert str(raised.value) == (
        f'cannot create a database in {home}: could not extend file "base/1/2691": '
        "No space left on device; free some space there"
    )


def test_a_cluster_of_another_version_is_refused(home: Path) -> None:
    (home / "data/PG_VERSION").write_text("12\n")
    with pytest.raises(ArchiverError, match=r"needs PostgreSQL 12.*ARCHIVER_POSTGRES_BIN"):
        choose_binaries(home)


def test_binaries_that_are_not_there_are_named_with_their_setting(swift_path: Path) -> None:
    with pytest.raises(ArchiverError, match=r"/nowhere: set ARCHIVER_POSTGRES_BIN"):
        choose_binaries(swift_path, Path("/nowhere"))


def test_a_directory_that_cannot_be_made_is_named() -> None:
    with (
        pytest.raises(ArchiverError, match=r"/dev/null/home: Not a directory"),
        run_server(Path("/dev/null/home")),
    ):
        pass


def test_a_thread_may_not_start_it(home: Path) -> None:
    raised = []

    def start() -> None:
        try:
            with run_server(home):
                pass
        except RuntimeError as exc:
            raised.append(exc)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert len(raised) == 1


def test_a_big_log_is_set_aside(home: Path) -> None:
    (home / "postgres.log").write_bytes(b"x" * (LOG_BYTES + 1))
    with run_server(home):
        assert (home / "postgres.log").stat().st_size < LOG_BYTES
    assert (home / "postgres.log.1").stat().st_size == LOG_BYTES + 1


def test_a_log_that_grows_big_while_the_server_runs_is_set_aside(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an outage of days, in which all that a daemon writes is refused and logged."""
    monkeypatch.setattr(embedded, "LOG_BYTES", 5000)
    monkeypatch.setattr(embedded, "LOG_SECONDS", 0.05)
    log, before = home / "postgres.log", home / "postgres.log.1"
    with (
        run_server(home) as server,
        psycopg.connect(server.url_of("postgres"), autocommit=True) as connection,
    ):
        for number in range(60):
            refuse(connection, f"refused {number} " + 100 * "x")
        wait_until(lambda: before.exists() and log.stat().st_size < 5000)
        assert stat.S_IMODE(before.stat().st_mode) == 0o600
        assert "refused" in before.read_text()
        refuse(connection, "the last")
        assert "the last" in before.read_text() + log.read_text()
        assert not log.read_bytes().startswith(b"\0")


def refuse(connection: psycopg.Connection, what: str) -> None:
    """Have the server refuse a query, and log *what*."""
    with pytest.raises(psycopg.errors.SyntaxError):
        connection.execute(f"REFUSE {what}".encode())


def test_an_ordinary_user_runs_it(
    home: Path, other_process: Callable[..., subprocess.Popen[str]]
) -> None:
    as_user = ["unshare", "--user", "--map-user=1", "--map-group=1"] if ROOT else []
    process = other_process(home, *as_user)
    pid, _ = said_by(process)
    process.communicate()
    assert process.returncode == 0
    assert is_gone(pid)


if ROOT:

    def test_root_without_user_namespaces_runs_it_as_nobody(
        reachable: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        binaries = copy_of_binaries(reachable)
        monkeypatch.setenv("PATH", tools(reachable / "path", "setpriv", "test", "true"))
        home = reachable / "home"
        with run_server(home, binaries=binaries) as server:
            assert ask(server, "SELECT 1") == (1,)
            assert Path(f"/proc/{server.pid}").owner() == "nobody"
            assert {mode(home), mode(server.socket_dir), mode(home / "data")} == {0o700}
            assert mode(reachable) == 0o711
        with run_server(home, binaries=binaries) as server:
            assert server.answers()

    def test_root_is_told_when_it_can_be_nobody_else(
        home: Path, monkeypatch: pytest.MonkeyPatch, swift_path: Path
    ) -> None:
        monkeypatch.setenv("PATH", str(swift_path))
        with (
            pytest.raises(ArchiverError, match="does not run as root"),
            run_server(home),
        ):
            pass


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory that every user may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="archiver-tests-") as place:
        Path(place).chmod(0o711)
        yield Path(place)


def copy_of_binaries(place: Path) -> Path:
    """Copy the binaries and the libraries beside them to *place*, where every user may run them."""
    binaries, _ = choose_binaries(place)
    package = binaries.parent.parent
    shutil.copytree(binaries.parent, place / package.name / binaries.parent.name)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, place / libraries.name)
    return place / package.name / binaries.parent.name / binaries.name
