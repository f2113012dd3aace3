"""The comparison finds every kind of difference, and none where there is none."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from archiver.cli.demonstration.comparison import compare, compare_files, read_contents, read_truth

SENT = datetime(2023, 7, 1, 12, 0, 0, 123_000, tzinfo=UTC)
EDITED = SENT + timedelta(seconds=5, milliseconds=1)
FILE = {
    "path": "/files/8/0c/notes.txt",
    "file_name": "notes.txt",
    "file_size": 201,
    "content_type": "text/plain",
}
Records = list[dict[str, Any]]


def milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def told(id_: int, content: Any, **fields: Any) -> dict[str, Any]:
    """A message as the simulator's truth has it."""
    return {
        "kind": "message",
        "flow": "acme/main",
        "id": id_,
        "event": "message",
        "user": "1",
        "to": None,
        "sent": milliseconds(SENT),
        "edited": None,
        "deleted": False,
        "content": content,
        "tags": [],
        "thread_id": "T",
        "attachments": [],
        "emojiReactions": {},
        "app": "chat",
        "uuid": f"u{id_}",
        "external_user_name": None,
        **fields,
    }


def truth() -> Records:
    return [
        {"kind": "user", "id": 1, "nick": "Anna"},
        {"kind": "flow", "flow": "acme/main", "head": 9, "stored": 5, "members": [1, 2]},
        {
            "kind": "thread",
            "id": "T",
            "flow": "acme/main",
            "title": "hello",
            "status": {"color": "green", "value": "open"},
            "external_url": None,
            "activities": 0,
            "internal_comments": 2,
            "external_comments": 0,
            "updated_at": "2023-07-01T12:00:00.123Z",
        },
        told(1, "hello\x00 you", tags=["b", "a"], emojiReactions={"🎉": ["2", "1"]}),
        told(2, "", edited=milliseconds(EDITED), deleted=True),
        told(
            3, {"title": "hello", "text": "indeed"}, event="comment", tags=["influx:1"],
            edited=milliseconds(EDITED),
        ),
        told(4, FILE, event="file", attachments=[FILE], tags=[":file"]),
        told(
            5, None, event="activity", user="0", app="influx", title="pushed", body="<b>x</b>",
            author={"name": "Zoë"},
        ),
        {"kind": "gone", "flow": "acme/main", "id": 6, "event": "file"},
        {"kind": "conversation", "flow": "private/1/2", "head": 7, "stored": 1, "members": [1, 2]},
        told(7, "psst", flow="private/1/2", to="2", thread_id=None, external_user_name="X"),
        {"kind": "conversation", "flow": "private/2/3", "head": 8, "stored": 1, "members": [2, 3]},
        told(8, "not for 1", flow="private/2/3", to="3", thread_id=None),
        {"kind": "flow", "flow": "acme/closed", "head": 1, "stored": 1, "members": [2]},
        told(1, "nor this", flow="acme/closed"),
    ]  # fmt: skip


def row(id_: int, content: str, **fields: Any) -> dict[str, Any]:
    """A row of archive.messages."""
    return {
        "flow": "acme/main",
        "id": id_,
        "event": "message",
        "user_id": "1",
        "sent": SENT,
        "content": content,
        "tags": [],
        "thread_id": "T",
        "edited_at": None,
        "deleted_at": None,
        "attachments": [],
        "reactions": {},
        "app": "chat",
        "uuid": f"u{id_}",
        "external_user_name": None,
        "detail": None,
        **fields,
    }


def messages() -> Records:
    attachment = {
        "path": "/files/8/0c/notes.txt",
        "file_name": "notes.txt",
        "size_bytes": 201,
        "content_type": "text/plain",
    }
    activity = {"title": "pushed", "body": "<b>x</b>", "author": {"name": "Zoë"}}
    return [
        row(1, "hello\ufffd you", tags=["a", "b"], reactions={"🎉": ["1", "2"]}),
        row(2, "", edited_at=EDITED, deleted_at=EDITED),
        row(
            3, "indeed", event="comment", tags=["influx:1"], edited_at=EDITED,
            detail={"title": "hello"},
        ),
        row(4, "notes.txt", event="file", tags=[":file"], attachments=[attachment], detail=FILE),
        row(
            5, "pushed\nx", event="activity", user_id="0", app="influx", detail=activity,
            external_user_name="Zoë",
        ),
        row(7, "psst", flow="private/1/2", thread_id=None, external_user_name="X"),
    ]  # fmt: skip


def threads() -> Records:
    return [
        {
            "flow": "acme/main",
            "thread_id": "T",
            "title": "hello",
            "status": "open",
            "external_url": None,
            "activities": 0,
            "internal_comments": 2,
            "external_comments": 0,
            "updated_at": SENT,
        }
    ]


def found(held: Records, shown: Records, *, me: int = 1) -> list[tuple[str, str, str]]:
    differences = compare(read_truth(truth(), me=me), held, shown)
    return [(one.flow, one.id, one.field) for one in differences]


def test_an_equal_archive_has_no_difference() -> None:
    assert found(messages(), threads()) == []


def test_a_private_conversation_is_named_for_who_reads_it() -> None:
    assert "private/2/1" in read_truth(truth(), me=2)
    assert "acme/main" not in read_truth(truth(), me=3)


def test_what_the_archive_saw_before_it_was_gone_may_stay_if_it_is_marked() -> None:
    gone = row(6, "old.txt", event="file")
    assert found([*messages(), gone], threads()) == [("acme/main", "6", "deleted")]
    assert found([*messages(), {**gone, "deleted_at": SENT}], threads()) == []


PLANTED = {
    "event": "status",
    "user_id": "2",
    "sent": SENT + timedelta(milliseconds=1),
    "content": "hello",
    "tags": ["a"],
    "thread_id": None,
    "edited_at": EDITED,
    "deleted_at": EDITED,
    "attachments": [{"path": "/x"}],
    "reactions": {"🎉": ["1"]},
    "app": "influx",
    "uuid": None,
    "external_user_name": "Y",
    "detail": {"more": 1},
}
NAMES = {"user_id": "user", "edited_at": "edited", "deleted_at": "deleted"}


@pytest.mark.parametrize("column", PLANTED)
def test_a_planted_difference_is_found(column: str) -> None:
    held = messages()
    held[0][column] = PLANTED[column]
    assert ("acme/main", "1", NAMES.get(column, column)) in found(held, threads())


@pytest.mark.parametrize(
    ("at", "column", "value"),
    [
        (2, "content", "not at all"),
        (2, "detail", {"title": "other"}),
        (3, "content", "other.txt"),
        (3, "detail", None),
        (4, "detail", {"title": "pushed", "body": "", "author": None}),
        (1, "deleted_at", None),
        (5, "content", "pssst"),
    ],
)
def test_a_difference_in_what_is_not_plain_chat_is_found(
    at: int, column: str, value: object
) -> None:
    held = messages()
    held[at][column] = value
    (flow, id_, field), *_ = found(held, threads())
    assert (flow, id_) == (held[at]["flow"], str(held[at]["id"]))
    assert field == NAMES.get(column, column)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda held: held.pop(0), ("acme/main", "1", "row")),
        (lambda held: held.append(row(99, "made up")), ("acme/main", "99", "message")),
        (lambda held: held.append(row(8, "x", flow="acme/x")), ("acme/x", "", "messages")),
    ],
)  # fmt: skip
def test_a_row_too_few_or_too_many_is_found(
    change: Callable[[Records], object], difference: tuple[str, str, str]
) -> None:
    held = messages()
    change(held)
    assert found(held, threads()) == [difference]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("title", "other"),
        ("status", "closed"),
        ("external_url", "https://example.com"),
        ("activities", 1),
        ("internal_comments", 1),
        ("external_comments", None),
        ("updated_at", EDITED),
    ],
)
def test_a_difference_in_a_thread_is_found(column: str, value: object) -> None:
    shown = threads()
    shown[0][column] = value
    name = "updated" if column == "updated_at" else column
    assert found(messages(), shown) == [("acme/main", "thread T", name)]


def test_a_thread_too_few_or_too_many_is_found() -> None:
    assert found(messages(), []) == [("acme/main", "thread T", "row")]
    more = [*threads(), {**threads()[0], "thread_id": "U"}]
    assert found(messages(), more) == [("acme/main", "thread U", "thread")]


def test_files_are_compared_by_what_they_hold() -> None:
    records = [
        {"kind": "user", "id": 1},
        {"kind": "file", "path": "/files/1/a\x00", "file_size": 1, "sha256": "aa"},
        {"kind": "file", "path": "/files/2/b", "file_size": 1, "sha256": "bb"},
    ]
    contents = read_contents(records)
    row = {"flow": "acme/main", "message_id": 7, "position": 1, "sha256": "aa"}
    rows = [row | {"path": "/files/1/a\ufffd"}, row | {"path": "/files/of/what/is/gone"}]
    assert list(compare_files(contents, rows)) == []
    wrong = [row | {"path": "/files/2/b"}, row | {"path": "/files/2/b", "sha256": None}]
    assert [str(one) for one in compare_files(contents, wrong)] == [
        "acme/main 7: file 1 is 'aa', expected 'bb'",
        "acme/main 7: file 1 is '(missing)', expected 'bb'",
    ]
