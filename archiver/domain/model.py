"""The entities of chat: flows, people, messages, threads, files.

Values are frozen `msgspec.Struct`s: they behave like frozen dataclasses, but are created several
times faster, which matters since every event creates a few of them. Each kind of id has a type of
its own, so that the type checker finds ids that are confused with each other.
"""

from datetime import datetime
from typing import Any, Literal, NewType

from msgspec import Struct

FlowId = NewType("FlowId", str)
"""Flowdock's id of a flow: a UUID, or ``organization:flow`` in old flows. A private conversation
has none; its path is used instead."""

EventId = NewType("EventId", int)
"""Grows within a flow, with holes, and is unique only there. A message has the id of its event."""

LARGEST_ID = 2**63 - 1
"""The largest id of an event: the maximum of a ``bigint`` in Postgres."""

UserId = NewType("UserId", str)
"""Numeric text; `NOBODY` stands for an integration or an anonymous sender."""

NOBODY = UserId("0")

ThreadId = NewType("ThreadId", str)

PRIVATE = "private/"
"""The prefix of the path of a private conversation, ``private/<me>/<other>``."""

Json = Any
"""Any JSON value; only Postgres and the people who query it look inside."""


def is_private(path: str) -> bool:
    """Tell whether *path* is that of a private conversation, and not of a flow."""
    return path.startswith(PRIVATE)


def private_path(me: UserId, other: UserId) -> FlowId:
    """The path of *me*'s conversation with *other*; also its id, since Flowdock gives it none."""
    return FlowId(f"{PRIVATE}{me}/{other}")


def people_of(path: str) -> list[str]:
    """The ids of the people in the private conversation at *path*; none for a flow."""
    return path.removeprefix(PRIVATE).split("/") if is_private(path) else []


def id_of_old(path: str) -> FlowId:
    """The id ``organization:flow`` by which old events name the flow at *path*.

    Such a flow has been given a random id since.
    """
    return FlowId(path.replace("/", ":", 1))


class Flow(Struct, frozen=True, kw_only=True):
    """A flow or a private conversation as the service lists it, without secrets."""

    id: FlowId
    path: str
    """``organization/flow``, or ``private/<me>/<other>``."""
    organization: str | None = None
    name: str | None = None
    access_mode: str | None = None
    joined: bool = True
    disabled: bool = False


class User(Struct, frozen=True, kw_only=True):
    """A person, or the account of an integration."""

    id: UserId
    nick: str | None = None
    name: str | None = None
    email: str | None = None
    disabled: bool | None = None
    """None when the service does not say."""


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
    """The metadata of a file that is attached to a message."""

    file_name: str | None = None
    content_type: str | None = None
    size_bytes: int | None = None
    path: str | None = None
    """Where it can be downloaded, relative to the base URL of the API."""


class Message(Struct, frozen=True, gc=False):
    """What the flow would show now at one id.

    Nearly every event creates one, so the fields may be passed by position: keyword arguments
    double the cost.
    """

    id: EventId
    event: str
    """Flowdock's name of the kind: ``message``, ``comment``, ``file``, …"""
    user: UserId | None
    sent_at: datetime | None
    content: str
    """The readable text; empty once a chat message is deleted."""
    tags: tuple[str, ...]
    """In the service's spelling and order; no two are equal when compared without case."""
    thread: ThreadId | None
    parent: EventId | None
    """The message that a comment is about; kept even if the tag that named it is removed."""
    edited_at: datetime | None
    edits: int
    deleted_at: datetime | None
    attachments: tuple[Attachment, ...]
    reactions: tuple[tuple[str, tuple[UserId, ...]], ...]
    """Pairs of an emoji and the users who reacted with it."""
    app: str | None
    uuid: str | None
    external_user_name: str | None
    detail: Json
    """Content that is not plain text: that of a file, an activity, or an integration's item."""
    removed: bool
    """Deleted for good, by ``message-delete``; an emptied chat message can be edited again."""
    as_of: EventId
    """The newest id that this state reflects; folding in an older fact takes a replay."""


RevisionKind = Literal["created", "edited", "tagged", "moved", "deleted", "listed"]
"""``listed``: a listing showed a change whose event never came."""


class Revision(Struct, frozen=True, kw_only=True, gc=False):
    """One entry of a message's history."""

    id: EventId
    """The id of the event that made it, or the position of the listing that showed it."""
    kind: RevisionKind
    at: datetime | None
    user: UserId | None
    """None when unknown: a listing shows a change, but not who made it."""
    content: str | None
    """None when it was edited before the archiver first saw it."""
    tags: tuple[str, ...]
    """Without read receipts."""
    event: str
    """The kind of the message from then on; likewise the fields that follow."""
    thread: ThreadId | None
    edited_at: datetime | None
    edits: int
    deleted_at: datetime | None
    seen_at: datetime | None
    """When the listing that showed it was requested; None when an event reported it. The service
    dates edits of content only: any other change may have been made at any time before."""
