"""Comparing an archive with a statement of the truth, row by row; no I/O.

The truth is what the simulator tells under ``/_simulator/truth``: records whose ``kind`` is
``flow``, ``conversation``, ``thread``, ``message``, ``gone`` or ``file``. The archive is what its
views show. Both are converted to one shape; a difference has a flow, an id, a field, and both
values.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from typing_extensions import override

Json = Any
Row = Mapping[str, Json]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
TITLED = frozenset({"activity", "discussion"})
MISSING = "(missing)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A value that is not the same in the archive as in the service."""

    flow: str
    id: str
    """The id of a message, or ``thread …`` for a thread; empty for the flow itself."""
    field: str
    expected: Json
    found: Json

    @override
    def __str__(self) -> str:
        place = f"{self.flow} {self.id}".rstrip()
        return f"{place}: {self.field} is {self.found!r}, expected {self.expected!r}"


@dataclass(slots=True)
class FlowTruth:
    """What is true of one flow or private conversation, by the name that the archive gives it."""

    newest: int = 0
    messages: dict[int, dict[str, Json]] = field(default_factory=dict)
    threads: dict[str, dict[str, Json]] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)

    @property
    def threads_in_use(self) -> set[str]:
        """The threads that messages name; the service never mentions others."""
        used = {message["thread_id"] for message in self.messages.values()}
        return used & self.threads.keys()


def read_truth(records: Iterable[Row], *, me: int) -> dict[str, FlowTruth]:
    """By the archive's name of each flow: what the user *me* can see of the truth."""
    truth: dict[str, FlowTruth] = {}
    names: dict[str, str] = {}
    for record in records:
        kind = record["kind"]
        if kind in {"flow", "conversation"}:
            name = _name(record, me)
            if name is not None:
                names[record["flow"]] = name
                truth[name] = FlowTruth()
            continue
        if kind in {"user", "file"} or record["flow"] not in names:
            continue
        true = truth[names[record["flow"]]]
        if kind == "message":
            true.messages[record["id"]] = expected_message(record)
            true.newest = max(true.newest, record["id"])
        elif kind == "thread":
            true.threads[record["id"]] = expected_thread(record)
        else:
            true.gone.add(record["id"])
    return truth


def _name(record: Row, me: int) -> str | None:
    """The archive's name of a flow or conversation; None when *me* is not a member of it."""
    members = record["members"]
    if me not in members:
        return None
    if record["kind"] == "flow":
        return str(record["flow"])
    other = next((member for member in members if member != me), me)
    return f"private/{me}/{other}"


def expected_message(record: Row) -> dict[str, Json]:
    """What `archived_message` should give for a message of the truth."""
    kind, content = record["event"], record["content"]
    expected = {
        "event": kind,
        "user": record["user"],
        "sent": record["sent"],
        "edited": record["edited"],
        "deleted": record["deleted"],
        "content": content if isinstance(content, str) else None,
        "tags": sorted(record["tags"]),
        "thread_id": record["thread_id"],
        "attachments": [_attachment(one) for one in record["attachments"]],
        "reactions": {emoji: sorted(who) for emoji, who in record["emojiReactions"].items()},
        "app": record["app"],
        "uuid": record["uuid"],
        "external_user_name": record["external_user_name"],
        "detail": None,
    }
    if kind == "comment" and isinstance(content, dict):
        rest = {name: value for name, value in content.items() if name != "text"}
        expected |= {"content": content["text"], "detail": rest}
    elif kind == "file" and isinstance(content, dict):
        expected |= {"content": content["file_name"], "detail": content}
    elif kind in TITLED:
        author = record["author"]
        expected["detail"] = {"title": record["title"], "body": record["body"], "author": author}
        if author is not None:
            expected["external_user_name"] = author["name"]
    elif content is not None and not isinstance(content, str):
        expected["detail"] = content
    return {name: _storable(value) for name, value in expected.items()}


def archived_message(row: Row) -> dict[str, Json]:
    """A row of ``archive.messages`` in the shape of `expected_message`."""
    # Only in these is the text all of the content; in others it is derived from the detail.
    plain = row["detail"] is None or row["event"] in {"comment", "file"}
    return {
        "event": row["event"],
        "user": row["user_id"],
        "sent": _milliseconds(row["sent"]),
        "edited": _milliseconds(row["edited_at"]),
        "deleted": row["deleted_at"] is not None,
        "content": row["content"] if plain else None,
        "tags": sorted(row["tags"]),
        "thread_id": row["thread_id"],
        "attachments": row["attachments"],
        "reactions": {emoji: sorted(who) for emoji, who in row["reactions"].items()},
        "app": row["app"],
        "uuid": row["uuid"],
        "external_user_name": row["external_user_name"],
        "detail": row["detail"],
    }


def expected_thread(record: Row) -> dict[str, Json]:
    """What `archived_thread` should give for a thread of the truth."""
    status = record["status"]
    expected = {
        "title": record["title"],
        "status": status["value"] if isinstance(status, dict) else status,
        "external_url": record["external_url"],
        "activities": record["activities"],
        "internal_comments": record["internal_comments"],
        "external_comments": record["external_comments"],
        "updated": _milliseconds(datetime.fromisoformat(record["updated_at"])),
    }
    return {name: _storable(value) for name, value in expected.items()}


def archived_thread(row: Row) -> dict[str, Json]:
    """A row of ``archive.threads`` in the shape of `expected_thread`."""
    same = "title", "status", "external_url"
    counts = "activities", "internal_comments", "external_comments"
    return {name: row[name] for name in (*same, *counts)} | {
        "updated": _milliseconds(row["updated_at"])
    }


def compare(
    truth: Mapping[str, FlowTruth], messages: Iterable[Row], threads: Iterable[Row]
) -> Iterator[Difference]:
    """Yield every difference between the truth and the rows of the archive's views."""
    held = _by_flow(messages, lambda row: row["id"])
    shown = _by_flow(threads, lambda row: row["thread_id"])
    for flow, true in truth.items():
        yield from _compare_messages(flow, true, held.pop(flow, {}))
        yield from _compare_threads(flow, true, shown.pop(flow, {}))
    for flow, rows in held.items():
        yield Difference(flow=flow, id="", field="messages", expected=0, found=len(rows))


def read_contents(records: Iterable[Row]) -> dict[str, str]:
    """The digest of each file's contents, by its path in messages."""
    contents = {one["path"]: one["sha256"] for one in records if one["kind"] == "file"}
    return {_storable(path): digest for path, digest in contents.items()}


def compare_files(contents: Mapping[str, str], attachments: Iterable[Row]) -> Iterator[Difference]:
    """Yield every file of ``archive.attachments`` whose contents are missing or wrong."""
    for row in attachments:
        expected = contents.get(row["path"])
        if expected is not None and row["sha256"] != expected:
            yield Difference(
                flow=row["flow"],
                id=str(row["message_id"]),
                field=f"file {row['position']}",
                expected=expected,
                found=row["sha256"] or MISSING,
            )


def _compare_messages(flow: str, true: FlowTruth, held: dict[int, Row]) -> Iterator[Difference]:
    for id_, expected in true.messages.items():
        row = held.get(id_)
        found = None if row is None else archived_message(row)
        yield from _compare_fields(flow, str(id_), expected, found)
    for id_ in sorted(held.keys() - true.messages.keys()):
        if id_ not in true.gone:
            content = held[id_]["content"]
            yield Difference(
                flow=flow, id=str(id_), field="message", expected=MISSING, found=content
            )
        elif held[id_]["deleted_at"] is None:
            yield Difference(flow=flow, id=str(id_), field="deleted", expected=True, found=False)


def _compare_threads(flow: str, true: FlowTruth, shown: dict[str, Row]) -> Iterator[Difference]:
    for id_ in sorted(true.threads_in_use | (true.threads.keys() & shown.keys())):
        row = shown.get(id_)
        found = None if row is None else archived_thread(row)
        yield from _compare_fields(flow, f"thread {id_}", true.threads[id_], found)
    for id_ in sorted(shown.keys() - true.threads.keys()):
        title = shown[id_]["title"]
        yield Difference(
            flow=flow, id=f"thread {id_}", field="thread", expected=MISSING, found=title
        )


def _compare_fields(
    flow: str, id_: str, expected: dict[str, Json], found: dict[str, Json] | None
) -> Iterator[Difference]:
    if found is None:
        told = expected.get("content") or expected.get("title")
        yield Difference(flow=flow, id=id_, field="row", expected=told, found=MISSING)
        return
    for name, value in expected.items():
        if found[name] != value:
            yield Difference(flow=flow, id=id_, field=name, expected=value, found=found[name])


def _by_flow(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[str, dict[Any, Row]]:
    found: dict[str, dict[Any, Row]] = {}
    for row in rows:
        found.setdefault(row["flow"], {})[key(row)] = row
    return found


def _attachment(described: Row) -> dict[str, Json]:
    return {
        "file_name": described["file_name"],
        "content_type": described["content_type"],
        "size_bytes": described["file_size"],
        "path": described["path"],
    }


def _storable(value: Json) -> Json:
    """*value* as Postgres can hold it: NUL and lone surrogates are shown as U+FFFD."""
    if isinstance(value, str):
        return "".join(
            "\ufffd" if letter == "\0" or "\ud800" <= letter <= "\udfff" else letter
            for letter in value
        )
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value


def _milliseconds(at: datetime | None) -> int | None:
    return None if at is None else (at - EPOCH) // MILLISECOND
