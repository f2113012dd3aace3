"""Transcripts for people: plain text, and Markdown in which chat stays chat.

A file for each flow and month, a heading for each day. What a message says over several lines is
indented below its first; in Markdown the marks of Markdown and HTML in it are escaped.
"""

import re

import msgspec
from msgspec import Struct
from typing_extensions import override

from archiver.export.folder import Folder
from archiver.export.writing import Reading, path_of
from archiver.store import exporting_rows
from archiver.store.exporting_choice import UNDATED, Part, Subject

_MARKS = re.compile(r"([\\`*_{}\[\]()#+!|<>~&-])")
_LINE_ENDS = re.compile(r"\r\n|[\n\r\x0b\x0c\x85\u2028\u2029]")
_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if code not in {9, 10, 13}}


class _Message(Struct):
    id: int
    event: str
    user_id: str | None
    nick: str | None
    sent: str | None
    content: str | None
    edited_at: str | None
    deleted_at: str | None
    external_user_name: str | None
    app: str | None
    attachments: list[dict[str, object]] | None = None

    @property
    def sender(self) -> str:
        """Who is said to have sent it."""
        person = self.user_id if self.user_id != "0" else None
        return self.nick or self.external_user_name or person or self.app or "integration"

    @property
    def time(self) -> str:
        """The time of day; dashes when it does not tell."""
        return self.sent[11:19] if self.sent else "--:--:--"

    @property
    def lines(self) -> list[str]:
        """What it says, and what became of it."""
        text = _LINE_ENDS.split((self.content or "").translate(_CONTROLS))
        if self.deleted_at:
            text = [*filter(None, text), f"(deleted {self.deleted_at[:16].replace('T', ' ')})"]
        elif self.edited_at:
            text[-1] += " (edited)"
        files = [str(file.get("file_name") or "a file") for file in self.attachments or ()]
        return [*text, *(f"[{name}]" for name in files if name != self.content)]


_DECODE = msgspec.json.Decoder(_Message)


class PlainText:
    """``[12:34:56] nick: what was said``."""

    subject: Subject = "messages"
    by_month = True
    suffix = "txt"

    async def write_part(self, reading: Reading, part: Part, folder: Folder) -> int:
        """Write ``organization/flow/2024-05.txt``."""
        rows, day = 0, ""
        with folder.file(f"{path_of(part.flow)}/{part.month}.{self.suffix}") as sink:
            sink.write(self.title(f"{part.flow} {part.month}").encode())
            async for line in exporting_rows.lines(
                exporting_rows.as_json(reading.tx, self.subject, part, reading.chosen)
            ):
                message = _DECODE.decode(line)
                if (of_day := message.sent[:10] if message.sent else UNDATED) != day:
                    day = of_day
                    sink.write(self.heading(day).encode())
                sink.write(self.entry(message).encode())
                rows += 1
                reading.count(1, part)
        return rows

    async def write_summary(self, reading: Reading, folder: Folder) -> None:
        """Write nothing: all is in the parts."""

    def title(self, text: str) -> str:
        """The first lines of a file."""
        return f"{text} (times are UTC)\n"

    def heading(self, day: str) -> str:
        """The lines that begin a day."""
        return f"\n== {day} ==\n\n"

    def entry(self, message: _Message) -> str:
        """The lines of a message."""
        first, *more = message.lines
        said = f"[{message.time}] {message.sender}: {first}\n"
        return said + "".join(f"    {line}\n" for line in more)


class Markdown(PlainText):
    """``- **nick** 12:34:56 what was said``."""

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
    def entry(self, message: _Message) -> str:
        """The lines of a message: an item of a list, with hard breaks."""
        said = "\\\n  ".join(_escaped(line) for line in message.lines)
        return f"- **{_escaped(message.sender)}** {message.time} {said}\n"


def _escaped(text: str) -> str:
    return _MARKS.sub(r"\\\1", text.strip())
