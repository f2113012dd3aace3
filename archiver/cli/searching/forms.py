"""Results of a search for programs, and the cursors with which a search is continued."""

import csv
import json
import sys
from base64 import b32decode, b32encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from struct import Struct, error
from typing import Any
from zlib import crc32

import click
from typing_extensions import override

from archiver.cli.searching.finding import Shown
from archiver.cli.terminal import is_terminal, make_safe, show_json
from archiver.cli.zones import on_clock
from archiver.domain.model import is_private
from archiver.store.search import Hit
from archiver.store.search_showing import Found, Neighbour

WEB = "https://www.flowdock.com/app"
COLUMNS = (
    "flow", "id", "sent", "nick", "event", "content", "said", "tags", "thread_id", "edited_at",
    "deleted_at", "link", "cursor",
)  # fmt: skip

_CURSOR = Struct(">qIqH")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def write_cursor(hit: Hit) -> str:
    """A cursor with which a search goes on after *hit*."""
    place = ((hit.said_at - _EPOCH) // _MICROSECOND, hit.flow_key, hit.message_id)
    return b32encode(_CURSOR.pack(*place, _check(*place))).decode().lower().rstrip("=")


def read_cursor(told: str) -> Hit:
    """The hit of a cursor.

    Raises:
        ValueError, OverflowError: *told* is not a cursor that `write_cursor` has written.
    """
    try:
        padded = told.strip().upper() + "=" * (-len(told.strip()) % 8)
        micros, flow_key, id_, check = _CURSOR.unpack(b32decode(padded))
    except (error, ValueError) as exc:
        raise ValueError(f"no cursor: {told!r}") from exc
    if check != _check(micros, flow_key, id_):
        raise ValueError(f"no cursor: {told!r}")
    return Hit(_EPOCH + micros * _MICROSECOND, flow_key, id_)


def _check(*place: int) -> int:
    return crc32(repr(place).encode()) & 0xFFFF


class Cursor(click.ParamType[Hit]):
    """A cursor as an option: where to go on, as the previous search has printed it."""

    name = "cursor"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Hit:
        try:
            return read_cursor(str(value))
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a whole cursor: copy it from the last line of a search")


def link(message: Found) -> str | None:
    """The address at which Flowdock showed the message; None where that is not known.

    A private message has none that others can open. A flow has its id instead of its path until it
    is listed, or while another flow has that path, and the id makes no address.
    """
    path = message.flow
    if is_private(path) or path.count("/") != 1 or "@" in path:
        return None
    return f"{WEB}/{message.flow}/messages/{message.id}"


def print_json(shown: Sequence[Shown], zone: tzinfo | None) -> None:
    """Print one object for each message, each on a line."""
    for one in shown:
        line = json.dumps(_object(one, zone), ensure_ascii=False)
        show_json(line.encode(errors="backslashreplace").decode())


def print_csv(shown: Sequence[Shown], zone: tzinfo | None) -> None:
    """Print a header, and one row for each message; tags are a JSON list."""
    writer = csv.writer(sys.stdout)
    writer.writerow(COLUMNS)
    for one in shown:
        told = _object(one, zone)
        told["tags"] = json.dumps(told["tags"], ensure_ascii=False)
        cells = ["" if told[name] is None else str(told[name]) for name in COLUMNS]
        writer.writerow(map(make_safe, cells) if is_terminal() else cells)


def _object(one: Shown, zone: tzinfo | None) -> dict[str, Any]:
    message = one.message
    told: dict[str, Any] = {
        "flow": message.flow,
        "id": message.id,
        "sent": _time(message.sent_at, zone),
        "user_id": message.user_id,
        "nick": message.nick,
        "event": message.event,
        "content": message.content,
        "said": message.said if message.says_other else None,
        "tags": list(message.tags),
        "thread_id": message.thread_id,
        "edited_at": _time(message.edited_at, zone),
        "deleted_at": _time(message.deleted_at, zone),
        "files": list(message.file_names),
        "marks": [list(span) for span in one.marks],
        "link": link(message),
        "cursor": write_cursor(one.hit),
    }
    if one.around:
        told["before"] = [_near(n, zone) for n in one.around if n.id < message.id]
        told["after"] = [_near(n, zone) for n in one.around if n.id > message.id]
    return told


def _near(one: Neighbour, zone: tzinfo | None) -> Mapping[str, Any]:
    return {
        "id": one.id,
        "sent": _time(one.sent_at, zone),
        "nick": one.nick,
        "content": one.content,
        "deleted": one.is_deleted,
    }


def _time(at: datetime | None, zone: tzinfo | None) -> str | None:
    return None if at is None else on_clock(at, zone).isoformat()
