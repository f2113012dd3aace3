"""Decodes frames to events: typed, total, pure.

`decode` is for what a stream sends, `decode_listed` for the elements of a page of List Messages.
Both return a value for any bytes: an event, a signal, or the reason why the frame cannot be placed.
They check and convert; what an event does to a message is decided in `archiver.domain.fold`.

Nearly every frame is a plain chat message. It is parsed as a `Chat`, whose fields need no further
checks. Any other is parsed as an `Envelope`, and its kind selects the reader. `decode_any` and
`decode_listed_any` read all frames in the second way and must give the same results.

An event of unknown kind becomes `Noted`, and so does a mutation that does not say what it changes;
a mutation that is understood only in part becomes an `UnreadChange`.
"""

from collections.abc import Callable
from datetime import UTC, datetime

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
from archiver.domain.model import EventId, FlowId, Json, UserId
from archiver.flowdock.envelope import Chat, Envelope, read, read_chat
from archiver.flowdock.fields import (
    are_tags,
    parent_of,
    read_attachments,
    read_flow,
    read_id,
    read_moment,
    read_name,
    read_reactions,
    read_tags,
    read_text,
    read_thread,
    read_thread_id,
    read_user,
)
from archiver.flowdock.readable import TITLED, beside_text, detail_of, sender_of, text_of

_CHAT = {"message", "comment", "status", "line", "file", "action", "user-edit"}
_INBOX = {"activity", "discussion", "mail", "twitter", "rss", "zendesk", "uservoice", "trello"}
_REPOSITORIES = {"vcs", "svn", "hg", "mercurial", "kiln", "perforce"}
_TRACKERS = {"jira", "confluence", "pivotaltracker"}
MESSAGES = frozenset(_CHAT | _INBOX | _REPOSITORIES | _TRACKERS)
"""The kinds that are messages: the service streams them, and lists them later."""

SIGNALS = frozenset({"activity.user", "message-receive", "presence", "flow-add", "flow-remove"})
"""The kinds that the service never stores. Read markers are signals too; only their content shows
what they are."""

JOINS = frozenset({"backend.user.join", "backend.join.user", "backend.rejoin.user"})
"""The kinds that report that `Event.user` has joined the flow."""

_MOVES = ("thread_id", "thread")
"""The attributes that change when a message moves to another thread."""


def decode(frame: bytes) -> Decoded:
    """Read one frame of a stream; never raise on what the server sends."""
    chat = read_chat(frame)
    return decode_any(frame) if chat is None else _said(chat)


def decode_any(frame: bytes) -> Decoded:
    """`decode` without the shortcut for plain chat messages, in twice the time."""
    body = read(frame)
    if isinstance(body, Rejected):
        return body
    kind = read_name(body.event)
    if kind in MESSAGES:
        # "persist: false" marks what List Messages will never show
        return _event(body, kind, _noted if body.persist is False else _posted)
    is_noted = kind not in MUTATIONS
    if kind in SIGNALS or (is_noted and _is_read_marker(body.content)):
        return _signal(body, kind or "read")
    if is_noted and kind is not None and body.id is None:
        # An event without an id has no place in the history of a flow.
        return _signal(body, kind)
    return _event(body, kind, MUTATIONS.get(kind or "", _unknown))


def member_of(decoded: Decoded) -> UserId | None:
    """The user who joined or left the flow, if *decoded* says so.

    The message types document an ``action`` for this, and Flowdock's clients know events of other
    kinds. An ``action`` about people who were added holds only nicks, so it names no user.
    """
    if isinstance(decoded, Noted):
        return decoded.member
    if not isinstance(decoded, Posted) or decoded.kind != "action":
        return None
    action = _object(decoded.detail)
    if action.get("type") == "block":
        return read_user(_object(action.get("description")).get("user"))
    return decoded.user if action.get("type") == "join" else None


def decode_listed(frame: bytes) -> Happening | Rejected:
    """Read one element of a page of List Messages: a message, unless it is a mutation."""
    chat = read_chat(frame)
    return decode_listed_any(frame) if chat is None else _said(chat)


def decode_listed_any(frame: bytes) -> Happening | Rejected:
    """`decode_listed` without the shortcut for plain chat messages, in twice the time."""
    body = read(frame)
    if isinstance(body, Rejected):
        return body
    kind = read_name(body.event)
    return _event(body, kind, MUTATIONS.get(kind or "", _posted))


Head = tuple[EventId, FlowId | None, UserId | None, str, UserId | None, datetime | None]
"""The fields of `Event`, in order."""

Read = Callable[[Envelope, Head], Happening]


def _event(body: Envelope, kind: str | None, read_as: Read) -> Happening | Rejected:
    event_id = read_id(body.id)
    if event_id is None:
        if body.id is None:
            return Rejected(reason="no id")
        is_number = type(body.id) in {int, float}
        return Rejected(reason="an id out of range" if is_number else "an id that is no number")
    if kind is None:
        return Rejected(reason="no kind of event")
    flow = read_flow(body.flow)
    to = None if body.to is None else read_user(body.to)
    sent_at = read_moment(body.sent) or read_moment(body.created_at)
    return read_as(body, (event_id, flow, to, kind, read_user(body.user), sent_at))


def _said(chat: Chat) -> Posted:
    """As `_posted`, but from fields that the parser has checked."""
    tags, thread_id, thread = chat.tags, chat.thread_id, None
    if len(tags) > 1:
        tags = read_tags(list(tags))
    if chat.thread is not None:
        thread = read_thread(chat.thread, thread_id)
        if thread_id is None and thread is not None:
            thread_id = thread.id
    return Posted(
        chat.id,
        chat.flow,
        None,
        "message",
        chat.user,
        datetime.fromtimestamp(chat.sent / 1000, UTC),
        chat.content,
        None,
        tags,
        None,
        thread_id,
        thread,
        None,
        (),
        (),
        chat.app,
        chat.uuid,
        chat.external_user_name,
    )


def _posted(body: Envelope, head: Head) -> Posted:
    # Most fields are absent from most messages: calling no reader for those saves half of the time.
    kind, content = head[3], body.content
    is_plain = isinstance(content, str) and kind not in TITLED
    tags = read_tags(body.tags) if body.tags else ()
    thread_id = None if body.thread_id is None else read_thread_id(body.thread_id)
    thread = None if body.thread is None else read_thread(body.thread, thread_id)
    if thread_id is None and thread is not None:
        thread_id = thread.id
    is_bare = is_plain and not body.attachments
    attachments = () if is_bare else read_attachments(body.attachments, kind, content)
    return Posted(
        *head,
        content if is_plain else text_of(kind, body),
        None if is_plain else detail_of(kind, body),
        tags,
        None if body.edited is None else read_moment(body.edited),
        thread_id,
        thread,
        parent_of(tags) if tags and kind != "message" else None,
        attachments,
        () if body.emojiReactions is None else read_reactions(body.emojiReactions),
        read_text(body.app),
        read_text(body.uuid),
        None if is_plain and body.external_user_name is None else sender_of(kind, body),
    )


def _noted(_body: Envelope, head: Head) -> Noted:
    return Noted(*head)


def _unknown(body: Envelope, head: Head) -> Noted:
    return Noted(*head, may_be_listed=body.persist is not False, member=_member(body, head))


def _member(body: Envelope, head: Head) -> UserId | None:
    """The user who joined or left the flow, if the event says so."""
    if head[3] == "backend.user.block":
        return read_user(body.content)
    return head[4] if head[3] in JOINS else None


def _signal(body: Envelope, kind: str) -> Signal:
    content = _object(body.content)
    flow = read_flow(body.flow)
    if flow is None and kind in {"flow-add", "flow-remove"}:
        flow = read_flow(content.get("id"))
    user = body.user if body.user is not None else body.user_id
    return Signal(
        kind=kind,
        flow=flow,
        to=read_user(body.to),
        user=read_user(user),
        sent_at=read_moment(body.sent) or read_moment(body.created_at),
        id=read_id(body.id),
    )


def _is_read_marker(content: Json) -> bool:
    read_up_to = content.get("read") if isinstance(content, dict) else None
    return isinstance(read_up_to, dict) and "flows" in read_up_to


def _object(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _unread(head: Head, target: EventId | None) -> UnreadChange | Noted:
    """A change that cannot be read; *target* is believed only if the change has a larger id."""
    if target is None or target >= head[0]:
        return Noted(*head, may_change_any=True)
    return UnreadChange(*head, target=target)


def _content_edited(body: Envelope, head: Head) -> ContentEdited | UnreadChange | Noted:
    content = _object(body.content)
    target, edit = read_id(content.get("message")), content.get("updated_content")
    text = edit.get("text") if isinstance(edit, dict) else edit
    tags, kind = content.get("updated_tags"), content.get("updated_event")
    new_kind = read_name(kind)
    changes = any(part is not None for part in (edit, tags, kind))
    is_read = are_tags(tags) and (edit is None or isinstance(text, str)) and kind == new_kind
    if target is None or not (changes and is_read):
        return _unread(head, target)
    return ContentEdited(
        *head,
        target=target,
        content=text if isinstance(text, str) else None,
        detail=beside_text(edit) if isinstance(edit, dict) else None,
        tags=None if tags is None else read_tags(tags),
        new_kind=new_kind,
    )


def _tags_changed(body: Envelope, head: Head) -> TagsChanged | UnreadChange | Noted:
    content = _object(body.content)
    target = read_id(content.get("message"))
    on, off = content.get("add"), content.get("remove")
    added, removed = read_tags(on), read_tags(off)
    if target is None or not (added or removed) or not (are_tags(on) and are_tags(off)):
        return _unread(head, target)
    return TagsChanged(*head, target=target, added=added, removed=removed)


def _message_deleted(body: Envelope, head: Head) -> MessageDeleted | UnreadChange | Noted:
    content = _object(body.content)
    target = read_id(content.get("message"))
    return _unread(head, target) if target is None else MessageDeleted(*head, target=target)


def _reaction_changed(body: Envelope, head: Head) -> ReactionChanged | UnreadChange | Noted:
    content = _object(body.content)
    target, emoji = read_id(content.get("message")), read_name(content.get("emoji"))
    present = {"add": True, "remove": False}.get(read_text(content.get("type")) or "")
    if target is None or emoji is None or present is None or head[4] is None:
        return _unread(head, target)
    return ReactionChanged(*head, target=target, emoji=emoji, present=present)


def _rethreaded(body: Envelope, head: Head) -> Rethreaded | UnreadChange | Noted:
    """Read ``message-change``: target at top level, attributes in content, their names in patch."""
    content = _object(body.content)
    target = read_id(body.message_id)
    patched = body.patch if isinstance(body.patch, list | dict) else ()
    moved = "thread_id" in content or "thread_id" in patched
    told = content.get("thread_id", body.thread_id)
    thread_id = read_thread_id(told)
    is_read = told == thread_id and all(name in _MOVES for name in patched)
    if target is None or not (moved and is_read):
        return _unread(head, target)
    thread = read_thread(content.get("thread", body.thread), thread_id)
    return Rethreaded(*head, target=target, thread_id=thread_id, thread=thread)


def _thread_changed(body: Envelope, head: Head) -> ThreadChanged | Noted:
    thread = read_thread(body.content, read_thread_id(body.thread_id))
    if thread is None:  # a listing of any of its messages shows the thread as it is now
        return Noted(*head, may_change_any=True)
    return ThreadChanged(*head, thread=thread)


MUTATIONS: dict[str, Read] = {
    "message-edit": _content_edited,
    "tag-change": _tags_changed,
    "message-delete": _message_deleted,
    "emoji-reaction": _reaction_changed,
    "message-change": _rethreaded,
    "thread-change": _thread_changed,
}
"""The kinds that change a message or a thread, and their readers."""
