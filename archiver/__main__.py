"""The command ``archiver``, by that name and as ``python -m archiver``."""

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line, as `archiver.cli.main.main` tells.

    Until that is imported there is nothing to clean up, so Ctrl-C ends this as any other program.
    """
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from archiver.cli import main as command_line  # noqa: PLC0415

    if interrupted is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupted)
    command_line.main()


if __name__ == "__main__":
    main()
