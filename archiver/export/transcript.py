"""Transcripts for people: plain text, and Markdown in which chat cannot become markup.

There is a file for each flow and month, with a heading for each day. The further lines of a message
are indented below its first, and every name stays on one line. In Markdown, the characters that
mean something in Markdown or HTML are escaped.
"""

import re

from typing_extensions import override

from archiver.export.files import NOT_KEPT, Links, plain_place
from archiver.export.folder import Shelf
from archiver.export.messages import (
    LINE_ENDS,
    UNKNOWN,
    Message,
    in_line,
    minute,
    one_by_one,
    read_messages,
    visible,
)
from archiver.export.names import path_of
from archiver.export.reading import Reading
from archiver.export.titles import title_of
from archiver.store import exporting_rows
from archiver.store.exporting import Table
from archiver.store.exporting_choice import UNDATED, Part, Subject

_MARKS = re.compile(r"([\\`*_{}\[\]()#+!|<>~&-])")
# At the beginning of a line, these would make the line above a heading, or begin a list.
_MARKS_IN_FRONT = re.compile(r"^([0-9]*)([=.])")


class PlainText:
    """``[12:34:56] nick: text``; the kind, an edit and a deletion are noted beside the name."""

    subject: Subject = "messages"
    by_month = True
    tables: tuple[Table, ...] = ("messages",)
    omits = ""
    place = staticmethod(plain_place)
    suffix = "txt"

    async def write_part(self, reading: Reading, part: Part, shelf: Shelf) -> int:
        """Write ``organization/flow/2024-05.txt``."""
        rows, day = 0, ""
        home = path_of(part.flow)
        links = Links(reading.files, home) if reading.files else None
        with shelf.file(f"{home}/{part.month}.{self.suffix}") as sink:
            title = await title_of(reading.tx, part.flow)
            sink.write(self.title(in_line(f"{title} {part.month}")).encode())
            async with read_messages(
                exporting_rows.as_json(reading.tx, self.subject, part, reading.chosen)
            ) as told:
                async for message in one_by_one(told):
                    if (of_day := message.sent[:10] if message.sent else UNDATED) != day:
                        day = of_day
                        sink.write(self.heading(day).encode())
                    sink.write(self.entry(message, links).encode())
                    rows += 1
                    reading.tally.count(1, part)
        return rows

    async def write_summary(self, reading: Reading, shelf: Shelf) -> None:
        """Write nothing: all is in the parts."""

    def title(self, text: str) -> str:
        """The first lines of a file."""
        return f"{text} (times are UTC)\n"

    def heading(self, day: str) -> str:
        """The lines that begin a day."""
        return f"\n== {day} ==\n\n"

    def entry(self, message: Message, links: Links | None = None) -> str:
        """The lines of a message; with *links*, with the paths of its files."""
        first, *more = _lines(message, links) or [""]
        head = f"[{_time(message)}] {in_line(message.sender)}{_about(message)}:"
        said = f"{head} {first}\n" if first else f"{head}\n"
        return said + "".join(f"    {line}\n" for line in more)


class Markdown(PlainText):
    """``- **nick** 12:34:56 text``, or ``- **nick** (status) 12:34:56 text``."""

    suffix = "md"

    @override
    def title(self, text: str) -> str:
        """The first lines of a file."""
        return f"# {_escaped(text)}\n\nTimes are UTC.\n"

    @override
    def heading(self, day: str) -> str:
        """The lines that begin a day."""
        return f"\n## {day}\n\n"

    @override
    def entry(self, message: Message, links: Links | None = None) -> str:
        """The lines of a message: an item of a list, with hard breaks."""
        lines = [_escaped(line) for line in _lines(message, links)]
        # At the end of a paragraph there is no hard break: its backslash would be shown.
        while lines and not lines[-1]:
            lines.pop()
        said = "\\\n  ".join(lines)
        head = f"- **{_escaped(in_line(message.sender))}**"
        words = [head, _escaped(_about(message)), _escaped(_time(message)), said]
        return " ".join(filter(None, words)) + "\n"


def _time(message: Message) -> str:
    """The time of day; dashes if the message has no time."""
    return message.sent[11:19] if message.sent else "--:--:--"


def _about(message: Message) -> str:
    """Its kind, and its edit or deletion, in a place that the text of a message never takes."""
    became = "edited" if message.edited_at else ""
    if message.deleted_at:
        became = f"deleted {minute(message.deleted_at)}"
    unknown = UNKNOWN if message.content is None else ""
    told = ", ".join(filter(None, [in_line(message.kind), became, unknown]))
    return f" ({told})" if told else ""


def _lines(message: Message, links: Links | None) -> list[str]:
    """The lines of its text, and the names of its files; with *links*, their paths as well."""
    content = message.content or ""
    text = [visible(line) for line in LINE_ENDS.split(content)] if content else []
    for file in message.attachments or ():
        name = str(file.get("file_name") or "a file")
        told = [in_line(name)] if name != content else []
        if links is not None:
            told.append(links.path(file) or NOT_KEPT)
        text += [f"[{': '.join(told)}]"] if told else []
    return text


def _escaped(text: str) -> str:
    return _MARKS_IN_FRONT.sub(r"\1\\\2", _MARKS.sub(r"\\\1", text.strip()))
