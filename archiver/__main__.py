"""The command ``archiver``, which may also be run as ``python -m archiver``."""

import os
import signal
from typing import NoReturn

STDIN = 0


def main() -> NoReturn:
    """Run the command line, which is described at `archiver.cli.main.main`.

    Until that is imported there is nothing to clean up, so Ctrl-C ends the process in the default
    way. SIGHUP is blocked until the command is known: it would otherwise end a daemon that should
    reload its settings. At a terminal it is not blocked: there it means that the terminal was
    closed, which must end the process.
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
