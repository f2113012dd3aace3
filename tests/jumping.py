"""An event loop whose clock jumps to the next timer: waiting takes no time and is deterministic.

Nothing may come from outside the loop, neither through a socket nor from a thread.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

from typing_extensions import override


class _Impatient(selectors.DefaultSelector):
    """A selector that never waits, but adds up how long it would have waited."""

    waited = 0.0

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.waited += timeout or 0.0
        return super().select(0)


class _JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock advances only while all tasks wait."""

    def __init__(self) -> None:
        self._impatient = _Impatient()
        super().__init__(self._impatient)

    @override
    def time(self) -> float:
        return self._impatient.waited


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run *main* on a clock that advances only while all tasks wait; returns its result."""
    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        return runner.run(main)
