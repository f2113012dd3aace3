"""Drawing on the whole terminal, and giving it back on Ctrl-Z."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.live import Live

SHOW_CURSOR, HIDE_CURSOR = b"\x1b[?25h", b"\x1b[?25l"
GIVE_SCREEN, TAKE_SCREEN = b"\x1b[?1049l", b"\x1b[?1049h\x1b[H"


@contextmanager
def full_screen(console: Console) -> Iterator[Live]:
    """A live display that takes up the whole terminal while the block lasts.

    The earlier contents and the cursor come back at the end, and while Ctrl-Z suspends us.
    """
    live = Live(console=console, screen=True, auto_refresh=False)
    with (
        letting_go(console, GIVE_SCREEN + SHOW_CURSOR, TAKE_SCREEN + HIDE_CURSOR),
        live,
    ):
        yield live


@contextmanager
def letting_go(
    console: Console, release: bytes = SHOW_CURSOR, resume: bytes = HIDE_CURSOR
) -> Iterator[None]:
    """On Ctrl-Z during the block, write *release* before we are suspended and *resume* after it.

    Both bypass the console and its buffer, which may be in the middle of writing.
    """

    def hold(number: int, _frame: FrameType | None) -> None:
        os.write(console.file.fileno(), release)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # suspended here, until SIGCONT
        signal.signal(number, hold)
        os.write(console.file.fileno(), resume)

    before = signal.getsignal(signal.SIGTSTP)
    if before is signal.SIG_DFL:  # a shell without job control has it ignored
        signal.signal(signal.SIGTSTP, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, before)
