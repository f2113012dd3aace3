"""The closed union of what can happen in a flow.

`archiver.flowdock.decode` makes these from frames; `archiver.domain.fold` makes messages from
them. All are subclasses of `Event`; the type checker verifies that each member of `Happening` is
handled. The decoder decides once which text a kind of message shows, so content here is plain text,
and `detail` holds what is not.

The cyclic garbage collector is told to skip these values (``gc=False``): none can be part of a
cycle, and scanning thousands of them again and again takes a fifth of the total time.
"""

from datetime import datetime

from msgspec import Struct

from archiver.domain.model import Attachment, EventId, FlowId, Json, Thread, ThreadId, UserId


class Event(Struct, frozen=True, gc=False):
    """The fields that all events have in common.

    The decoder creates hundreds of thousands of them, so the fields of `Event` and `Posted` may be
    passed by position: keyword arguments cost 1.3 µs more per instance.
    """

    id: EventId
    flow: FlowId | None
    """The flow that the event names; None in a private conversation, and in some listings."""
    to: UserId | None
    """The recipient of a private message; None in a flow."""
    kind: str
    """Flowdock's ``event``, as received."""
    user: UserId | None
    """The author of the event; ``"0"`` or None for an integration."""
    sent_at: datetime | None
    """None when the event has no time, or one that is not valid."""


class Posted(Event, frozen=True, gc=False):
    """A message as the service showed it: when new, on a stream, or as it is now, in a listing."""

    content: str
    detail: Json
    tags: tuple[str, ...]
    edited_at: datetime | None
    thread_id: ThreadId | None
    thread: Thread | None
    parent: EventId | None
    """The message that a comment belongs to: its ``influx:ID`` tag."""
    attachments: tuple[Attachment, ...]
    reactions: tuple[tuple[str, tuple[UserId, ...]], ...]
    app: str | None
    uuid: str | None
    external_user_name: str | None


class ContentEdited(Event, frozen=True, kw_only=True, gc=False):
    """Flowdock's ``message-edit``. An edit that empties a chat message deletes it."""

    target: EventId
    content: str | None
    """None when the edit leaves the text alone."""
    detail: Json
    """What ``updated_content`` holds besides text, as a comment's ``{title}``; otherwise None."""
    tags: tuple[str, ...] | None
    """``updated_tags``, the full list; None when the edit leaves the tags alone."""
    new_kind: str | None
    """``updated_event``; None when the kind of the message does not change."""


class TagsChanged(Event, frozen=True, kw_only=True, gc=False):
    """Flowdock's ``tag-change``: tags added to or removed from one message; also read receipts."""

    target: EventId
    added: tuple[str, ...]
    removed: tuple[str, ...]


class MessageDeleted(Event, frozen=True, kw_only=True, gc=False):
    """Flowdock's ``message-delete``, which deletes a file or an inbox item for good."""

    target: EventId


class ReactionChanged(Event, frozen=True, kw_only=True, gc=False):
    """Flowdock's ``emoji-reaction``: `Event.user` adds an emoji to a message or removes it."""

    target: EventId
    emoji: str
    present: bool


class Rethreaded(Event, frozen=True, kw_only=True, gc=False):
    """Flowdock's ``message-change`` with a ``thread_id``: a message moves to another thread."""

    target: EventId
    thread_id: ThreadId | None
    thread: Thread | None


class UnreadChange(Event, frozen=True, kw_only=True, gc=False):
    """A change of one message in an unknown form: only a listing can show what it changed."""

    target: EventId


class ThreadChanged(Event, frozen=True, kw_only=True, gc=False):
    """Flowdock's ``thread-change``: the thread's new state."""

    thread: Thread


class Vanished(Event, frozen=True, gc=False):
    """The service no longer has the message of this id: it is not listed, and Show answers 404.

    This is not an event of Flowdock's, but a finding of the archiver's: the event that reported the
    deletion must have been missed.
    """


class Noted(Event, frozen=True, kw_only=True, gc=False):
    """An event that is journalled and counted, but changes no message.

    It is about flows or people, is of an unknown kind, or is a change that cannot be read; nothing
    is guessed.
    """

    may_be_listed: bool = False
    """The kind is unknown, so it may be a message: only a listing can tell."""
    member: UserId | None = None
    """The user who joined or left the flow, if the event says so."""
    may_change_any: bool = False
    """It changes a message or a thread of its flow, but does not say which one, or how."""


Mutation = (
    ContentEdited | TagsChanged | MessageDeleted | ReactionChanged | Rethreaded | UnreadChange
)
"""A change of one message that exists already."""

Happening = Posted | Mutation | ThreadChanged | Vanished | Noted


class Signal(Struct, frozen=True, kw_only=True, gc=False):
    """What the service sends but never stores: presence, typing, receipts, read markers."""

    kind: str
    flow: FlowId | None
    to: UserId | None
    user: UserId | None
    sent_at: datetime | None
    id: EventId | None
    """Taken from the flow's sequence, if the signal has one: the flow's newest id grows, but no
    message is stored."""


class Rejected(Struct, frozen=True, kw_only=True):
    """Input that cannot be placed: not JSON, not an object, no id, no flow."""

    reason: str


Decoded = Happening | Signal | Rejected
