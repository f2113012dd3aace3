"""The details of a log record: what was passed as ``extra``."""

import logging
from typing import Any

OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """The values that were passed to *record* as ``extra``, by name."""
    return {name: value for name, value in vars(record).items() if name not in OWN}
