"""Leaves out most repetitions of a line, so that an outage does not flood a log.

Of lines about the same thing, the first `FIRST` are logged, then one in `PAUSE_SECONDS`, with the
number of those left out in between as ``repeated``. This includes lines that report the end of an
outage. Lines are about the same thing if they have the same phrase and the same words in ``extra``;
numbers, such as attempts and seconds, may differ. While very many things are logged at a time, as
when each of some thousand flows fails, lines about further ones count as about one thing if they
have the same phrase. Lines with a traceback, and those of the level `debug`, are always logged.
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
"""How many things are remembered, and at most as many phrases for further ones.

What was not heard of for `PAUSE_SECONDS` is forgotten first."""


@dataclass(slots=True)
class Said:
    """How often lines about one thing were logged and left out."""

    told_at: float
    heard_at: float
    told: int = 0
    """Lines that were logged since it was last quiet for `PAUSE_SECONDS`."""
    untold: int = 0
    """Lines that were left out since the last logged one."""


class Repetitions(logging.Filter):
    """Leaves out what was logged often enough; *clock* returns seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: OrderedDict[Hashable, Said] = OrderedDict()

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.INFO or record.exc_info:
            return True
        now, about = self._clock(), _about(record)
        if about not in self._said and not self._has_room(now):
            about = record.name, str(record.msg)
        said = self._said.setdefault(about, Said(told_at=now, heard_at=now))
        if now - said.heard_at >= PAUSE_SECONDS:
            said.told = 0  # after so long a silence, it is news again
        said.heard_at = now
        if said.told >= FIRST and now - said.told_at < PAUSE_SECONDS:
            said.untold += 1
            return False
        if said.untold:
            record.repeated = said.untold
        said.told, said.told_at, said.untold = said.told + 1, now, 0
        self._said.move_to_end(about)
        if len(self._said) > 2 * REMEMBERED:
            self._said.popitem(last=False)
        return True

    def _has_room(self, now: float) -> bool:
        """Tell whether one more thing can be remembered; forget what is no longer heard of."""
        while len(self._said) >= REMEMBERED:
            about, oldest = next(iter(self._said.items()))
            if now - oldest.heard_at < PAUSE_SECONDS:
                return False
            del self._said[about]
        return True


def _about(record: logging.LogRecord) -> Hashable:
    words = [f"{name}={value}" for name, value in extras(record).items() if not _is_number(value)]
    return record.name, record.getMessage(), *words


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
