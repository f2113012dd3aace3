"""The closed union of what can happen in a flow.

`archiver.flowdock.decode` makes these from frames; `archiver.domain.fold` makes messages from
them. Every event has the base `Event`; a type checker counts the cases of `Happening`. Which text
a kind of message shows is decided once, when it is decoded: here content is text and `detail`.

The collector of cyclic garbage is told to leave them alone (``gc=False``): none can be part of a
cycle, and going through thousands of them again and again costs a fifth of all the time.
"""

from datetime import datetime

from msgspec import Struct

from archiver.domain.model import Attachment, EventId, FlowId, Json, Thread, ThreadId, UserId


class Event(Struct, frozen=True, gc=False):
    """What every event says of itself.

    Read one by one by the hundred thousand: its fields, and those of `Posted`, may be given by
    position, as names cost msgspec 1.3 µs more.
    """

    id: EventId
    flow: FlowId | None
    """The flow that the event names; None in a private conversation, and in some listings."""
    to: UserId | None
    """Who a private message is for; None in a flow."""
    kind: str
    """Flowdock's ``event``, as received."""
    user: UserId | None
    """Who did it; ``"0"`` or None for an integration."""
    sent_at: datetime | None
    """None when the event does not tell, or tells a time that does not exist."""


class Posted(Event, frozen=True, gc=False):
    """A message as the service showed it: new on the stream, or as it is now in a listing."""

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
    """Flowdock's ``message-edit``. Editing a chat message to nothing deletes it."""

    target: EventId
    content: str | None
    """None when the edit leaves the text alone."""
    detail: Json
    """What ``updated_content`` says beside text: a comment's ``{title}``; else None."""
    tags: tuple[str, ...] | None
    """``updated_tags``, the full list; None when the edit leaves the tags alone."""
    new_kind: str | None
    """``updated_event``; None when the message stays of its kind."""


class TagsChanged(Event, frozen=True, kw_only=True, gc=False):
    """Flowdock's ``tag-change``: tags put on or taken off one message, read receipts included."""

    target: EventId
    added: tuple[str, ...]
    removed: tuple[str, ...]


class MessageDeleted(Event, frozen=True, kw_only=True, gc=False):
    """Flowdock's ``message-delete``: a file or an inbox item is removed, not emptied."""

    target: EventId


class ReactionChanged(Event, frozen=True, kw_only=True, gc=False):
    """Flowdock's ``emoji-reaction``: `Event.user` puts an emoji on a message or takes it off."""

    target: EventId
    emoji: str
    present: bool


class Rethreaded(Event, frozen=True, kw_only=True, gc=False):
    """Flowdock's ``message-change`` that names ``thread_id``: a message moves to another thread."""

    target: EventId
    thread_id: ThreadId | None
    thread: Thread | None


class UnreadChange(Event, frozen=True, kw_only=True, gc=False):
    """A change of one message, in a form that nobody knows: only a listing tells what it did."""

    target: EventId


class ThreadChanged(Event, frozen=True, kw_only=True, gc=False):
    """Flowdock's ``thread-change``: the thread's new state."""

    thread: Thread


class Vanished(Event, frozen=True, gc=False):
    """The service no longer has the message of this id: it is not listed, and Show answers 404.

    No event of Flowdock's, but what the archiver found when an event must have been missed.
    """


class Noted(Event, frozen=True, kw_only=True, gc=False):
    """An event that changes no message: of a kind unknown here, or one about flows and people.

    Or one that changes something and cannot be read. It is journalled and counted, not guessed at.
    """

    may_be_listed: bool = False
    """Of a kind unknown here that the service may have stored: then a listing shows a message."""
    member: UserId | None = None
    """Who has joined or left the flow, if it tells that."""
    may_change_any: bool = False
    """A change of a message or a thread of its flow, and it does not say of which, or to what."""


Mutation = (
    ContentEdited | TagsChanged | MessageDeleted | ReactionChanged | Rethreaded | UnreadChange
)
"""What changes one message that exists already."""

Happening = Posted | Mutation | ThreadChanged | Vanished | Noted


class Signal(Struct, frozen=True, kw_only=True, gc=False):
    """What the service sends and never stores: presence, typing, receipts, read markers."""

    kind: str
    flow: FlowId | None
    to: UserId | None
    user: UserId | None
    sent_at: datetime | None
    id: EventId | None
    """Signals with an id take it from the flow's sequence: the head moves, nothing is stored."""


class Rejected(Struct, frozen=True, kw_only=True):
    """Input that cannot be placed: not JSON, not an object, no id, no flow."""

    reason: str


Decoded = Happening | Signal | Rejected
