"""Logs: lines for people or for machines, and never a secret in either.

What is logged is a constant phrase; what it is about follows from ``extra``. One record is one
line, whatever its values hold, but for tracebacks on the console.
"""

import json
import logging
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal, TextIO
from urllib.parse import quote

from typing_extensions import override

PACKAGE = "archiver"
MASK = "***"
# A value shorter than this is no secret, and hiding it would garble everything else.
SHORTEST_SECRET = 4
USERINFO = re.compile(r"(?<=://)([^\s:/?#@]*):[^\s/?#@]*@")
OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
JSON_KEYS = frozenset({"time", "level", "logger", "message", "exception"})
COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}


def configure(
    *,
    level: str,
    format: Literal["console", "json"],  # noqa: A002
    stream: TextIO,
    colours: bool,
    secrets: Iterable[str] = (),
) -> None:
    """Send what this program logs from *level* on, and the warnings of others, to *stream*.

    Replaces what was configured before. *secrets* appear in no line; nor do passwords in URLs.
    """
    hidden = Secrets(secrets)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Json(hidden) if format == "json" else Console(hidden, colours=colours))
    logging.basicConfig(handlers=[handler], force=True, level=logging.WARNING)
    logging.captureWarnings(capture=True)
    logging.getLogger(PACKAGE).setLevel(level.upper())


def hide(text: str) -> str:
    """*text* as the configured logs would show it: without secrets."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    hidden = [one.secrets for one in formatters if isinstance(one, Console | Json)]
    return (hidden[0] if hidden else Secrets(())).hide(text)


class Secrets:
    """Values that no output may hold, in any of the spellings that outputs give them."""

    def __init__(self, values: Iterable[str]) -> None:
        spellings = {
            spelling
            for value in values
            if len(value) >= SHORTEST_SECRET
            for inner in (value, quote(value), quote(value, safe=""), _in_json(value))
            for spelling in (inner, _in_json(inner), repr(inner)[1:-1])
        }
        # The longest first: one secret may hold another.
        longest_first = sorted(spellings, key=lambda one: (-len(one), one))
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def hide(self, text: str) -> str:
        """*text* with each secret, and each password of a URL, exchanged for ``***``."""
        return USERINFO.sub(rf"\1:{MASK}@", self._pattern.sub(MASK, text))


class Console(logging.Formatter):
    """For people: time in UTC, level, phrase, then ``key=value``."""

    def __init__(self, secrets: Secrets, *, colours: bool) -> None:
        super().__init__("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%SZ")
        self.converter = time.gmtime
        self.secrets = secrets
        self._colours = colours

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        level, phrase = record.levelname.lower().ljust(8), _one_line(record.message)
        keys = _extras(record)
        if record.name.partition(".")[0] != PACKAGE:
            keys["logger"] = record.name
        told = [f"{name}={_shown(value)}" for name, value in keys.items()]
        if self._colours:
            level = f"\x1b[{COLOURS.get(record.levelno, '32')}m{level}\x1b[0m"
            told = [f"\x1b[2m{one}\x1b[0m" for one in told]
        return " ".join([record.asctime, level, phrase, *told])

    @override
    def format(self, record: logging.LogRecord) -> str:
        return self.secrets.hide(super().format(record))


class Json(logging.Formatter):
    """For machines: one object a line, in ASCII."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__()
        self.secrets = secrets

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in _extras(record).items():
            line[f"{name}_" if name in JSON_KEYS else name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return self.secrets.hide(json.dumps(line, default=str))


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in OWN}


def _shown(value: object) -> str:
    """A value on the console: quoted when it holds more than a word."""
    text = str(value)
    return text if text and text.isprintable() and not set(text) & set(" \"'=") else repr(text)


def _one_line(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]


def _in_json(value: str) -> str:
    return json.dumps(value)[1:-1]
