"""The directory of a private server: whether it can be used, and the lock on it."""

import os
from errno import EACCES, ENOTDIR
from pathlib import Path
from typing import IO

from archiver.errors import ArchiverError

REMEDY = "set ARCHIVER_DATA_DIR to a writable directory"


def open_lock(home: Path) -> IO[str]:
    """Make *home*, and open the file whose lock is held by the process that runs its server.

    Raises:
        ArchiverError: no server can be kept there.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_own(home)
        return open(home / "lock", "a", opener=lambda name, flags: os.open(name, flags, 0o600))
    except OSError as error:
        raise _refusal(home, error) from error


def require_usable(home: Path) -> None:
    """Make sure that a server can be kept in *home*, which need not exist; change nothing.

    Raises:
        ArchiverError: none can, as `open_lock` would find.
    """
    place = home
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise _refusal(home, OSError(ENOTDIR, os.strerror(ENOTDIR)))
    if not os.access(place, os.W_OK | os.X_OK):
        raise _refusal(home, OSError(EACCES, os.strerror(EACCES)))
    if place == home:
        _require_own(home)


def is_made(home: Path) -> bool:
    """Tell whether *home* holds a server's data.

    Raises:
        ArchiverError: this user cannot find that out.
    """
    try:
        (home / "data").stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ArchiverError(
            f"cannot read {home}: {error.strerror}; "
            "run this as the user who owns the archive, or set ARCHIVER_DATA_DIR to your own"
        ) from error
    return True


def _require_own(home: Path) -> None:
    """Refuse a *home* of another user, except for root, who runs the server as its owner."""
    if os.geteuid() not in {0, home.stat().st_uid}:
        raise ArchiverError(
            f"{home} belongs to another user, whose server could pass for yours; "
            "set ARCHIVER_DATA_DIR to a directory of your own"
        )


def _refusal(home: Path, error: OSError) -> ArchiverError:
    return ArchiverError(f"cannot keep a database in {home}: {error.strerror}; {REMEDY}")
