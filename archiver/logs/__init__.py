"""Logs: lines for people or for machines, never with a secret in them.

The message of a record is a constant phrase, followed by details that are passed as ``extra``. One
record is one line, whatever its values hold, except for tracebacks on the console.

No line holds what was said in chat. The texts of errors may: Postgres quotes the row that it
refuses, ``int`` the text that is not a number. So the text of an error is logged only if it cannot
quote foreign data (`tell_error`); for other errors, the type and the place are logged.

If standard error is systemd's journal, each line begins with its level in the journal's notation.
"""

import json
import logging
import os
import re
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, TextIO
from urllib.parse import quote

from typing_extensions import override

from archiver.errors import ArchiverError, Corruption
from archiver.logs.record import extras
from archiver.logs.repeating import Repetitions

PACKAGE = "archiver"
MASK = "***"
# A shorter value is not treated as a secret: hiding it would garble everything else.
SHORTEST_SECRET = 4
USERINFO = re.compile(r"(?<=://)([^\s:/?#@]*):[^\s/?#@]*@")
JSON_KEYS = frozenset({"time", "level", "logger", "message", "exception"})
QUOTING_STATES = ("22", "23", "54", "P0")
"""The classes of SQLSTATE whose errors quote the values of rows, even in the first line."""
TELLABLE = (
    ArchiverError, Corruption, OSError, EOFError, ImportError, NameError, AttributeError, TypeError,
    RuntimeError, MemoryError,
)  # fmt: skip
"""The errors whose texts name files, hosts, types and states, but never quote a value."""
PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}
"""The levels in the notation of sd-daemon(3); anything below INFO is 7."""
COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}


def configure(
    *,
    level: str,
    format: Literal["console", "json"],  # noqa: A002
    stream: TextIO,
    colours: bool,
    secrets: Iterable[str] = (),
) -> None:
    """Log to *stream*: this program's records from *level* on, and warnings of other packages.

    This replaces any earlier configuration. *secrets* and passwords in URLs are masked in all
    lines. Most repetitions are left out (`archiver.logs.repeating`).
    """
    hidden = Secrets(secrets)
    handler = (Journal if is_journal(stream, os.environ) else logging.StreamHandler)(stream)
    handler.setFormatter(Json(hidden) if format == "json" else Console(hidden, colours=colours))
    handler.addFilter(Repetitions())
    logging.basicConfig(handlers=[handler], force=True, level=logging.WARNING)
    logging.captureWarnings(capture=True)
    logging.getLogger(PACKAGE).setLevel(level.upper())
    # Its warnings show objects, and are about consequences of errors that it raises and we log.
    logging.getLogger("psycopg").setLevel(logging.ERROR)


@contextmanager
def passed_on(to: TextIO) -> Iterator[None]:
    """While the block lasts, write lines that would go to a terminal *to* another stream."""
    handlers = [
        one for one in logging.getLogger().handlers if isinstance(one, logging.StreamHandler)
    ]
    shown = [(one, one.stream) for one in handlers if one.stream.isatty()]
    for handler, _ in shown:
        handler.setStream(to)
    try:
        yield
    finally:
        for handler, stream in shown:
            handler.setStream(stream)


def hide(text: str) -> str:
    """*text* without secrets, as the configured logs would show it."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    hidden = [one.secrets for one in formatters if isinstance(one, Console | Json)]
    return (hidden[0] if hidden else Secrets(())).hide(text)


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Tell whether *stream* leads to systemd's journal (JOURNAL_STREAM in systemd.exec(5))."""
    try:
        at = os.fstat(stream.fileno())
    except (OSError, ValueError):  # not a file, or a closed one
        return False
    return environ.get("JOURNAL_STREAM") == f"{at.st_dev}:{at.st_ino}"


def leveled(text: str, level: int) -> str:
    """*text* with *level* at the beginning of each line, in the journal's notation."""
    prefix = f"<{PRIORITIES.get(level, 7)}>"
    return prefix + text.replace("\n", f"\n{prefix}")


def tell_error(error: BaseException) -> str:
    """Describe *error* without quoting foreign data: its type, and its text if that is safe.

    An error of Postgres is described by its SQLSTATE and first line; the lines below (DETAIL,
    CONTEXT) may quote a row. If the first line may do so too, the table, column and constraint are
    named instead.
    """
    kind = type(error).__name__
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None)
    if state:
        quotes = state[:2] in QUOTING_STATES
        first = _violated(cause) if quotes else str(cause).strip().partition("\n")[0]
        return f"{kind}: SQLSTATE {state}" + (f": {first}" if first else "")
    text = str(error) if isinstance(error, TELLABLE) and not isinstance(error, UnicodeError) else ""
    return f"{kind}: {text}" if text else kind


def _violated(cause: BaseException) -> str:
    """The table, column and constraint that an error of Postgres is about: names, not values."""
    diag = getattr(cause, "diag", None)
    told = {
        kind: getattr(diag, f"{kind}_name", None)
        for kind in ("schema", "table", "column", "constraint")
    }
    return ", ".join(f"{kind} {name}" for kind, name in told.items() if name)


class Secrets:
    """Values that no output may contain, in any of the spellings that outputs give them."""

    def __init__(self, values: Iterable[str]) -> None:
        spellings = {
            spelling
            for value in values
            if len(value) >= SHORTEST_SECRET
            for inner in (value, quote(value), quote(value, safe=""), _in_json(value))
            for spelling in (inner, _in_json(inner), repr(inner)[1:-1])
        }
        # The longest first: one secret may contain another.
        longest_first = sorted(spellings, key=lambda one: (-len(one), one))
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def hide(self, text: str) -> str:
        """*text* with ``***`` in place of each secret and each password in a URL."""
        return USERINFO.sub(rf"\1:{MASK}@", self._pattern.sub(MASK, text))


class Journal(logging.StreamHandler[TextIO]):
    """Writes to systemd's journal, with the level of each line."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return leveled(super().format(record), record.levelno)


class Console(logging.Formatter):
    """The format for people: time in UTC, level, phrase, then ``key=value``."""

    def __init__(self, secrets: Secrets, *, colours: bool) -> None:
        super().__init__("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%SZ")
        self.converter = time.gmtime
        self.secrets = secrets
        self._colours = colours

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        level, phrase = record.levelname.lower().ljust(8), _one_line(record.message)
        keys = extras(record)
        if record.name.partition(".")[0] != PACKAGE:
            keys["logger"] = record.name
        told = [f"{name}={_shown(value)}" for name, value in keys.items()]
        if self._colours:
            level = f"\x1b[{COLOURS.get(record.levelno, '32')}m{level}\x1b[0m"
            told = [f"\x1b[2m{one}\x1b[0m" for one in told]
        return " ".join([record.asctime, level, phrase, *told])

    @override
    def format(self, record: logging.LogRecord) -> str:
        return self.secrets.hide(super().format(_without_quotes(record)))

    @override
    def formatException(self, ei: Any) -> str:
        return "\n".join(_traceback(ei[1]))


class Json(logging.Formatter):
    """The format for machines: one JSON object per line, in ASCII."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self.secrets = secrets

    @override
    def format(self, record: logging.LogRecord) -> str:
        record = _without_quotes(record)
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in extras(record).items():
            line[f"{name}_" if name in JSON_KEYS else name] = value
        if record.exc_info and record.exc_info[1]:
            line["exception"] = "\n".join(_traceback(record.exc_info[1]))
        return self.secrets.hide(json.dumps(line, default=str))


def _without_quotes(record: logging.LogRecord) -> logging.LogRecord:
    """A copy of *record* in which each error is replaced by its safe description."""
    told = logging.makeLogRecord(vars(record))
    told.exc_text = None  # another formatter may have cached a traceback there
    if isinstance(record.args, tuple):
        told.args = tuple(map(_told, record.args))
    elif isinstance(record.args, Mapping):
        told.args = {name: _told(value) for name, value in record.args.items()}
    if isinstance(record.msg, BaseException):
        told.msg = tell_error(record.msg)
    for name, value in extras(record).items():
        setattr(told, name, _told(value))
    return told


def _told(value: object) -> object:
    """*value*, or a safe description of an error; our own errors are sentences without a type."""
    if isinstance(value, ArchiverError):
        return str(value)
    return tell_error(value) if isinstance(value, BaseException) else value


def _traceback(error: BaseException | None, told: set[int] | None = None) -> Iterator[str]:
    """The traceback of *error* and its causes, first cause first; lines of source, no values.

    Each error is shown once, since it may be among its own causes: *told* holds the ids of errors
    that were shown already.
    """
    told = set() if told is None else told
    for number, one in enumerate(reversed(_causes(error, told))):
        if number:
            yield "which led to:"
        yield "Traceback (most recent call last):"
        yield from "".join(traceback.format_tb(one.__traceback__)).rstrip("\n").split("\n")
        yield tell_error(one)
        for inner in one.exceptions if isinstance(one, BaseExceptionGroup) else ():
            yield from (f"  | {line}" for line in _traceback(inner, told))


def _causes(error: BaseException | None, told: set[int]) -> list[BaseException]:
    """*error* and its causes, the first cause last, without those in *told*; adds them to that."""
    causes = []
    while error is not None and id(error) not in told:
        told.add(id(error))
        causes.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return causes


def _shown(value: object) -> str:
    """*value* for the console: quoted if it is more than one word; a list as its items."""
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if text and text.isprintable() and not set(text) & set(" \"'=") else repr(text)


def _one_line(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]


def _in_json(value: str) -> str:
    return json.dumps(value)[1:-1]
