"""Real databases for tests: each test that asks gets its own, cloned from a migrated template.

The server is the one of ARCHIVER_TEST_DATABASE_URL or ARCHIVER_DATABASE_URL (any real server where
that user may create databases; the latter is refused if its database holds an archive). If neither
is set, a private server is started. If no server can be had, the tests fail: a skipped test proves
nothing, so a skipped test fails the run as well. Tests that need a program which this machine lacks
are deselected, and the summary says so.
"""

import asyncio
import gc
import logging
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from uuid import uuid4

import hypothesis
import psycopg
import pytest

from archiver.embedded import run_server
from archiver.store import migrating
from archiver.store.engine import create_engine
from tests.cli.forks import Starter

# Otherwise each program that a test starts compiles all its modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# The tests must not depend on the settings, time zone, terminal or proxy of whoever runs them.
MEANT = {"ARCHIVER_TEST_DATABASE_URL", "ARCHIVER_DATABASE_URL", "ARCHIVER_POSTGRES_BIN"}
THEIRS = re.compile(
    "ARCHIVER_.*|.*_PROXY|COLUMNS|LINES|NO_COLOR|FORCE_COLOR|CLICOLOR.*", re.IGNORECASE
)
for name in os.environ.keys() - MEANT:
    if THEIRS.fullmatch(name):
        del os.environ[name]
os.environ |= {"TZ": "UTC", "TERM": "xterm"}
time.tzset()

# A shell makes background jobs ignore SIGINT, and nohup makes them ignore SIGHUP; the programs
# that a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# On a busy machine, deadlines for single examples fail at random; hanging tests time out anyway.
hypothesis.settings.register_profile("patient", deadline=None)
if hypothesis.settings.get_current_profile_name() == "default":
    hypothesis.settings.load_profile("patient")

SEARCHED_EVERY = 20
"""After this many tests with a daemon, what they froze is collected, which takes 0.15 s."""

# These databases need not survive a power cut.
UNSAFE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def migrate(url: str) -> None:
    """Create the schema in the empty database at *url*; done once per process, for the template."""

    async def run() -> None:
        engine = create_engine(url)
        await migrating.migrate(engine)
        await engine.dispose()

    asyncio.run(run())


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Restore the configuration of logging, which a command that runs inside a test may change."""
    logging.captureWarnings(False)
    root, package = logging.getLogger(), logging.getLogger("archiver")
    handlers, levels = root.handlers[:], (root.level, package.level)
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    package.setLevel(levels[1])


@pytest.fixture(autouse=True)
def collector_as_before(daemons: Iterator[int]) -> Iterator[None]:
    """Restore the garbage collector, which a daemon that runs inside a test changes.

    The thresholds are restored at once; what the daemon froze is unfrozen and collected only after
    several such tests.
    """
    threshold = gc.get_threshold()
    yield
    if gc.get_threshold() != threshold:
        gc.set_threshold(*threshold)
        if next(daemons) % SEARCHED_EVERY == 0:
            gc.unfreeze()
            freeze()


@pytest.fixture(autouse=True, scope="session")
def daemons() -> Iterator[Iterator[int]]:
    """Count the tests in which a daemon ran; at the end, unfreeze, so that leaks are reported."""
    yield count(1)
    gc.unfreeze()
    gc.collect()


def freeze() -> None:
    """Collect garbage, then exempt all remaining objects from later collections.

    Each daemon inside a test runs a full collection, and the tests import a lot of objects.
    """
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    """Freeze what was imported."""
    # Hypothesis looks once for objects that refer to its random generator, and would not find
    # frozen ones: let it look before.
    hypothesis.given(hypothesis.strategies.none())(lambda _: None)()
    freeze()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of an existing database on a server where databases may be created."""
    meant = os.environ.get("ARCHIVER_TEST_DATABASE_URL")
    if given := meant or os.environ.get("ARCHIVER_DATABASE_URL"):
        url = given.replace("postgresql+psycopg://", "postgresql://", 1)
        if not meant:
            refuse_archive(url)
        yield url
        return
    chosen = os.environ.get("ARCHIVER_POSTGRES_BIN")
    binaries = Path(chosen) if chosen else None
    with swift_directory() as home, run_server(home, binaries=binaries, settings=UNSAFE) as server:
        yield server.url


def refuse_archive(url: str) -> None:
    """Fail if the database at *url* holds an archive: then the URL was meant for the daemon."""
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT to_regclass('store.journal')").fetchone() != (None,):
            pytest.fail(
                "ARCHIVER_DATABASE_URL leads to an archive, and tests make and drop databases and "
                "roles beside it: unset it, or set ARCHIVER_TEST_DATABASE_URL to mean that server",
                pytrace=False,
            )


@pytest.fixture(scope="session")
def postgres_admin(postgres_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def template_database(postgres_url: str, postgres_admin: psycopg.Connection) -> Iterator[str]:
    """The name of a migrated database to which nobody is connected."""
    with created(postgres_admin, "template0") as name:
        # Migrations create roles, which belong to the whole server; another process of the tests
        # may be migrating there, too.
        postgres_admin.execute("SELECT pg_advisory_lock(hashtext('archiver tests'))")
        migrate(named(postgres_url, name))
        postgres_admin.execute("SELECT pg_advisory_unlock(hashtext('archiver tests'))")
        yield name


@pytest.fixture
def database_url(
    postgres_url: str, postgres_admin: psycopg.Connection, template_database: str
) -> Iterator[str]:
    """The URL of a migrated, empty database that is this test's own."""
    with created(postgres_admin, template_database) as name:
        yield named(postgres_url, name)


@pytest.fixture
def admin(database_url: str) -> Iterator[psycopg.Connection]:
    """A superuser connection, in autocommit mode, to the test's own database."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def bare_database_url(postgres_url: str, postgres_admin: psycopg.Connection) -> Iterator[str]:
    """The URL of an empty database, without a schema, that is this test's own."""
    with created(postgres_admin, "template0") as name:
        yield named(postgres_url, name)


@pytest.fixture(scope="session")
def starter() -> Iterator[Starter]:
    """Starts commands without the time that their imports take."""
    with closing(Starter()) as starter:
        yield starter


@pytest.fixture
def leap(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A function that advances the clocks of event loops, so that their timers expire at once.

    A timeout can thus be far longer than anything takes on a busy machine, and still be reached
    without waiting.
    """
    clock, ahead_seconds = asyncio.BaseEventLoop.time, 0.0

    def leaping(seconds: float) -> None:
        nonlocal ahead_seconds
        ahead_seconds += seconds

    monkeypatch.setattr(asyncio.BaseEventLoop, "time", lambda loop: clock(loop) + ahead_seconds)
    return leaping


@pytest.fixture
def give_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """A function that makes a path another user's.

    Only root can do that. For anybody else, this process takes itself for another user from then
    on, so that all paths are another user's.
    """

    def give(path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, 65_534, 65_534, follow_symlinks=False)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    return give


@pytest.fixture
def swift_path() -> Iterator[Path]:
    """A directory like tmp_path, but in memory if there is room, and removed after the test."""
    with swift_directory() as path:
        yield path


@pytest.fixture(scope="module")
def swift_module_path() -> Iterator[Path]:
    """A directory like swift_path, for all tests of a module."""
    with swift_directory() as path:
        yield path


@contextmanager
def swift_directory() -> Iterator[Path]:
    memory = Path("/dev/shm")
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2_000_000_000
    base = memory if roomy else None
    with tempfile.TemporaryDirectory(prefix="archiver-tests-", dir=base) as path:
        yield Path(path)


@contextmanager
def created(admin: psycopg.Connection, template: str) -> Iterator[str]:
    """Clone *template* under a new name, and drop the clone when the block ends, even if in use."""
    name = f"archiver_test_{uuid4().hex[:16]}"
    # With FILE_COPY, a clone takes 10 ms in memory; with the default, WAL_LOG, ten times that.
    admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    try:
        yield name
    finally:
        # The backend of a connection that was just closed ends within a millisecond; if DROP
        # finds it still there, it checks again only after 100 ms.
        busy = "SELECT FROM pg_stat_activity WHERE datname = %s"
        for _ in range(20):
            if admin.execute(busy, [name]).rowcount == 0:
                break
            time.sleep(0.001)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def named(url: str, database: str) -> str:
    """Return *url* with its database replaced by *database*."""
    place, mark, options = url.partition("?")
    scheme, _, rest = place.partition("://")
    return f"{scheme}://{rest.split('/')[0]}/{database}{mark}{options}"


def lacking(item: pytest.Item) -> str | None:
    """The program that a test needs if this machine does not have it, else None."""
    marker = item.get_closest_marker("needs")
    return marker.args[0] if marker and not shutil.which(marker.args[0]) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that need a program which this machine does not have."""
    left_out = [item for item in items if lacking(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Report the tests that are always deselected on this machine."""
    if not shutil.which("systemd-analyze"):
        terminalreporter.write_line("NOT DONE: tests of the units that need systemd-analyze")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run when a test was skipped."""
    gc.unfreeze()  # if no test ran: libraries report objects that stay frozen as leaks
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped") and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line("a test was skipped, so the run failed: what is skipped proves nothing")
