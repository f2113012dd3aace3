"""The history of a message's tags, computed from its facts."""

from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct

from archiver.domain.facts import BEFORE_ALL, Absence, Fact, Showing, order, position
from archiver.domain.fold import sketch, steps
from archiver.domain.history import first_shown
from archiver.domain.model import EventId


class TagStep(Struct, frozen=True, kw_only=True):
    """One step in the history of a message's tags; read receipts are tags as well."""

    id: EventId
    """The id of the event that made it, or the position of the listing that showed it."""
    listed: bool
    """Whether only a listing showed it, so that it is unknown who made it."""
    at: datetime | None
    user: str | None
    added: tuple[str, ...]
    removed: tuple[str, ...]


def tag_history(facts: Iterable[Fact]) -> list[TagStep]:
    """The steps in *facts*, which are all of one message; none if no fact shows the message."""
    in_order = sorted(facts, key=order)
    first = next((fact for fact in in_order if isinstance(fact, Showing)), None)
    if first is None:
        return []
    message, _ = sketch(first)
    history = []
    if message.tags:
        history.append(
            TagStep(
                id=message.id,
                listed=False,
                at=message.sent_at,
                user=message.user,
                added=message.tags,
                removed=(),
            )
        )
    after = message.id, BEFORE_ALL
    for was, fact, is_ in steps(message, in_order):
        added, removed = _beyond(is_.tags, was.tags), _beyond(was.tags, is_.tags)
        if added or removed:
            step = _step(fact, added, removed, after=after)
            after = step.id, (step.at if step.listed else None) or BEFORE_ALL
            history.append(step)
    return history


def _step(
    fact: Fact,
    added: tuple[str, ...],
    removed: tuple[str, ...],
    *,
    after: tuple[EventId, datetime],
) -> TagStep:
    id_, at, user, listed = position(fact), None, None, True
    match fact:
        case Showing():
            id_, at = first_shown(fact, after=after)
        case Absence():
            at = fact.shown_at
        case _:
            at, user, listed = fact.sent_at, fact.user, False
    return TagStep(id=id_, listed=listed, at=at, user=user, added=added, removed=removed)


def _beyond(tags: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    known = {tag.casefold() for tag in others}
    return tuple(tag for tag in tags if tag.casefold() not in known)
