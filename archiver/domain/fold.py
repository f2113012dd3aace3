"""What a message is, given all that is known of it.

Facts come in any order, repeated, from streams and from listings, and must always give the same
message. Two things make it so. A fact has a *position*: an event's own id, or for a listing the
newest id the flow was known to have when the listing was asked for; facts are folded in the order
of their positions. And content has an *edit time* of the server's: an older edit never replaces a
newer one, whatever their positions, since a listing may be served from a lagging index.

Nor does a listing come before what it shows already. Its position is a bound: what happened while
it was under way, or was told late, has a newer id and may be in it. Where a step of the history is
as a listing has shown it, the event made that step, and the listing comes after it.

A message that is first seen in a listing had a life before: it is folded from a `sketch`, so that
mutations older than the listing find something to act on, and the listing then has its say.

`fold` continues from a stored message when a fact is newer than all it holds (nearly always);
`replay` starts from nothing. Both give the same: that is a law, see ``tests/domain/test_fold.py``.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
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
from archiver.domain.model import EventId, Message, Revision, UserId
from archiver.domain.tags import change_tags, visible

DELETED_BY_EMPTYING = frozenset({"message", "comment"})
"""Kinds whose deletion is an edit to nothing; others are removed by ``message-delete``."""

ALWAYS_TITLED = frozenset({"activity", "discussion"})
"""Kinds that always say something: where one says nothing, as in a file without the fields for it,
what it says is not told."""

EPOCH = datetime.fromtimestamp(0, UTC)


def replay(facts: Iterable[Fact]) -> tuple[Message, tuple[Revision, ...]] | None:
    """Fold all that is known of one message; order and repeats do not matter.

    None when nothing showed the message yet: mutations alone wait for it.
    """
    in_order = arrange(facts)
    first = next((fact for fact in in_order if isinstance(fact, Showing)), None)
    if first is None:
        return None
    if in_order[0] is first and first.message.edited_at is None:
        # It is all that the sketch would be made of, and changes nothing about it.
        message = _as_sent(first.message, as_of=max(first.message.id, first.as_of))
        return extend(message, [original(message)], in_order[1:])
    message, created = sketch(first)
    return extend(message, [created], in_order)


def untouched(facts: Sequence[Fact]) -> Message | None:
    """What `replay` would make of *facts*, if all that they tell is that a message was sent.

    That is nearly all messages when they are new, by a stream or a listing, and costs a fraction.
    It has no history but its `original`.
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
    """Fold *facts*, sorted by `order` and newer than all that *message* holds, into it."""
    revisions = list(history)
    is_known = not revisions or revisions[-1].content is not None
    to_come = deque(_once_each(facts))
    while to_come:
        fact = to_come.popleft()
        if isinstance(fact, LISTED) and (place := _place(message, fact, to_come)):
            to_come = _deferred(fact, to_come, place)
            continue
        folded = fold(message, fact)
        is_known = is_known or _tells_content(message, folded, fact)
        last = revisions[-1] if revisions else None
        if revision := revise(message, folded, fact, last=last):
            revisions.append(revision if is_known else replace(revision, content=None))
        message = folded
    return message, tuple(revisions)


def _place(message: Message, listed: Showing | Absence, to_come: Iterable[Fact]) -> int:
    """How many facts *to_come* end with one that the listing of a *message* had seen already.

    0 if it had seen none. Listings among them show just as much: they had seen it, too.
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
    """The facts *to_come*, of the first *place* the events, then *listed* and other listings."""
    facts = list(to_come)
    seen = [fact for fact in facts[:place] if not isinstance(fact, LISTED)]
    listings = [listed, *(fact for fact in facts[:place] if isinstance(fact, LISTED))]
    moved = [replace(one, as_of=position(facts[place - 1])) for one in listings]
    return deque([*seen, *moved, *facts[place:]])


def _is_seen(before: Message, after: Message, fact: Mutation) -> bool:
    """Tell whether a listing that made *after* of *before* had seen *fact*.

    By the time of the edit that it shows, if it shows one; else by what *fact* would still change.
    """
    shown_at = after.edited_at
    if shown_at and shown_at != before.edited_at and fact.sent_at:
        if fact.sent_at != shown_at:
            return fact.sent_at < shown_at
        if isinstance(fact, ContentEdited):
            return fact.content == after.content
    return _changes_nothing(after, fact)


def may_be_seen(message: Message, fact: Fact) -> bool:
    """Tell whether a listing that *message* holds may have seen *fact*, newer by its position.

    Then the listing comes after it, and the message is to be replayed.
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
    return _changes_nothing(message, fact)


def _changes_nothing(message: Message, fact: Mutation) -> bool:
    if isinstance(fact, MessageDeleted) and message.deleted_at is not None:
        return True  # it tells when, and by whom
    return step_of(message, fold(message, fact), fact) is None


def _tells_content(before: Message, after: Message, fact: Fact) -> bool:
    if isinstance(fact, ContentEdited) and fact.content is not None:
        return True
    return before.edited_at != after.edited_at


def sketch(first: Showing) -> tuple[Message, Revision]:
    """The message as it must have been before *first* was said of it.

    Its first content is known only if nobody had edited it by then.
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
    """The message after *fact*, which is newer than all that *message* holds."""
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
    """A listing is the whole truth at its position, but for content that was edited later."""
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
    if not (is_told and _is_current(shown.edited_at, message)):
        return folded
    return _with_content(
        replace(folded, attachments=shown.attachments, detail=shown.detail, event=shown.kind),
        shown.content,
        edited_at=shown.edited_at,
        emptied_at=shown.edited_at,
    )


def _edited(message: Message, edit: ContentEdited) -> Message:
    """An edit that carries no time is taken to be as new as what it replaces."""
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
    """Tell whether content of *edited_at* is at least as new as the message's."""
    return (edited_at or BEFORE_ALL) >= (message.edited_at or BEFORE_ALL)


def _with_content(
    message: Message, content: str, *, edited_at: datetime | None, emptied_at: datetime | None
) -> Message:
    """*emptied_at* is when an edit made it so, if *content* is nothing; None when none did."""
    emptied = emptied_at is not None and not content and message.event in DELETED_BY_EMPTYING
    is_new_edit = edited_at is not None and edited_at != message.edited_at
    return replace(
        message,
        content=content,
        # An edit to nothing names no title, and a listing of what is empty may or may not.
        detail=None if emptied else message.detail,
        edited_at=edited_at,
        edits=message.edits + (is_new_edit and not emptied),
        deleted_at=message.deleted_at if message.removed else (emptied_at if emptied else None),
    )


def _react(
    reactions: tuple[tuple[str, tuple[UserId, ...]], ...], change: ReactionChanged
) -> tuple[tuple[str, tuple[UserId, ...]], ...]:
    by_emoji = dict(reactions)
    user = change.user or UserId("0")
    others = tuple(one for one in by_emoji.get(change.emoji, ()) if one != user)
    by_emoji[change.emoji] = (*others, user) if change.present else others
    return tuple(sorted((emoji, users) for emoji, users in by_emoji.items() if users))
