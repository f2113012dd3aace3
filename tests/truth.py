"""Compare the archive's public views with the simulator's truth, message by message.

To be independent, this shares no code with the archiver.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import dict_row

Record = dict[str, Any]


def differences(database_url: str, records: Iterable[Record], *, me: str = "1") -> list[str]:
    """Each difference as a line; an empty list if the archive shows what the simulator shows.

    *records* are those of ``/_simulator/truth``; only what the user *me* can see is compared.
    """
    with psycopg.connect(database_url) as connection:
        return differences_in(connection, records, me=me)


def differences_in(
    connection: psycopg.Connection, records: Iterable[Record], *, me: str = "1"
) -> list[str]:
    """The same as `differences`, on an open connection, for callers that compare often."""
    flows = by_flow(records, me)
    archived: dict[str, dict[int, Record]] = {}
    with connection.cursor(row_factory=dict_row) as cursor:
        for row in cursor.execute("SELECT * FROM archive.messages"):
            archived.setdefault(row["flow"], {})[row["id"]] = row
    return [line for path, flow in flows.items() for line in compare(path, flow, archived)]


def by_flow(records: Iterable[Record], me: str) -> dict[str, list[Record]]:
    """The records of messages by the path of their flow as *me* sees it."""
    paths: dict[str, str | None] = {}
    flows: dict[str, list[Record]] = {}
    for record in records:
        if record["kind"] in {"flow", "conversation"}:
            paths[record["flow"]] = own_path(record, me)
        path = paths.get(record.get("flow", ""))
        if path is not None and record["kind"] in {"message", "gone"}:
            flows.setdefault(path, []).append(record)
    return flows


def own_path(record: Record, me: str) -> str | None:
    """The path of a flow or conversation in *me*'s archive; None if *me* cannot see it."""
    members = [str(member) for member in record["members"]]
    if me not in members:
        return None
    if record["kind"] == "flow":
        return str(record["flow"])
    return f"private/{me}/{next(member for member in members if member != me)}"


def compare(
    path: str, records: Iterable[Record], archived: dict[str, dict[int, Record]]
) -> Iterator[str]:
    """The differences of one flow."""
    rows = archived.get(path, {})
    known = set()
    for record in records:
        known.add(record["id"])
        row = rows.get(record["id"])
        if record["kind"] == "gone":
            if row is not None and row["deleted_at"] is None:
                yield f"{path} {record['id']}: not marked as deleted"
        elif row is None:
            yield f"{path} {record['id']}: missing"
        else:
            for name, expected in expectations(record).items():
                if row[name] != expected:
                    yield f"{path} {record['id']} {name}: {row[name]!r} is not {expected!r}"
    for id_ in sorted(rows.keys() - known):
        yield f"{path} {id_}: not in the flow"


def expectations(message: Record) -> Record:
    """The values that the columns of ``archive.messages`` must have for *message*."""
    expected = {
        "event": message["event"],
        "user_id": message["user"],
        "sent": moment(message["sent"]),
        "edited_at": moment(message["edited"]),
        "tags": message["tags"],
        "thread_id": message["thread_id"],
        "reactions": message["emojiReactions"],
        "app": message["app"],
        "uuid": message["uuid"],
        "external_user_name": message["external_user_name"],
    }
    content = message["content"]
    if message["event"] == "comment" and isinstance(content, dict):
        content = content["text"]
    if message["event"] in {"message", "comment", "status", "line"}:
        expected["content"] = content.replace("\x00", "\ufffd")
    if message["event"] in {"activity", "discussion"}:
        expected["external_user_name"] = message["author"]["name"]
    return expected


def moment(milliseconds: int | None) -> datetime | None:
    """The time that is *milliseconds* after the beginning of 1970."""
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)
