"""A bar of progress, with log records that are written meanwhile."""

import io
import logging
import os
import pty

from rich.console import Console
from rich.progress import TextColumn

from archiver import logs
from archiver.cli.progress import shown_bar

log = logging.getLogger("archiver.test")


def test_a_bar_leaves_no_copy_of_itself_above_what_is_logged() -> None:
    ours, its = pty.openpty()
    phrase = "said " * 30  # longer than a line of the terminal
    with os.fdopen(its, "w") as terminal:
        logs.configure(level="info", format="console", stream=terminal, colours=True)
        console = Console(file=terminal, width=80, force_terminal=True)
        with shown_bar(TextColumn("half done"), console=console) as progress:
            progress.add_task("")
            progress.refresh()
            log.info("%s", phrase)
        log.info("afterwards")
        terminal.flush()
        told = b""
        while not told.endswith(b"afterwards\r\n"):  # a read gives what has come so far
            told += os.read(ours, 65536)
    shown = told.decode()
    os.close(ours)
    before, after = shown.split(phrase)
    bars, line = before.rsplit("\r\x1b[2K", 1)  # the bar's line is cleared for the log record
    assert "half done" in bars
    assert line.endswith(" ")
    assert "info" in line
    assert "half done" not in line
    assert "half done" in after  # drawn again below the record


def test_what_is_logged_elsewhere_is_not_shown_with_the_bar() -> None:
    file, terminal = io.StringIO(), io.StringIO()
    logs.configure(level="info", format="console", stream=file, colours=False)
    with shown_bar(console=Console(file=terminal, force_terminal=True)):
        log.info("kept")
    assert "kept" in file.getvalue()
    assert "kept" not in terminal.getvalue()
