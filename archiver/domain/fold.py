"""Computes a message from all facts that are known about it.

Facts arrive from streams and from listings, in any order and repeatedly, and must always give the
same message. Two rules ensure that. First, each fact has a *position*: for an event, its own id;
for a listing, the newest id that the flow was known to have when the listing was requested. Facts
are folded in the order of their positions. Second, content has the server's *edit time*: an older
edit never replaces a newer one, whatever their positions, since a listing may be served from a
lagging index.

There is one exception to the order. A listing may show changes whose events have newer ids than its
position: they were made while it was under way, or reported late. Where a listing shows a step of
the history that such an event made, the step belongs to the event, and the listing is folded after
it.

A message that is first seen in a listing may have been changed before. So it is folded from a
`sketch` of what it was when created: changes older than the listing are applied to that, and then
the listing itself.

`fold` continues from a stored message, if the fact is newer than all that the message holds (as
nearly always); `replay` starts from nothing. Both must give the same result, as
``tests/domain/test_fold.py`` verifies.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import assert_never

from msgspec.structs import replace

from archiver.domain.events import (
    ContentEdited,
    MessageDeleted,
    Mutation,
    Posted,
    ReactionChanged,
    Rethreaded,
    TagsChanged,
    UnreadChange,
)
from archiver.domain.facts import BEFORE_ALL, LISTED, Absence, Fact, Showing, arrange, position
from archiver.domain.history import original, revise, step_of
from archiver.domain.model import NOBODY, EventId, Message, Revision, UserId
from archiver.domain.tags import change_tags, visible

DELETED_BY_EMPTYING = frozenset({"message", "comment"})
"""Kinds that are deleted by an edit that empties them; others, by ``message-delete``."""

ALWAYS_TITLED = frozenset({"activity", "discussion"})
"""Kinds that always have content: if it is empty, it is unknown, as in an exported file that lacks
the fields for it."""

ONE_EDIT = timedelta(seconds=1)
"""An edit may have two dates so close to each other: that of its event, and that in listings."""

EPOCH = datetime.fromtimestamp(0, UTC)


def replay(facts: Iterable[Fact]) -> tuple[Message, tuple[Revision, ...]] | None:
    """Fold all facts about one message; order and repeats do not matter.

    None when no fact has shown the message yet: changes alone wait for it.
    """
    in_order = arrange(facts)
    first = next((fact for fact in in_order if isinstance(fact, Showing)), None)
    if first is None:
        return None
    if in_order[0] is first and first.message.edited_at is None:
        # The sketch would be the same message, and folding *first* into it would change nothing.
        message = _as_sent(first.message, as_of=max(first.message.id, first.as_of))
        return extend(message, [original(message)], in_order[1:])
    message, created = sketch(first)
    return extend(message, [created], in_order)


def untouched(facts: Sequence[Fact]) -> Message | None:
    """The message of `replay`, if *facts* say only that a message was sent; otherwise None.

    Nearly all new messages are like that, and this costs a fraction of a replay. Their history
    consists of the `original` alone.
    """
    if len(facts) != 1:
        return None
    fact = facts[0]
    if not isinstance(fact, Showing) or fact.message.edited_at:
        return None
    return _as_sent(fact.message, as_of=max(fact.message.id, fact.as_of))


def _once_each(in_order: Iterable[Fact]) -> Iterator[Fact]:
    before = None
    for fact in in_order:
        if fact != before:
            yield fact
        before = fact


def extend(
    message: Message, history: Sequence[Revision], facts: Sequence[Fact]
) -> tuple[Message, tuple[Revision, ...]]:
    """Fold *facts* into *message*; they are sorted by `order` and newer than all that it holds."""
    revisions = list(history)
    is_known = not revisions or revisions[-1].content is not None
    for before, fact, after in steps(message, facts):
        is_known = is_known or _tells_content(before, after, fact)
        last = revisions[-1] if revisions else None
        if revision := revise(before, after, fact, last=last):
            revisions.append(revision if is_known else replace(revision, content=None))
        message = after
    return message, tuple(revisions)


def steps(message: Message, facts: Sequence[Fact]) -> Iterator[tuple[Message, Fact, Message]]:
    """Fold *facts*, sorted by `order`, into *message*; yield each with the message around it.

    A listing comes after the events that made steps of the history which it shows already.
    """
    to_come = deque(_once_each(facts))
    while to_come:
        fact = to_come.popleft()
        if isinstance(fact, LISTED) and (place := _place(message, fact, to_come)):
            to_come = _deferred(fact, to_come, place)
            continue
        folded = fold(message, fact)
        yield message, fact, folded
        message = folded


def _place(message: Message, listed: Showing | Absence, to_come: Iterable[Fact]) -> int:
    """How many facts of *to_come* must be folded before *listed*, because it shows them already.

    The last of them is an event that makes a step of the history; 0 if there is none. Listings
    among them show the same state as *listed*, so they show that event as well.
    """
    after = fold(message, listed)
    if step_of(message, after, listed) is None:
        return 0
    for place, fact in enumerate(to_come, 1):
        if isinstance(fact, LISTED):
            if step_of(after, fold(after, fact), fact):
                return 0
        elif not _is_seen(message, after, fact):
            return 0
        elif step_of(message, fold(message, fact), fact):
            return place
    return 0


def _deferred(listed: Showing | Absence, to_come: Iterable[Fact], place: int) -> deque[Fact]:
    """*to_come* with *listed* inserted: of its first *place* facts, events precede listings."""
    facts = list(to_come)
    seen = [fact for fact in facts[:place] if not isinstance(fact, LISTED)]
    listings = [listed, *(fact for fact in facts[:place] if isinstance(fact, LISTED))]
    moved = [replace(one, as_of=position(facts[place - 1])) for one in listings]
    return deque([*seen, *moved, *facts[place:]])


def _is_seen(before: Message, after: Message, fact: Mutation) -> bool:
    """Tell whether a listing that turned *before* into *after* shows *fact* already.

    If it shows an edit, the time of that edit decides; otherwise, whether *fact* would still change
    anything.
    """
    shown_at = after.edited_at
    if shown_at and shown_at != before.edited_at and fact.sent_at:
        if _is_shown_edit(after, fact):
            return True
        if fact.sent_at != shown_at:
            return fact.sent_at < shown_at
        if isinstance(fact, ContentEdited):
            return False
    return _changes_nothing(after, fact)


def _is_shown_edit(message: Message, fact: Mutation) -> bool:
    """Tell whether *fact* is the newest edit of *message*, as far as content and date tell."""
    return isinstance(fact, ContentEdited) and _is_newest_edit(message, fact.content, fact.sent_at)


def _is_newest_edit(message: Message, content: str | None, at: datetime | None) -> bool:
    known_at = message.edited_at
    if content != message.content or at is None or known_at is None:
        return False
    return abs(at - known_at) < ONE_EDIT


def may_be_seen(message: Message, fact: Fact) -> bool:
    """Tell whether a listing folded into *message* may show *fact*, whose position is newer.

    If so, the listing belongs after *fact*, and the message must be replayed.
    """
    match fact:
        case ContentEdited() | Rethreaded() | MessageDeleted():
            pass
        case TagsChanged() if visible(fact.added) or visible(fact.removed):
            pass
        case _:
            return False
    if fact.sent_at and message.edited_at and fact.sent_at <= message.edited_at:
        return True
    return _is_shown_edit(message, fact) or _changes_nothing(message, fact)


def _changes_nothing(message: Message, fact: Mutation) -> bool:
    if isinstance(fact, MessageDeleted) and message.deleted_at is not None:
        return True  # it only adds when, and by whom
    return step_of(message, fold(message, fact), fact) is None


def _tells_content(before: Message, after: Message, fact: Fact) -> bool:
    if isinstance(fact, ContentEdited) and fact.content is not None:
        return True
    return before.edited_at != after.edited_at


def sketch(first: Showing) -> tuple[Message, Revision]:
    """The message as it was created, and its first revision, as far as *first* shows them.

    The original content is known only if the message had not been edited by then.
    """
    shown = first.message
    message = _as_sent(shown, as_of=shown.id)
    if shown.edited_at is None:
        return message, original(message)
    message = replace(message, content="", detail=None)
    return message, replace(original(message), content=None)


def _as_sent(shown: Posted, *, as_of: EventId) -> Message:
    return Message(
        shown.id,
        shown.kind,
        shown.user,
        shown.sent_at,
        shown.content,
        shown.tags,
        shown.thread_id,
        shown.parent,
        None,  # edited_at
        0,
        None,  # deleted_at
        shown.attachments,
        shown.reactions,
        shown.app,
        shown.uuid,
        shown.external_user_name,
        shown.detail,
        False,  # removed
        as_of,
    )


def fold(message: Message, fact: Fact) -> Message:
    """Apply *fact*, which is newer than all that *message* holds."""
    match fact:
        case Showing():
            folded = _shown(message, fact.message)
        case ContentEdited():
            folded = _edited(message, fact)
        case TagsChanged():
            folded = replace(message, tags=change_tags(message.tags, fact.added, fact.removed))
        case ReactionChanged():
            folded = replace(message, reactions=_react(message.reactions, fact))
        case Rethreaded():
            folded = replace(message, thread=fact.thread_id)
        case MessageDeleted():
            at = fact.sent_at or message.edited_at or message.sent_at or EPOCH
            folded = replace(message, deleted_at=at, removed=True)
        case Absence():
            folded = replace(message, deleted_at=message.deleted_at or fact.shown_at)
        case UnreadChange():
            folded = message
        case _:
            assert_never(fact)
    return replace(folded, as_of=max(message.as_of, position(fact)))


def _shown(message: Message, shown: Posted) -> Message:
    """Apply a listing: it replaces everything, except content that was edited later."""
    is_told = shown.content or shown.kind not in ALWAYS_TITLED or not message.content
    folded = replace(
        message,
        user=shown.user,
        sent_at=shown.sent_at,
        tags=shown.tags,
        thread=shown.thread_id,
        parent=message.parent if shown.parent is None else shown.parent,
        reactions=shown.reactions,
        app=shown.app,
        uuid=shown.uuid,
        external_user_name=(shown if is_told else message).external_user_name,
    )
    edited_at = shown.edited_at
    if _is_newest_edit(message, shown.content, edited_at):
        edited_at = message.edited_at
    if not (is_told and _is_current(edited_at, message)):
        return folded
    return _with_content(
        replace(folded, attachments=shown.attachments, detail=shown.detail, event=shown.kind),
        shown.content,
        edited_at=edited_at,
        emptied_at=edited_at,
    )


def _edited(message: Message, edit: ContentEdited) -> Message:
    """Apply *edit*; without a time, it is taken to be as new as the content that it replaces."""
    folded = message if edit.tags is None else replace(message, tags=edit.tags)
    edited_at = edit.sent_at or message.edited_at
    if not _is_current(edited_at, message):
        return folded
    folded = replace(folded, event=edit.new_kind or message.event)
    if edit.content is None:
        return folded
    detail = message.detail if edit.detail is None else edit.detail
    return _with_content(
        replace(folded, detail=detail),
        edit.content,
        edited_at=edited_at,
        emptied_at=edited_at or message.sent_at or EPOCH,
    )


def _is_current(edited_at: datetime | None, message: Message) -> bool:
    """Tell whether content edited at *edited_at* is at least as new as that of *message*."""
    return (edited_at or BEFORE_ALL) >= (message.edited_at or BEFORE_ALL)


def _with_content(
    message: Message, content: str, *, edited_at: datetime | None, emptied_at: datetime | None
) -> Message:
    """Set the content of *message*.

    If *content* is empty, *emptied_at* is when an edit emptied it; None if no edit did.
    """
    emptied = emptied_at is not None and not content and message.event in DELETED_BY_EMPTYING
    is_new_edit = edited_at is not None and edited_at != message.edited_at
    return replace(
        message,
        content=content,
        # An edit that empties a comment names no title; a listing of the comment may name one.
        detail=None if emptied else message.detail,
        edited_at=edited_at,
        edits=message.edits + (is_new_edit and not emptied),
        deleted_at=message.deleted_at if message.removed else (emptied_at if emptied else None),
    )


def _react(
    reactions: tuple[tuple[str, tuple[UserId, ...]], ...], change: ReactionChanged
) -> tuple[tuple[str, tuple[UserId, ...]], ...]:
    by_emoji = dict(reactions)
    user = change.user or NOBODY
    others = tuple(one for one in by_emoji.get(change.emoji, ()) if one != user)
    by_emoji[change.emoji] = (*others, user) if change.present else others
    return tuple(sorted((emoji, users) for emoji, users in by_emoji.items() if users))
