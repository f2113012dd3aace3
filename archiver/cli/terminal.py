"""Output for people: safe, and coloured only where someone sees the colours."""

import json
import os
import shutil
import sys
import unicodedata
from typing import IO
from zlib import crc32

import click

NEWLINES = {ord("\n"): "⏎", ord("\r"): "⏎", 0x2028: "⏎", 0x2029: "⏎", 0x85: "⏎"}
# The pictures of control characters: ␀ to ␟, and ␡.
PICTURES = {code: chr(0x2400 + code) for code in range(32)} | {127: "␡"}
# Joiners of letters and of emoji are harmless, and words would be wrong without them.
JOINERS = "\u200c\u200d"
DUMB = frozenset({"dumb", "unknown"})
NICKS = ("cyan", "magenta", "blue", "yellow", "bright_cyan", "bright_magenta", "bright_blue")
UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def is_terminal(stream: IO[str] | None = None) -> bool:
    """Tell whether *stream*, or standard output, is a terminal, where probably a person reads."""
    return (stream or sys.stdout).isatty()


def can_draw(stream: IO[str] | None = None) -> bool:
    """Tell whether *stream* is a terminal on which earlier output can be overwritten."""
    return is_terminal(stream) and os.environ.get("TERM", "").lower() not in DUMB


def has_colours(stream: IO[str] | None = None) -> bool:
    """Tell whether *stream*, or standard output, may be coloured: https://no-color.org."""
    return can_draw(stream) and not os.environ.get("NO_COLOR")


def colour_of(nick: str) -> str:
    """The colour in which a person's name is always shown."""
    return NICKS[crc32(nick.encode()) % len(NICKS)]


def show_long(text: str) -> None:
    """Print *text*, through a pager if it does not fit on the terminal."""
    if is_terminal() and text.count("\n") >= shutil.get_terminal_size((80, 24)).lines:
        # With color=None, click finds out whether the pager can show colours. It also adds a
        # newline at the end.
        click.echo_via_pager(text.removesuffix("\n"), color=None if has_colours() else False)
    else:
        click.echo(text, nl=False, color=has_colours() or None)


def show_json(line: str) -> None:
    """Print *line*, which is JSON; for a terminal, `escape_json` makes it safe."""
    click.echo(escape_json(line) if is_terminal() else line)


def make_safe(text: str) -> str:
    """Put *text* on one line, in which nothing can control the terminal.

    Line ends become ``⏎``, and other control characters their pictures (``␛``). What changes the
    direction of text, is invisible or is not a character becomes U+FFFD.
    """
    text = text.replace("\r\n", "\n").translate(NEWLINES).translate(PICTURES)
    if text.isprintable():
        return text
    return "".join("\ufffd" if _is_unsafe(letter) else letter for letter in text)


def escape_json(line: str) -> str:
    """Escape what could control the terminal in *line*, which is JSON; its meaning stays."""
    if line.isprintable():
        return line
    return "".join(json.dumps(letter)[1:-1] if _is_unsafe(letter) else letter for letter in line)


def _is_unsafe(letter: str) -> bool:
    return unicodedata.category(letter) in UNSAFE and letter not in JOINERS
