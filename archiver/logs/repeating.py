"""What is said again and again is told ever more rarely, so that an outage does not flood a log.

Of lines about the same thing the first `FIRST` are told, and then one in `PAUSE_SECONDS`, with how
many were not told in between as ``repeated``; that an outage is over is such a line, too. The same
thing is the same phrase with the same words beside it; numbers, as of attempts and seconds, may
differ. What brings a traceback is always told, and so is what only the level `debug` asks for.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from typing_extensions import override

from archiver.logs.record import extras

FIRST = 10
PAUSE_SECONDS = 600.0
REMEMBERED = 1000
"""Things at most; those that were told of longest ago are forgotten."""


@dataclass(slots=True)
class Said:
    """How often something was said."""

    told_at: float
    heard_at: float
    told: int = 0
    """Lines of it that were told, without a pause."""
    untold: int = 0
    """Lines that were not told since the last that was."""


class Repetitions(logging.Filter):
    """Keeps back what was told often enough; *clock* tells seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: OrderedDict[Hashable, Said] = OrderedDict()

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.INFO or record.exc_info:
            return True
        now, about = self._clock(), _about(record)
        said = self._said.setdefault(about, Said(told_at=now, heard_at=now))
        if now - said.heard_at >= PAUSE_SECONDS:
            said.told = 0  # quiet for so long, it is news
        said.heard_at = now
        if said.told >= FIRST and now - said.told_at < PAUSE_SECONDS:
            said.untold += 1
            return False
        if said.untold:
            record.repeated = said.untold
        said.told, said.told_at, said.untold = said.told + 1, now, 0
        self._said.move_to_end(about)
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        return True


def _about(record: logging.LogRecord) -> Hashable:
    words = [f"{name}={value}" for name, value in extras(record).items() if not _is_number(value)]
    return record.name, record.getMessage(), *words


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
