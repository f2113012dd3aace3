"""An event loop whose clock jumps to the next timer: what waits takes no time, and always the same.

Nothing may come from outside it, neither a socket nor a thread.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

from typing_extensions import override


class _Impatient(selectors.DefaultSelector):
    """Waits for nothing: tells how long it would have waited."""

    waited = 0.0

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.waited += timeout or 0.0
        return super().select(0)


class _JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock goes only while everybody waits."""

    def __init__(self) -> None:
        self._impatient = _Impatient()
        super().__init__(self._impatient)

    @override
    def time(self) -> float:
        return self._impatient.waited


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """What *main* returns, by a clock that goes only while everybody waits."""
    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        return runner.run(main)
