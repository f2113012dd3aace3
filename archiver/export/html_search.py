"""The texts for the search page, in a file for each flow and month.

The files are scripts, since a browser does not let a page that was opened from disk read others.
"""

from typing import Any
from urllib.parse import quote

import msgspec

from archiver.export.folder import Folder, Sink
from archiver.export.messages import Message, in_line, visible
from archiver.export.names import path_of
from archiver.store.exporting_choice import UNDATED

_encode = msgspec.json.Encoder().encode


class Shard:
    """The texts of one flow and month; without a sink, nothing is written."""

    def __init__(self, sink: Sink | None) -> None:
        self._sink = sink
        self._between = b"archive(["

    def add(self, messages: list[Message]) -> None:
        """Write the texts of *messages*."""
        rows = [_encode(_searched(one)) for one in messages]
        if self._sink is not None and rows:
            self._sink.write(self._between + b"\n" + b",\n".join(rows))
            self._between = b","

    def end(self) -> None:
        """Write the last line, without which the script is not valid."""
        if self._sink is not None:
            self._sink.write(b"archive([]);\n" if self._between != b"," else b"]);\n")


def list_shards(folder: Folder, flows: list[dict[str, Any]]) -> bytes:
    """As JSON: where the texts of each flow and month are, newest first and undated ones last."""
    places = {path_of(flow["name"]): flow for flow in flows}
    found = []
    for file in folder.files:
        if file.path.startswith("search/"):
            home, _, month = file.path.removeprefix("search/").removesuffix(".js").rpartition("/")
            data, path = quote(file.path), quote(home)
            flow = places[home]
            told = {"flow": in_line(flow["name"]), "title": in_line(flow["title"])}
            found.append({**told, "month": month, "path": path, "data": data})
    found.sort(key=lambda one: (one["month"] != UNDATED, one["month"], one["flow"]), reverse=True)
    return msgspec.json.encode(found)


def _searched(message: Message) -> list[Any]:
    time = message.sent[11:16] if message.sent else ""
    content = message.content or ""
    files = [str(one.get("file_name") or "") for one in message.attachments or ()]
    said = [visible(content), *(in_line(name) for name in files if name != content)]
    text = "\n".join(filter(None, said))
    return [message.id, message.day, time, in_line(message.sender), text, message.user_id]
