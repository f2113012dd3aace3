"""Standard output and error, for whatever writes to them: click, rich, csv, the logs.

What standard output does not take ends a command, by an error that nothing takes for one of a file
or a socket. Standard error is for whoever listens: if nobody does, the work goes on.
"""

import io
import os
import sys
from contextlib import suppress
from errno import EPIPE
from typing import TextIO

from typing_extensions import Buffer, override

from archiver.errors import ArchiverError

STDIN, STDOUT, STDERR = range(3)


class OutputLost(ArchiverError):
    """Standard output takes no more: its disk is full, or it was closed from the start."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write the output: {error.strerror}")


class ReaderGone(Exception):
    """Whoever read standard output has left."""


class _Output(io.BufferedWriter):
    """Standard output. It fails once; what is left to be written then goes nowhere."""

    # The buffer, not the file below it: were that one ours, a signal could come after it has
    # written and before it says so, and the buffer would write the same again.

    _has_failed = False

    @override
    def write(self, buffer: Buffer, /) -> int:
        try:
            return super().write(buffer)
        except OSError as error:
            self._fail(error)
            return memoryview(buffer).nbytes

    @override
    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        if self._has_failed:
            return
        self._has_failed = True
        if error.errno == EPIPE:
            raise ReaderGone from None
        raise OutputLost(error) from None


class _Notes(io.BufferedWriter):
    """Standard error, which seems to take everything."""

    @override
    def write(self, buffer: Buffer, /) -> int:
        with suppress(OSError):
            return super().write(buffer)
        return memoryview(buffer).nbytes

    @override
    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def open_standard_streams() -> None:
    """Put the streams of this module in the place of Python's own.

    One that was closed when we were started is opened, to nowhere: else the next file or socket
    would take its number, and what is printed would go there.
    """
    _keep(STDIN, os.O_RDONLY)
    _keep(STDOUT, os.O_RDONLY)  # so what is written fails, as it would on a closed one
    _keep(STDERR, os.O_WRONLY)
    out, notes = (io.FileIO(number, "w", closefd=False) for number in (STDOUT, STDERR))
    sys.stdout = _text(_Output(out), sys.stdout, errors="strict")
    sys.stderr = _text(_Notes(notes), sys.stderr, errors="backslashreplace")


def _keep(number: int, flags: int) -> None:
    """Open the file *number* if it is not; those below it must be."""
    try:
        os.fstat(number)
    except OSError:
        os.set_inheritable(os.open(os.devnull, flags), True)


def _text(stream: io.BufferedWriter, before: TextIO | None, *, errors: str) -> TextIO:
    """Text into *stream*, with what cannot be encoded as for what was there *before*."""
    return io.TextIOWrapper(
        stream,
        # Whatever the locale says, as Python itself from 3.15 on: chat is said in all scripts.
        encoding="utf-8",
        errors=before.errors if before else errors,
        newline="\n",
        line_buffering=isinstance(stream, _Notes) or stream.isatty(),
    )
