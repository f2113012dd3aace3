"""The history of a message: what each fact changed about it, as far as people would notice."""

from datetime import datetime

from archiver.domain.events import MessageDeleted
from archiver.domain.facts import BEFORE_ALL, Absence, Fact, Showing, position
from archiver.domain.model import EventId, Message, Revision, RevisionKind
from archiver.domain.tags import visible


def original(message: Message) -> Revision:
    """The first revision of *message*, which is still as it was created."""
    return Revision(
        id=message.id,
        kind="created",
        at=message.sent_at,
        user=message.user,
        content=message.content,
        tags=visible(message.tags),
        event=message.event,
        thread=message.thread,
        edited_at=None,
        edits=0,
        deleted_at=None,
        seen_at=None,
    )


def revise(
    before: Message, after: Message, fact: Fact, *, last: Revision | None
) -> Revision | None:
    """The revision that *fact* adds to the history; None when people would see no difference.

    *last* is the newest revision so far, if it is known. Changes of read receipts (``:unread:``
    tags) and reactions are not revisions; the journal has them.
    """
    kind = step_of(before, after, fact)
    if kind is None:
        return None
    user = seen_at = None
    made_by = position(fact)
    match fact:
        case Showing():
            place = (last.id, last.seen_at or BEFORE_ALL) if last else None
            made_by, seen_at = first_shown(fact, after=place)
            at = fact.message.edited_at if before.edited_at != after.edited_at else seen_at
        case Absence():
            at = seen_at = fact.shown_at
        case _:
            at, user = fact.sent_at, fact.user
    return Revision(
        id=made_by,
        kind=kind,
        at=at,
        user=user,
        content=after.content,
        tags=visible(after.tags),
        event=after.event,
        thread=after.thread,
        edited_at=after.edited_at,
        edits=after.edits,
        deleted_at=after.deleted_at,
        seen_at=seen_at,
    )


def first_shown(
    showing: Showing, *, after: tuple[EventId, datetime] | None
) -> tuple[EventId, datetime | None]:
    """Position and time of the first listing that is known to have shown the same state.

    *after* is the previous step of the history: a listing before it says nothing about the state
    from then on.
    """
    if showing.since and after and showing.since >= after:
        return showing.since
    return showing.as_of, showing.shown_at


def step_of(before: Message, after: Message, fact: Fact) -> RevisionKind | None:
    """The kind of revision by which *fact* turned *before* into *after*; None for no revision."""
    if after.deleted_at is not None and (
        before.deleted_at is None
        # It had been found missing, and now an event tells when it was deleted, and by whom.
        or (isinstance(fact, MessageDeleted) and before.deleted_at != after.deleted_at)
    ):
        return "deleted"
    edited = (before.content, before.event, before.edited_at) != (
        after.content,
        after.event,
        after.edited_at,
    )
    tagged = before.tags is not after.tags and visible(before.tags) != visible(after.tags)
    if tagged and isinstance(fact, Showing):
        # The order of tags in a listing is the service's: a different one is nobody's change.
        tagged = {*visible(before.tags)} != {*visible(after.tags)}
    moved = before.thread != after.thread
    revived = before.deleted_at is not None and after.deleted_at is None
    if isinstance(fact, Showing):
        return "listed" if edited or tagged or moved or revived else None
    if edited or revived:
        return "edited"
    if tagged:
        return "tagged"
    return "moved" if moved else None
