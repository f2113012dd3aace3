"""What frames say; and that none can raise, or be stored as something that it is not."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.domain.events import (
    ContentEdited,
    Decoded,
    Happening,
    MessageDeleted,
    Noted,
    Posted,
    ReactionChanged,
    Rejected,
    Rethreaded,
    Signal,
    TagsChanged,
    ThreadChanged,
    UnreadChange,
)
from archiver.flowdock.decode import decode, decode_any, decode_listed, decode_listed_any
from archiver.flowdock.envelope import MAX_DEPTH, Envelope, read, read_chat
from archiver.flowdock.readable import detail_of, sender_of, text_of

FLOW = "6f4a1c9e-0c34-4be2-9f3a-5d2b8b1e7a10"

CHAT: dict[str, Any] = {
    "app": "chat",
    "attachments": [],
    "created_at": "2014-03-02T09:30:00.250Z",
    "event": "message",
    "flow": FLOW,
    "id": 5100,
    "sent": 1393752600250,
    "tags": [],
    "user": "31",
    "uuid": "Zk3-q_1mBv0T",
}

THREAD = {
    "id": "aaaabbbbccccddddeeeeffff000",
    "title": "Door does not close",
    "body": "",
    "external_url": "https://tracker.example/7",
    "status": {"value": "open", "color": "green"},
    "fields": [],
    "source": {"id": 3, "application": {"id": 9, "name": "Tracker"}},
    "activities": 2,
    "internal_comments": 1,
    "external_comments": 0,
    "updated_at": "2014-03-02T09:31:00.000Z",
}

FILE = {
    "file_name": "plan.pdf",
    "content_type": "application/pdf",
    "file_size": 20480,
    "path": "/files/12/0123456789abcdef/plan.pdf",
}

INBOX = CHAT | {"app": "influx", "user": "0"}


def chat(**fields: Any) -> dict[str, Any]:
    return CHAT | fields


def change(event: str, **content: Any) -> dict[str, Any]:
    """An event that changes message 5000."""
    return chat(event=event, app=None, content={"message": 5000} | content)


MESSAGES = [
    chat(content="Good morning"),
    chat(event="status", content="at lunch"),
    chat(event="line", content="waves"),
    chat(event="comment", content={"title": "Parent", "text": "Agreed"}, tags=["influx:4999"]),
    chat(event="file", content=FILE, attachments=[FILE], tags=[":file"]),
    chat(event="action", content={"type": "join", "description": ""}),
    chat(event="user-edit", content={"user": {"id": 31, "nick": "Ada", "email": "a@b.example"}}),
    INBOX
    | {
        "event": "activity",
        "content": None,
        "title": 'opened <a href="https://tracker.example/7">#7</a>',
        "body": "<p>It sticks &amp; squeaks</p><p>badly</p>",
        "author": {"name": "Bo"},
        "thread_id": THREAD["id"],
        "thread": THREAD,
    },
    INBOX | {"event": "discussion", "content": None, "title": "said", "body": "Why?<br>How?"},
    INBOX | {"event": "mail", "content": {"subject": "Minutes", "content": "See below"}},
    INBOX | {"event": "rss", "content": {"title": "Release 2", "content": "It is out"}},
    INBOX | {"event": "twitter", "content": {"text": "hello #world", "user": {"name": "Bo"}}},
    INBOX | {"event": "vcs", "content": {"event": "push", "commits": [{"message": "Fix it"}]}},
    INBOX | {"event": "jira", "content": {"issue_key": "T-1", "issue_summary": "Broken"}},
]

MUTATIONS = [
    change("message-edit", updated_content="Good evening"),
    change("tag-change", add=["done"], remove=[":unread:31"]),
    change("message-delete"),
    change("emoji-reaction", emoji="+1", type="add"),
    chat(
        event="message-change",
        message_id=5000,
        patch=["thread_id"],
        content={"thread_id": THREAD["id"]},
    ),
    chat(event="thread-change", thread_id=THREAD["id"], content=THREAD),
]

SIGNALS = [
    chat(event="activity.user", content={"last_activity": 1393752600000}, persist=False),
    chat(event="message-receive", content={"message": 5000}, persist=False),
    {"event": "presence", "content": {"user_id": 31, "state": 2000000}, "user_id": 31},
    {"event": "flow-add", "user": 31, "content": {"id": FLOW, "name": "Main", "open": True}},
    {"event": "flow-remove", "user": 31, "content": {"id": FLOW}},
    {"event": "markers", "content": {"read": {"flows": {FLOW: 5000}}}},
]

EVENTS = [*MESSAGES, *MUTATIONS, *SIGNALS]

HUGE = {"@float": "-1e999", "@int": "9" * 5000}
"""Numbers that Python cannot hold, by the placeholders that `dumps` replaces with them."""

texts = st.text(
    st.characters(codec=None, exclude_categories=[]) | st.sampled_from("\0\ud800\udfff")
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 2**63 - 1, 2**63, 10**400, *HUGE])
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.sampled_from(["influx:9", "2014-03-02T09:30:00Z", "0001-01-01T00:00:00+23:59"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """An event of a real shape in which some values, at any depth, are replaced by others."""
    event: dict[str, Any] = json.loads(json.dumps(draw(st.sampled_from(EVENTS))))
    for _ in range(draw(st.integers(1, 3))):
        place = event
        key = draw(st.sampled_from([*event, "thread", "emojiReactions", "edited", "to", "persist"]))
        while isinstance(inner := place.get(key), dict) and inner and draw(st.booleans()):
            place, key = inner, draw(st.sampled_from(list(inner)))
        place[key] = draw(values)
    return event


def dumps(value: Any) -> bytes:
    """JSON text in which the placeholders are replaced by the huge numbers."""
    text = json.dumps(value)
    for sign, literal in HUGE.items():
        text = text.replace(f'"{sign}"', literal)
    return text.encode()


def frame(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()


def shown(event: dict[str, Any]) -> Any:
    """The decoded event, typed so that a test can read any field."""
    return decode(frame(event))


def texts_in(value: Any) -> Iterator[str]:
    """Every text that a value holds, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_in(item)
    elif isinstance(value, msgspec.Struct):
        yield from texts_in(msgspec.structs.asdict(value))


def assert_sound(read: Callable[[bytes], Decoded], content: bytes) -> Decoded:
    """Assert that *read* gives a value of the union, each time the same, and storable."""
    value: Decoded = read(content)
    again = read(content)

    assert type(value) in get_args(Decoded)
    assert value == again
    for text in texts_in(value):
        assert "\0" not in text
        text.encode()
    json.dumps([getattr(value, "detail", None), getattr(getattr(value, "thread", 0), "detail", 0)])
    if not isinstance(value, Signal | Rejected):
        assert 0 < value.id < 2**63
        assert value.kind
    return value


@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_raise(content: Any) -> None:
    assert_sound(decode, content)
    assert not isinstance(assert_sound(decode_listed, content), Signal)


@given(st.dictionaries(st.sampled_from([*EVENTS[0], "thread", "content"]) | texts, values))
def test_no_json_object_raises(value: Any) -> None:
    content = dumps(value)
    assert_sound(decode, content)
    assert not isinstance(assert_sound(decode_listed, content), Signal)


@given(mutated())
def test_no_event_of_a_nearly_right_shape_raises(event: Any) -> None:
    content = dumps(event)
    assert_sound(decode, content)
    assert not isinstance(assert_sound(decode_listed, content), Signal)


@given(st.sampled_from(EVENTS), st.data())
def test_no_damaged_frame_raises(event: Any, data: Any) -> None:
    content = bytearray(frame(event))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    assert_sound(decode, bytes(content))


@given(st.sampled_from(EVENTS), st.sampled_from(["content", "tags", "title", "body"]), st.text())
def test_both_ways_of_reading_json_agree(event: Any, field: Any, text: Any) -> None:
    """A lone surrogate elsewhere makes a frame take the careful path, which must mean the same."""
    fields = {"content": text, "tags": [text], "title": text, "body": text}
    plain = event | {field: fields[field].replace("\0", "") if field != "tags" else fields[field]}
    careful = frame(plain)[:-1] + b', "elsewhere": "\\ud800"}'

    assert decode(careful) == decode(frame(plain))


@pytest.mark.parametrize("event", MESSAGES, ids=lambda event: event["event"])
def test_every_kind_of_message_is_a_message_streamed_and_listed(event: Any) -> None:
    streamed = decode(frame(event))

    assert isinstance(streamed, Posted)
    assert streamed == decode_listed(frame(event)) == decode_listed_any(frame(event))
    assert (streamed.id, streamed.flow, streamed.kind) == (5100, FLOW, event["event"])
    assert streamed.sent_at == datetime(2014, 3, 2, 9, 30, 0, 250_000, UTC)


@pytest.mark.parametrize(
    "event",
    [*MESSAGES, INBOX | {"event": "activity", "content": "more", "title": "opened", "body": "now"}],
    ids=lambda event: event["event"],
)
def test_a_message_is_stored_with_its_readable_text_and_what_there_is_beside_it(event: Any) -> None:
    kind, body = event["event"], read(frame(event))
    assert isinstance(body, Envelope)
    message = shown(event)

    assert message.content == text_of(kind, body)
    assert message.detail == detail_of(kind, body)
    assert message.external_user_name == sender_of(kind, body)


@pytest.mark.parametrize("event", MUTATIONS, ids=lambda event: event["event"])
def test_every_kind_of_change_is_a_change_streamed_and_listed(event: Any) -> None:
    streamed = decode(frame(event))

    assert isinstance(streamed, get_args(Happening))
    assert not isinstance(streamed, Posted | Noted)
    assert streamed == decode_listed(frame(event)) == decode_listed_any(frame(event))


@pytest.mark.parametrize("event", SIGNALS, ids=lambda event: event["event"])
def test_what_the_service_never_stores_is_a_signal(event: Any) -> None:
    assert isinstance(decode(frame(event)), Signal)


def test_of_a_field_given_twice_the_last_counts() -> None:
    twice = b'{"event":"action","id":1,"flow":"f","sent":1,"sent":"2014-03-02T09:30:00Z"}'

    event = decode(twice)
    assert isinstance(event, Posted)
    assert event.sent_at == datetime(2014, 3, 2, 9, 30, tzinfo=UTC)


def test_a_private_message_names_no_flow() -> None:
    event = {k: v for k, v in chat(content="x", to="32", id=9492901419).items() if k != "flow"}
    posted = shown(event)

    assert (posted.flow, posted.to, posted.id) == (None, "32", 9492901419)


@pytest.mark.parametrize(
    "event_id", [0, -1, 2**63, 10**30, 1.0, "5", True, [], {}], ids=lambda value: repr(value)[:20]
)
def test_an_id_is_a_positive_64_bit_number(event_id: Any) -> None:
    event = chat(content="x", id=event_id)

    why = "an id out of range" if type(event_id) in {int, float} else "an id that is no number"
    assert decode(frame(event)) == decode_listed(frame(event)) == Rejected(reason=why)
    assert isinstance(decode(frame(chat(content="x", id=2**63 - 1))), Posted)


@pytest.mark.parametrize("kind", ["message", "tag-change", "message-delete"])
def test_what_makes_or_changes_a_message_is_rejected_without_an_id(kind: Any) -> None:
    assert decode(frame({"event": kind, "flow": FLOW})) == Rejected(reason="no id")


@pytest.mark.parametrize("kind", ["flow-change", "user-change", "never-heard-of"])
def test_anything_else_without_an_id_is_a_signal(kind: Any) -> None:
    signal = decode(frame({"event": kind, "flow": FLOW, "user": 3}))

    assert isinstance(signal, Signal)
    assert (signal.kind, signal.flow, signal.user) == (kind, FLOW, "3")


@pytest.mark.parametrize("kind", [None, "", 5, [], "x" * 300])
def test_an_event_without_kind_is_rejected(kind: Any) -> None:
    assert decode(frame(chat(event=kind))) == Rejected(reason="no kind of event")


def test_what_is_never_listed_is_noted_though_its_kind_is_a_message() -> None:
    event = chat(content="x", persist=False)

    assert isinstance(decode(frame(event)), Noted)
    assert isinstance(decode_listed(frame(event)), Posted)


@pytest.mark.parametrize("kind", ["flow-change", "user-change", "backend.user.block", "unheard-of"])
def test_other_kinds_are_noted_when_streamed_and_messages_when_listed(kind: Any) -> None:
    event = chat(event=kind, content="31")

    assert isinstance(decode(frame(event)), Noted)
    assert isinstance(decode_listed(frame(event)), Posted)


def test_a_comment_belongs_to_the_message_of_its_tag() -> None:
    parents = {"influx:4999": 4999, "influx:x": None, ":influx:4999": None, "influx:0": None}
    for tag, parent in parents.items():
        assert shown(chat(event="comment", content={}, tags=["a", tag])).parent == parent


def test_an_edit_tells_text_tags_and_kind() -> None:
    plain = decode(frame(change("message-edit", updated_content="")))
    full = decode(
        frame(
            change(
                "message-edit",
                updated_content={"title": "T", "text": "new"},
                updated_tags=["A", "a"],
                updated_event="comment",
            )
        )
    )

    assert isinstance(plain, ContentEdited)
    assert (plain.target, plain.content, plain.detail, plain.tags) == (5000, "", None, None)
    assert isinstance(full, ContentEdited)
    assert (full.content, full.detail) == ("new", {"title": "T"})
    assert (full.tags, full.new_kind) == (("A",), "comment")


def test_an_edit_may_tell_tags_alone_or_the_kind() -> None:
    tags = decode(frame(change("message-edit", updated_tags=["A"])))
    kind = decode(frame(change("message-edit", updated_event="line")))

    assert isinstance(tags, ContentEdited)
    assert (tags.content, tags.detail, tags.tags, tags.new_kind) == (None, None, ("A",), None)
    assert isinstance(kind, ContentEdited)
    assert (kind.content, kind.detail, kind.tags, kind.new_kind) == (None, None, None, "line")


def test_changes_tell_what_they_change() -> None:
    tags = decode(frame(change("tag-change", add=["a"], remove=None)))
    off = decode(frame(change("emoji-reaction", emoji="+1", type="remove")))
    moved = decode(frame(MUTATIONS[4]))

    assert isinstance(tags, TagsChanged)
    assert (tags.target, tags.added, tags.removed) == (5000, ("a",), ())
    assert isinstance(off, ReactionChanged)
    assert (off.target, off.emoji, off.present, off.user) == (5000, "+1", False, "31")
    assert isinstance(moved, Rethreaded)
    assert (moved.target, moved.thread_id) == (5000, THREAD["id"])
    assert isinstance(decode(frame(MUTATIONS[2])), MessageDeleted)
    assert isinstance(decode(frame(MUTATIONS[5])), ThreadChanged)


@pytest.mark.parametrize(
    "event",
    [
        *[
            change(kind, message=None)
            for kind in ("message-delete", "tag-change", "emoji-reaction")
        ],
        change("tag-change", message="5000"),
        change("tag-change", message=5100),
        change("message-edit", message=0, updated_content="x"),
        change("message-edit", message=5101),
        chat(event="message-edit", content="x"),
        chat(event="message-change", patch=["thread_id"], content={"thread_id": "t"}),
        chat(event="thread-change", content={"title": "T"}),
        chat(event="thread-change", content=None, thread_id="t"),
    ],
)
def test_a_change_that_does_not_say_what_it_changes_may_have_changed_anything(
    event: Any,
) -> None:
    noted = decode(frame(event))

    assert isinstance(noted, Noted)
    assert noted.may_change_any


@pytest.mark.parametrize(
    "event",
    [
        change("message-edit"),
        change("message-edit", updated_content=None),
        change("message-edit", updated_content={"title": "T"}),
        change("tag-change"),
        change("tag-change", add={"a": True}, remove=[]),
        change("emoji-reaction", emoji="+1", type="toggle"),
        change("emoji-reaction", emoji="", type="add"),
        change("emoji-reaction", emoji="+1", type="add") | {"user": None},
        chat(event="message-change", message_id=5000, patch=["tags"], content={"tags": []}),
    ],
)
def test_of_a_change_that_does_not_say_to_what_the_message_is_known(event: Any) -> None:
    unread = decode(frame(event))

    assert isinstance(unread, UnreadChange)
    assert unread.target == 5000
    assert decode_listed(frame(event)) == unread


@pytest.mark.parametrize(
    "event",
    [
        change("message-edit", updated_content="x", updated_tags={"todo": True}),
        change("message-edit", updated_content="x", updated_tags=["a", {"name": "b"}]),
        change("message-edit", updated_content="x", updated_event=7),
        change("message-edit", updated_content=["x"], updated_tags=["a"]),
        change("tag-change", add=["a"], remove={"b": True}),
        change("tag-change", add=["a", None]),
        chat(event="message-change", message_id=5000, content={"thread_id": {"id": "t"}}),
        chat(event="message-change", message_id=5000, patch=["thread_id", "tags"], thread_id="t"),
    ],
)
def test_a_change_that_can_be_read_in_part_alone_is_not_guessed_at(event: Any) -> None:
    unread = decode(frame(event))

    assert isinstance(unread, UnreadChange)
    assert unread.target == 5000


@pytest.mark.parametrize("value", [["a", 7], "a,b", None, [], "", ["a", "x" * 651, ""]], ids=repr)
def test_tags_of_a_change_come_in_all_forms_in_which_a_message_has_them(value: Any) -> None:
    edited = decode(frame(change("message-edit", updated_content="x", updated_tags=value)))
    tagged = decode(frame(change("tag-change", add=["on"], remove=value)))

    assert isinstance(edited, ContentEdited)
    assert isinstance(tagged, TagsChanged)
    assert (edited.tags or ()) == tagged.removed


@pytest.mark.parametrize(
    "event",
    [
        chat(event="flow-change", content={"name": "F"}),
    ],
)
def test_what_changes_no_message_leaves_no_doubt_of_any(event: Any) -> None:
    noted = decode(frame(event))

    assert isinstance(noted, Noted)
    assert not noted.may_change_any


def test_signals_name_their_flow_and_user_where_they_can() -> None:
    presence, added = shown(SIGNALS[2]), shown(SIGNALS[3])

    assert (presence.user, presence.flow, presence.id) == ("31", None, None)
    assert (added.user, added.flow, added.id) == ("31", FLOW, None)
    assert shown(SIGNALS[0]).id == 5100


def test_how_far_somebody_has_read_is_a_signal_whatever_it_is_called() -> None:
    for kind in ("markers", "unheard-of"):
        assert isinstance(shown(chat(event=kind, content={"read": {"flows": {}}})), Signal)
        assert isinstance(shown(chat(event=kind, content={"read": {"pages": {}}})), Noted)


def test_a_move_may_be_told_by_the_message_itself() -> None:
    event = chat(event="message-change", message_id=5000, patch=["thread_id"], thread_id="t")
    for content in ({}, {"thread": THREAD}):
        moved = shown(event | {"content": content})
        assert isinstance(moved, Rethreaded)
        assert (moved.target, moved.thread_id) == (5000, "t")


@pytest.mark.parametrize("event", [chat(content="hi"), SIGNALS[0]], ids=lambda one: one["event"])
def test_whichever_time_is_told_is_when_it_was_sent(event: Any) -> None:
    sent, created = ({"sent": None}, {"created_at": None})
    for untold in ({}, sent, created):
        assert shown(event | untold).sent_at == datetime(2014, 3, 2, 9, 30, 0, 250_000, UTC)
    assert shown(event | sent | created).sent_at is None


UNUSUAL: list[dict[str, Any]] = [
    {},
    {"content": 'größer \u4e16 \ud83d\ude00 \\ "'},
    {"content": {"title": "t"}},
    {"content": None},
    {"tags": ["Plan", "plan", "x"]},
    {"tags": ["", 7]},
    {"tags": "a,b"},
    {"tags": None},
    {"id": 2**63},
    {"id": 0},
    {"id": 7.0},
    {"id": "7"},
    {"user": 31},
    {"user": ""},
    {"user": None},
    {"flow": None, "to": "4"},
    {"flow": "x" * 256},
    {"sent": -1},
    {"sent": 4_000_000_000_000},
    {"sent": None},
    {"edited": 1393752700250},
    {"persist": False},
    {"persist": True},
    {"attachments": [FILE]},
    {"attachments": None},
    {"emojiReactions": {"tada": ["3"]}},
    {"thread_id": "t1"},
    {"thread_id": ""},
    {"thread_id": "t1", "thread": THREAD},
    {"thread": THREAD},
    {"thread": []},
    {"thread": {"title": "without an id"}},
    {"app": 1},
    {"uuid": None},
    {"external_user_name": "Robot"},
    {"unknown": [[[{"deep": 1}]]]},
]


@pytest.mark.parametrize("change", UNUSUAL, ids=repr)
def test_a_chat_message_is_read_alike_fast_and_slow(change: dict[str, Any]) -> None:
    frame = json.dumps({**CHAT, "content": "hello", **change}, separators=(",", ":")).encode()
    assert decode(frame) == decode_any(frame)
    assert decode_listed(frame) == decode_listed_any(frame)


UNSTORABLE = {
    "NUL": b'"a\\u0000b"',
    "lone surrogate": b'"a\\ud800b"',
    "not UTF-8": b'"a\xffb"',
    "abyss": b'{"x":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
}


@pytest.mark.parametrize("name", ["content", "thread", "unknown"])
@pytest.mark.parametrize("value", UNSTORABLE.values(), ids=UNSTORABLE)
def test_a_chat_message_that_cannot_be_stored_is_read_alike_fast_and_slow(
    name: str, value: bytes
) -> None:
    plain = json.dumps({**CHAT, "content": "hello", name: 0}, separators=(",", ":")).encode()
    frame = plain.replace(f'"{name}":0'.encode(), f'"{name}":'.encode() + value)
    assert decode(frame) == decode_any(frame)
    assert decode_listed(frame) == decode_listed_any(frame)


def test_nearly_all_chat_messages_are_read_fast() -> None:
    frame = json.dumps({**CHAT, "content": "hello"}, separators=(",", ":")).encode()
    assert read_chat(frame) is not None
