"""Standard output and standard error, for all that writes to them: click, rich, csv, the logs.

If standard output cannot be written, the command ends, with an error that nothing mistakes for that
of a file or a socket. If standard error cannot be written, that is ignored, and the work goes on.
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
    """Standard output cannot be written: its disk is full, or it was closed from the start."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write the output: {error.strerror}")


class ReaderGone(Exception):
    """The reader of standard output has closed it."""


class _Output(io.BufferedWriter):
    """Standard output. Only its first failure raises; all that is written later is discarded."""

    # A subclass of the buffer, not of the raw file below it: a signal could interrupt a raw file in
    # Python after it has written and before it returns, and the buffer would write the same again.

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
    """Standard error; failures to write to it are ignored."""

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
    """Replace Python's standard streams with those of this module.

    One that was closed when we were started is opened on /dev/null: otherwise the next file or
    socket would get its number, and what is printed would go there.
    """
    _keep(STDIN, os.O_RDONLY)
    _keep(STDOUT, os.O_RDONLY)  # so that writing fails, as it would on a closed one
    _keep(STDERR, os.O_WRONLY)
    out, notes = (io.FileIO(number, "w", closefd=False) for number in (STDOUT, STDERR))
    sys.stdout = _text(_Output(out), sys.stdout, errors="strict")
    sys.stderr = _text(_Notes(notes), sys.stderr, errors="backslashreplace")


def _keep(number: int, flags: int) -> None:
    """Open the file descriptor *number* if it is closed; all lower ones must be open."""
    try:
        os.fstat(number)
    except OSError:
        os.set_inheritable(os.open(os.devnull, flags), True)


def _text(stream: io.BufferedWriter, before: TextIO | None, *, errors: str) -> TextIO:
    """A text stream into *stream*, which handles encoding errors like the one *before* it."""
    return io.TextIOWrapper(
        stream,
        # Whatever the locale says, as Python itself does from 3.15 on: chat may be in any script.
        encoding="utf-8",
        errors=before.errors if before else errors,
        newline="\n",
        line_buffering=isinstance(stream, _Notes) or stream.isatty(),
    )
