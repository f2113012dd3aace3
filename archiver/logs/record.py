"""What a record of a log is about: all that was given as ``extra``."""

import logging
from typing import Any

OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def extras(record: logging.LogRecord) -> dict[str, Any]:
    """What *record* was given as ``extra``, by name."""
    return {name: value for name, value in vars(record).items() if name not in OWN}
