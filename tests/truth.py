"""The archive's public views against the simulator's statement of the truth, message by message."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from archiver.simulator.server import Simulator

ME = "1"


def differences(database_url: str, flowdock: Simulator, *, me: str = ME) -> list[str]:
    """Each difference as a line; none when the archive shows what the simulator shows."""
    truth = flowdock.world.truth()["flows"]
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        rows = connection.execute("SELECT * FROM archive.messages").fetchall()
    archived: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        archived.setdefault(row["flow"], {})[row["id"]] = row
    return [
        line
        for path, flow in truth.items()
        if (own := own_path(path, flow, me)) is not None
        for line in of_flow(own, flow, archived.get(own, {}))
    ]


def own_path(path: str, flow: dict[str, Any], me: str) -> str | None:
    """What the archive calls it; None for what the account cannot see."""
    if not path.startswith("private/"):
        return path if me in map(str, flow["members"]) else None
    members = [str(member) for member in flow["members"]]
    if me not in members:
        return None
    other = next(member for member in members if member != me)
    return f"private/{me}/{other}"


def of_flow(path: str, flow: dict[str, Any], rows: dict[int, dict[str, Any]]) -> Iterator[str]:
    known = {message["id"] for message in flow["messages"]}
    gone = {message["id"] for message in flow["gone"]}
    for message in flow["messages"]:
        row = rows.get(message["id"])
        if row is None:
            yield f"{path} {message['id']}: missing"
            continue
        for name, expected in expectations(message).items():
            if row[name] != expected:
                yield f"{path} {message['id']} {name}: {row[name]!r} is not {expected!r}"
    for id_ in sorted(rows.keys() - known - gone):
        yield f"{path} {id_}: not in the flow"
    for id_ in sorted(gone & rows.keys()):
        if rows[id_]["deleted_at"] is None:
            yield f"{path} {id_}: not marked as deleted"


def expectations(message: dict[str, Any]) -> dict[str, Any]:
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
    if message["event"] in {"message", "status", "line"}:
        expected["content"] = message["content"].replace("\x00", "\ufffd")
    if message["event"] == "comment":
        expected["content"] = message["content"]["text"].replace("\x00", "\ufffd")
    return expected


def moment(milliseconds: int | None) -> datetime | None:
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
