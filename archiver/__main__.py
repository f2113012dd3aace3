"""The command ``archiver``, by that name and as ``python -m archiver``."""

import os
import signal
from typing import NoReturn

STDIN = 0


def main() -> NoReturn:
    """Run the command line, as `archiver.cli.main.main` tells.

    Until that is imported there is nothing to clean up, so Ctrl-C ends this as any other program.
    SIGHUP, which would end a daemon that is to read its settings again, waits until the command is
    known. What a terminal says that is closed ends us.
    """
    if not os.isatty(STDIN):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from archiver.cli import main as command_line  # noqa: PLC0415

    if interrupted is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupted)
    command_line.main()


if __name__ == "__main__":
    main()
