"""The frame of all commands: help, settings, exit statuses, and reports of what goes wrong."""

import asyncio
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import psycopg
import pytest
from sqlalchemy import make_url, text

from archiver.cli import main
from archiver.cli.database import Place, connect, open_for_changes
from archiver.errors import ArchiverError
from archiver.store import holdups
from archiver.store.engine import transaction
from tests.cli.conftest import Run

MARKER = "s3cret-marker"
TABLE = [(name, *entry) for group in main.COMMANDS.values() for name, entry in group.items()]


def test_help_names_every_command_at_once_and_imports_none(archiver: Run) -> None:
    told = archiver("--help")
    assert told.returncode == 0
    assert all(f"  {name} " in told.stdout and line in told.stdout for name, _, line in TABLE)
    ask = "import sys, archiver.cli.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    heavy = {"sqlalchemy", "aiohttp", "rich", "alembic", "psycopg", *(one[1] for one in TABLE)}
    assert not heavy & set(loaded.stdout.split())


@pytest.mark.parametrize("name", ["status", "sql", "gaps"])
def test_a_command_imports_nothing_for_what_it_does_not_do(name: str) -> None:
    ask = f"import sys, archiver.cli.{name}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    heavy = {"aiohttp", "alembic", "duckdb", "prometheus_client", "pyarrow"}
    assert not heavy & set(loaded.stdout.split())


@pytest.mark.parametrize(("name", "module", "line"), TABLE)
def test_every_command_of_the_table_is_there(name: str, module: str, line: str) -> None:
    command = main.cli.get_command(click.Context(main.cli), name)
    assert isinstance(command, click.Command)
    assert command.callback is not None
    assert command.callback.__module__ == module
    assert line.endswith(".")


@pytest.mark.parametrize("name", [name for name, _, _ in TABLE])
def test_every_command_tells_how_to_use_it(archiver: Run, name: str) -> None:
    told = archiver(name, "--help")
    assert (told.returncode, told.stderr) == (0, "")
    assert f"Usage: archiver {name}" in told.stdout
    assert not any(bound in told.stdout for bound in ("None", str(2**63 - 1)))


def test_a_shell_completes_as_the_readme_says(environ: dict[str, str]) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (told,) = re.findall(r"`(eval [^`]*)`", readme)
    ask = (
        f"{told}\n"
        "complete -p archiver\n"
        'ask() { COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=();'
        ' _archiver_completion archiver; echo "${COMPREPLY[@]}"; }\n'
        "ask archiver ex\nask archiver export --form\nask archiver export --format pa\n"
    )
    path = f"{Path(sys.executable).parent}:{environ['PATH']}"
    asked = ["bash", "--norc", "-c", ask]
    ended = subprocess.run(
        asked, env={**environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[1:] == ["export explain", "--format", "parquet"]


def test_the_version_is_told(archiver: Run) -> None:
    assert archiver("--version").stdout.startswith("archiver 0.")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["statsu"], "Did you mean 'status'?"),
        (["zzz"], "No such command 'zzz' (see archiver --help)"),
        (["status", "--nope"], "No such option '--nope' (see archiver status --help)"),
        (["search", "-word"], "(put what is not an option after --, see archiver search --help)"),
        (["--config"], "requires an argument"),
        (["verify", "--since", "2999-01-01"], "'2999-01-01' is in the future"),
        (["export", "x", "--since=1d", "--until=2d"], "--since must be before --until"),
        (
            ["export", "x", "--since=0001-01-01T00:00+14:00"],
            "+14:00' is neither a time such as 30d",
        ),
        (["export", ""], "'DIR': the name is empty"),
        (["import", "x", ""], "'PATH...': the name is empty"),
        (["import", "x", "--users", ""], "'--users': the name is empty"),
        (["simulate", "--export", ""], "'--export': the name is empty"),
        (["--config", "", "status"], "'--config': the name is empty"),
        (["import", "x" * 300], "cannot read xxx"),
        (["sql", "\udcff"], "'QUERY': '\\udcff' is not UTF-8"),
        (["import", "x", "--flow", "acme/\udcff"], "'--flow': 'acme/\\udcff' is not UTF-8"),
        (["migrate", "--roles", "--writer", "\udcff"], "'--writer': '\\udcff' is not UTF-8"),
        (["simulate", "--host", "\udcff"], "'--host': '\\udcff' is not UTF-8"),
        (["rejects", "show", "\udcff"], "'ID': '\\udcff' is not a whole number"),
    ],
)
def test_wrong_usage_ends_with_2(archiver: Run, arguments: list[str], told: str) -> None:
    ended = archiver(*arguments)
    assert ended.returncode == 2
    assert told in ended.stderr
    assert ended.stderr.startswith("archiver: error: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["export", "--check", "x", "lunch"], "QUERY"),
        (["export", "--check", "x", "--format", "jsonl", "--events"], "--format and --events"),
        (["export", "--check", "x", "--flow", "a/*", "--since=1d", "--until=1d", "--as-of=1d"],
         "--flow and --since and --until and --as-of"),
        (["export", "x", "--events", "--format", "html"], "--format"),
        (["export", "x", "--events", "lunch", "--as-of", "1d"], "QUERY and --as-of"),
        (["status", "--watch", "--exact"], "--exact"),
        (["status", "--every", "2"], "--every"),
        (["migrate", "--reader", "x"], "--reader"),
        (["rejects", "--json", "--limit", "3", "show", "1"], "--json and --limit"),
        (["simulate", "--export", "x", "--port", "8700"], "--port"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_named_and_not_passed_over(
    archiver: Run, tmp_path: Path, arguments: list[str], named: str
) -> None:
    ended = archiver(*arguments, ARCHIVER_DATA_DIR=str(tmp_path / "none"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f": {named} cannot go with it (see archiver {arguments[0]} --help)\n" in ended.stderr


def test_without_arguments_the_help_is_shown(archiver: Run) -> None:
    ended = archiver()
    assert ended.returncode == 2
    assert ended.stderr.startswith("Usage: archiver ")
    assert "\n  status " in ended.stderr


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"ARCHIVER_TOKENS": "x"},
            "ARCHIVER_TOKENS is not a setting; did you mean ARCHIVER_TOKEN?",
        ),
        ({"ARCHIVER_INGEST_BATCH_EVENTS": "many"}, "ARCHIVER_INGEST_BATCH_EVENTS cannot be 'many'"),
        ({"ARCHIVER_CONFIG": "/nowhere.toml"}, "cannot read the settings in /nowhere.toml"),
        ({"ARCHIVER_DATABASE_URL": MARKER}, "ARCHIVER_DATABASE_URL"),
        (
            {"ARCHIVER_DATABASE_URL": f"mysql://u:{MARKER}@h/d"},
            "is not usable: expected a URL such as postgresql://user@host:5432/database, ",
        ),
        ({"ARCHIVER_DATABASE_URL": f"postgresql://u:p@{MARKER}@127.0.0.1:9/d"}, "(@ as %40)"),
        ({"ARCHIVER_DATABASE_URL": f"postgresql://u:p@h/{MARKER}@127.0.0.1:9/d"}, "(@ as %40)"),
        ({"ARCHIVER_DATABASE_URL": f"postgresql://u:1#{MARKER}@127.0.0.1:9/d"}, "(@ as %40)"),
        ({"ARCHIVER_DATABASE_URL": f"postgresql://u:1/{MARKER}@127.0.0.1:9/d"}, "(@ as %40)"),
        ({"ARCHIVER_DATABASE_URL": f"postgresql://u:1?{MARKER}@127.0.0.1:9/d"}, ""),
        (
            {"ARCHIVER_DATABASE_URL": f"postgresql://ada:{MARKER}@127.0.0.1:9/d"},
            "cannot reach the database postgresql://ada:***@127.0.0.1:9/d: ",
        ),
        (
            {"ARCHIVER_DATABASE_URL": f"postgresql://ada@127.0.0.1:9/d?password={MARKER}"},
            "cannot reach the database postgresql://ada@127.0.0.1:9/d: ",
        ),
        ({"ARCHIVER_DATABASE_URL": f"postgresql://ada:{MARKER}@h:port/d"}, "ARCHIVER_DATABASE_URL"),
        (
            {"ARCHIVER_DATABASE_URL": f"postgresql://ada@127.0.0.1/d?passwrd={MARKER}"},
            'ARCHIVER_DATABASE_URL is not usable: invalid connection option "passwrd"',
        ),
        (
            {"ARCHIVER_DATABASE_URL": "postgresql://ada@h/d?port=abc"},
            "ARCHIVER_DATABASE_URL is not usable: ",
        ),
    ],
)
def test_what_the_operator_can_mend_is_one_line_and_ends_with_2(
    archiver: Run, settings: dict[str, str], told: str
) -> None:
    ended = archiver("status", **settings)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("archiver: error: ")
    assert ended.stderr.count("\n") == 1
    assert told in ended.stderr
    assert MARKER not in ended.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[strem]\n", "strem is not a setting; did you mean stream?"),
        ("stream = [\n", "are not TOML"),
        ("flows = " + "[" * 10_000, "are not TOML"),
        (f'token = "{MARKER}\n', "are not TOML"),
        (f'tokn = "{MARKER}"\n', "did you mean token?"),
    ],
)
def test_a_file_that_is_wrong_is_refused(
    archiver: Run, tmp_path: Path, text: str, told: str
) -> None:
    config = tmp_path / "archiver.toml"
    config.write_text(text)
    for ended in (
        archiver("--config", str(config), "status"),
        archiver("status", "--config", str(config)),
        archiver("rejects", "retry", "--all", "--config", str(config)),
        archiver("status", ARCHIVER_CONFIG=str(config)),
    ):
        assert ended.returncode == 2
        assert told in ended.stderr
        assert str(config) in ended.stderr
        assert MARKER not in ended.stderr


def test_a_file_may_begin_with_a_byte_order_mark(archiver: Run, tmp_path: Path) -> None:
    config = tmp_path / "archiver.toml"
    config.write_bytes(b"\xef\xbb\xbfprivate = false\r\n")
    ended = archiver("config", "--changed", "--config", str(config))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "private" in ended.stdout


def test_what_the_environment_holds_is_not_blamed_on_the_file(
    archiver: Run, tmp_path: Path
) -> None:
    config = tmp_path / "archiver.toml"
    config.write_text("private = true\n")
    ended = archiver("--config", str(config), "status", ARCHIVER_PRIVATE="perhaps")
    assert ended.stderr.startswith("archiver: error: ARCHIVER_PRIVATE cannot be")


def test_of_a_database_that_is_not_there_the_server_is_believed(
    archiver: Run, postgres_url: str
) -> None:
    url = make_url(postgres_url).set(database="nosuch", password=MARKER)
    ended = archiver("status", ARCHIVER_DATABASE_URL=url.render_as_string(hide_password=False))
    assert ended.returncode == 2
    assert 'database "nosuch" does not exist; create it, or correct its name' in ended.stderr
    assert MARKER not in ended.stderr


@pytest.mark.parametrize("name", ["run", "backfill", "verify", "import"])
def test_what_writes_does_not_wait_for_a_database_that_takes_no_changes_from_the_start(
    archiver: Run, database_url: str, admin: psycopg.Connection, tmp_path: Path, name: str
) -> None:
    (tmp_path / "messages.json").write_text("[]")
    database = admin.info.dbname
    admin.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    ended = archiver(
        *([name, str(tmp_path)] if name == "import" else [name]),
        ARCHIVER_DATABASE_URL=database_url,
        ARCHIVER_TOKEN="x",
        ARCHIVER_API_URL="http://127.0.0.1:9",
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"archiver: error: the database {database} is read-only: default_transaction_read_only "
        f"is on; turn it off for the database, or use another user than {admin.info.user} in "
        "ARCHIVER_DATABASE_URL\n"
    )


@pytest.mark.parametrize("arguments", [["search", "--refresh", "x"], ["export", "out", "x"]])
def test_what_a_database_that_takes_no_changes_is_asked_is_told_with_what_to_do(
    archiver: Run, database_url: str, admin: psycopg.Connection, arguments: list[str]
) -> None:
    admin.execute(f"ALTER DATABASE {admin.info.dbname} SET default_transaction_read_only = on")
    ended = archiver(*arguments, ARCHIVER_DATABASE_URL=database_url)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("archiver: error: the database is read-only: cannot execute")
    assert "set ARCHIVER_DATABASE_URL to one that can be written" in ended.stderr


async def test_a_limit_of_the_database_is_named(
    database_url: str, admin: psycopg.Connection
) -> None:
    admin.execute(f"ALTER DATABASE {admin.info.dbname} SET temp_file_limit = 0")

    async def need_much() -> None:
        place = Place(url=database_url, pool_size=1, private=False)
        async with connect(place) as engine, engine.connect() as tx:
            await tx.execute(text("SET work_mem = '64kB'"))
            await tx.execute(text("SELECT count(*) FROM generate_series(1, 300000)"))

    told = (
        r'failed: .* exceeds "?temp_file_limit"? \(0kB\); raise that limit for its user, or for all'
    )
    with pytest.raises(ArchiverError, match=told):
        await need_much()


async def test_a_command_says_whose_lock_it_waits_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(holdups, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(holdups, "NOTICE_SECONDS", 0.1)
    place = Place(url=database_url, pool_size=1, private=False)
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE store.rejects")
        async with open_for_changes(place) as engine, transaction(engine) as tx:
            reading = asyncio.create_task(tx.execute(text("SELECT FROM store.rejects")))
            async with asyncio.timeout(60):
                while "waiting for a lock of another session" not in caplog.text:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            other.rollback()
            await reading


def command(job: object) -> click.Command:
    def callback() -> object:
        if isinstance(job, BaseException):
            raise job
        return job

    return click.Command("probe", callback=callback)


@pytest.mark.parametrize(
    ("job", "status", "told"),
    [
        (None, 0, ""),
        (3, 3, ""),
        (ArchiverError("mend it"), 2, "archiver: error: mend it\n"),
        (
            ExceptionGroup("g", [ArchiverError("a"), ExceptionGroup("h", [ArchiverError("b")])]),
            2,
            "archiver: error: a\narchiver: error: b\n",
        ),
        (ExceptionGroup("g", [ArchiverError("same"), ArchiverError("same")]), 2, "same\n"),
        (ArchiverError("at postgresql://u:pw@host/d"), 2, "postgresql://u:***@host/d\n"),
        (click.UsageError("wrong"), 2, "archiver: error: wrong (see archiver --help)\n"),
        (KeyboardInterrupt(), 130, "\n"),
    ],
)
def test_the_exit_status_tells_who_can_mend_it(
    job: object,
    status: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(main, "cli", command(job))
    assert main.run([]) == status
    assert capsys.readouterr().err.endswith(told)


@pytest.mark.parametrize(
    "error", [ValueError("odd"), ExceptionGroup("g", [ArchiverError("a"), ValueError("odd")])]
)
def test_what_nobody_expected_is_told_with_its_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(main, "cli", command(error))
    assert main.run([]) == 1
    assert "ValueError: odd" in caplog.text
    assert "Traceback" in caplog.text


async def test_sigterm_leaves_through_the_blocks_that_clean_up(environ: dict[str, str]) -> None:
    code = (
        "import asyncio, click; from archiver.cli import main\n"
        "async def wait():\n"
        "    try:\n"
        "        print('ready', flush=True); await asyncio.sleep(60)\n"
        "    finally:\n"
        "        print('cleaned', flush=True)\n"
        "main.cli = click.Command('probe', callback=lambda: asyncio.run(wait()))\n"
        "main.main()\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=-1, stderr=-1, env=environ
    )
    assert process.stdout
    assert await process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    out, err = await process.communicate()
    assert (process.returncode, out, err) == (143, b"cleaned\n", b"")


def test_ctrl_c_before_all_is_imported_ends_without_a_word(environ: dict[str, str]) -> None:
    code = (
        "import os, signal, sys; from archiver.__main__ import main\n"
        "class Interrupting:\n"
        "    def find_spec(name, path, target=None):\n"
        "        if name == 'archiver.cli.main':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting)\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environ, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


def interrupted(code: str, environ: dict[str, str]) -> tuple[int, str, str]:
    """Run a program that sends itself a signal; return its status and what it writes."""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environ,
        check=False,
        # Tests may run in the background, with SIGINT ignored, which a process inherits.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize(
    ("number", "status", "told"), [(signal.SIGINT, 130, "\n"), (signal.SIGTERM, 143, "")]
)
def test_a_signal_while_the_event_loop_is_made_ends_without_a_traceback(
    number: signal.Signals, status: int, told: str, environ: dict[str, str]
) -> None:
    code = (
        "import asyncio, click, os; from archiver.cli import main\n"
        "async def work(): pass\n"
        f"asyncio.coroutines._is_debug_mode = lambda: os.kill(os.getpid(), {number})\n"
        "main.cli = click.Command('probe', callback=lambda: asyncio.run(work()))\n"
        "main.main()\n"
    )
    assert interrupted(code, environ) == (status, "", told)


@pytest.mark.parametrize(
    ("number", "status", "told"), [(signal.SIGINT, 130, "\n"), (signal.SIGTERM, 143, "")]
)
def test_a_signal_that_python_drops_comes_again(
    number: signal.Signals, status: int, told: str, environ: dict[str, str]
) -> None:
    code = (
        "import click, os, time, weakref; from archiver.cli import main\n"
        "def work():\n"
        "    gone = {1}\n"
        f"    kept = weakref.ref(gone, lambda _: os.kill(os.getpid(), {number}))\n"
        "    del gone\n"
        "    time.sleep(5)\n"
        "main.cli = click.Command('probe', callback=work)\n"
        "main.main()\n"
    )
    assert interrupted(code, environ) == (status, "", told)


def test_the_package_is_the_command_and_ctrl_c_then_ends_it_in_order(
    environ: dict[str, str],
) -> None:
    def ran(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env=environ, check=True
        ).stdout

    assert ran("-m", "archiver", "--version").startswith("archiver ")
    asked = (
        "import signal; from archiver.__main__ import main; from archiver.cli import main as cli\n"
        "cli.main = lambda: print(signal.getsignal(signal.SIGINT).__name__)\n"
        "main()\n"
    )
    assert ran("-c", asked) == "default_int_handler\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["explain", "acme/main", "abc"], f"'abc' is not a whole number from 1 to {2**63 - 2}"),
        (["explain", "acme/main", "0"], f"'0' is not a whole number from 1 to {2**63 - 2}"),
        (["rejects", "show", str(2**63)], f"'{2**63}' is not a whole number from 1 to {2**63 - 1}"),
        (["search", "-C", "51", "x"], "'51' is not a whole number from 0 to 50"),
        (["simulate", "--seed", "x"], "'x' is not a whole number"),
        (["demo", "--seconds", "abc"], "'abc' is not a number from 1 to 86400"),
        (["sql", "--timeout", "nan", "SELECT 1"], "'nan' is not a number from 0.1 to 86400"),
    ],
)
def test_what_is_no_number_is_refused_in_words(
    archiver: Run, arguments: list[str], told: str
) -> None:
    ended = archiver(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"{told} (see archiver " in ended.stderr
