"""Reads a list of people from a JSON or CSV file, for sources that have ids but no names.

JSON is a list of objects, as ``GET /users`` returns it, or one object that maps ids to such objects
or to nicks. CSV must have a header that names ``id`` and any of ``nick``, ``name``, ``email``.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from archiver.domain.model import User
from archiver.errors import ArchiverError
from archiver.flowdock.directory import user_of
from archiver.flowdock.envelope import read_json

COLUMNS = frozenset({"id", "nick", "name", "email"})


def read_users(path: Path) -> list[User]:
    """The people in a file, each once.

    Raises:
        ArchiverError: it cannot be read; the text names the file and the place.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ArchiverError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ArchiverError(f"{path} is not UTF-8: byte {error.start:,}") from error
    is_json = text.lstrip()[:1] in {"[", "{"}
    found = _from_json(path, text) if is_json else _from_csv(path, text.replace("\0", "\ufffd"))
    return list({user.id: user for user in found}.values())


def _from_json(path: Path, text: str) -> Iterator[User]:
    try:
        value = read_json(text.encode())
    except ValueError as error:
        raise ArchiverError(f"{path} is not JSON: {error}") from error
    if isinstance(value, dict):
        value = [_with_id(id_, told) for id_, told in value.items()]
    for number, item in enumerate(value, start=1):
        user = user_of(item)
        if user is None:
            raise ArchiverError(f"{path}: entry {number} is not a user with an id")
        yield user


def _with_id(id_: str, told: Any) -> Any:
    if isinstance(told, dict):
        return {"id": id_, **told}
    return {"id": id_, "nick": told} if isinstance(told, str | None) else None


def _from_csv(path: Path, text: str) -> Iterator[User]:
    rows = csv.DictReader(io.StringIO(text))
    try:
        yield from _from_rows(path, rows)
    except csv.Error as error:
        raise ArchiverError(f"{path}, line {rows.reader.line_num}: {error}") from error


def _from_rows(path: Path, rows: "csv.DictReader[str]") -> Iterator[User]:
    named = {name.strip().lower() for name in rows.fieldnames or ()}
    if "id" not in named or not named & (COLUMNS - {"id"}):
        raise ArchiverError(
            f"{path} is neither JSON nor a CSV list of users: the first line must name the column "
            "id, and nick, name or email"
        )
    for row in rows:
        cells = {(name or "").strip().lower(): (cell or None) for name, cell in row.items()}
        user = user_of({name: cell for name, cell in cells.items() if name in COLUMNS})
        if user is None:
            raise ArchiverError(f"{path}, line {rows.line_num}: no id")
        yield user
