"""The things of chat: flows, people, messages, threads, files.

Values are frozen `msgspec.Struct`s: they behave like frozen dataclasses and are made several times
faster, which counts on a path that makes a few of them for every event. Ids are types, since a
message id, an event id and a flow's key are all numbers and must not be mixed.
"""

from datetime import datetime
from typing import Any, Literal, NewType

from msgspec import Struct

FlowId = NewType("FlowId", str)
"""Flowdock's id of a flow: a UUID, in old flows ``organization:flow``; for a private conversation,
which has none, its path."""

EventId = NewType("EventId", int)
"""Grows within its flow, with holes; unique only there. A message's id is that of its event."""

LARGEST_ID = 2**63 - 1
"""Of an event: the largest number that a ``bigint`` of Postgres holds."""

UserId = NewType("UserId", str)
"""Numeric text; ``"0"`` stands for an integration or an anonymous sender."""

ThreadId = NewType("ThreadId", str)

PRIVATE = "private/"
"""How the path of a private conversation begins: ``private/<me>/<other>``."""

Json = Any
"""What JSON can hold; only Postgres and the people who query it look inside."""


def is_private(path: str) -> bool:
    """Tell whether *path* is that of a private conversation, and not of a flow."""
    return path.startswith(PRIVATE)


def private_path(me: UserId, other: UserId) -> FlowId:
    """The path of the conversation of *me* with *other*, and its id: Flowdock gives it none."""
    return FlowId(f"{PRIVATE}{me}/{other}")


def id_of_old(path: str) -> FlowId:
    """What old events call the flow at *path*, which has a random id by now: with a colon in it."""
    return FlowId(path.replace("/", ":", 1))


class Flow(Struct, frozen=True, kw_only=True):
    """A flow, or a private conversation, as its service lists it (secrets left out)."""

    id: FlowId
    path: str
    """``organization/flow``, or ``private/<me>/<other>``."""
    organization: str | None = None
    name: str | None = None
    access_mode: str | None = None
    joined: bool = True
    disabled: bool = False


class User(Struct, frozen=True, kw_only=True):
    """A person or an integration's account."""

    id: UserId
    nick: str | None = None
    name: str | None = None
    email: str | None = None
    disabled: bool | None = None
    """None when the service does not tell."""


class Thread(Struct, frozen=True, kw_only=True, gc=False):
    """The state of a thread, as an event that belongs to it showed it."""

    id: ThreadId
    title: str | None = None
    status: str | None = None
    external_url: str | None = None
    application: str | None = None
    activities: int | None = None
    internal_comments: int | None = None
    external_comments: int | None = None
    updated_at: datetime | None = None
    detail: Json = None
    """The thread as received."""


class Attachment(Struct, frozen=True, kw_only=True, gc=False):
    """A file that hangs on a message: what is said about it, not its bytes."""

    file_name: str | None = None
    content_type: str | None = None
    size_bytes: int | None = None
    path: str | None = None
    """Where the service serves it, below the API's base URL."""


class Message(Struct, frozen=True, gc=False):
    """What the flow would show now at one id.

    Made once for nearly every event: its fields may be given by position, as names cost msgspec as
    much again.
    """

    id: EventId
    event: str
    """Flowdock's name of the kind: ``message``, ``comment``, ``file``, …"""
    user: UserId | None
    sent_at: datetime | None
    content: str
    """The readable text; empty once a chat message is deleted."""
    tags: tuple[str, ...]
    """As the service spells and orders them; no two are equal when case is folded."""
    thread: ThreadId | None
    parent: EventId | None
    """The message that a comment is about; it stays, should the tag that told it be taken off."""
    edited_at: datetime | None
    edits: int
    deleted_at: datetime | None
    attachments: tuple[Attachment, ...]
    reactions: tuple[tuple[str, tuple[UserId, ...]], ...]
    """Emoji, and who reacted with it."""
    app: str | None
    uuid: str | None
    external_user_name: str | None
    detail: Json
    """What is not plain text: the content of a file, an activity, an integration's item."""
    removed: bool
    """Deleted for good by ``message-delete``; an emptied chat message can be edited again."""
    as_of: EventId
    """The newest id that this state reflects: older facts need a replay."""


RevisionKind = Literal["created", "edited", "tagged", "moved", "deleted", "listed"]
"""``listed``: a listing showed a change whose event never came."""


class Revision(Struct, frozen=True, kw_only=True, gc=False):
    """One entry of a message's history."""

    id: EventId
    """The event that made it; of a listing, its position."""
    kind: RevisionKind
    at: datetime | None
    user: UserId | None
    """None when nobody told: a listing shows a change, but not who made it."""
    content: str | None
    """None when it was edited before anybody here saw it."""
    tags: tuple[str, ...]
    """Without read receipts."""
    event: str
    """The kind of the message from then on; so are the fields that follow."""
    thread: ThreadId | None
    edited_at: datetime | None
    edits: int
    deleted_at: datetime | None
    seen_at: datetime | None
    """When a listing was asked for that showed it; None when an event told. What is not content
    may have been so since any time before."""
