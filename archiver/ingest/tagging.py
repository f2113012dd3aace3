"""How the tags of a message came to be what they are."""

from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct

from archiver.domain.facts import Absence, Fact, Showing, order, position
from archiver.domain.fold import fold, sketch


class TagStep(Struct, frozen=True, kw_only=True):
    """One step in the history of a message's tags; read receipts are tags as well."""

    id: int
    """The event that made it; of a listing, its position."""
    listed: bool
    """Whether only a listing showed it, so that nobody is told who did it."""
    at: datetime | None
    user: str | None
    added: tuple[str, ...]
    removed: tuple[str, ...]


def tag_history(facts: Iterable[Fact]) -> list[TagStep]:
    """The steps that *facts*, all of one message, tell; none when nothing shows the message."""
    in_order = sorted(facts, key=order)
    first = next((fact for fact in in_order if isinstance(fact, Showing)), None)
    if first is None:
        return []
    message, _ = sketch(first)
    steps = []
    if message.tags:
        steps.append(
            TagStep(
                id=message.id,
                listed=False,
                at=message.sent_at,
                user=message.user,
                added=message.tags,
                removed=(),
            )
        )
    for fact in in_order:
        folded = fold(message, fact)
        added, removed = _beyond(folded.tags, message.tags), _beyond(message.tags, folded.tags)
        if added or removed:
            steps.append(_step(fact, added, removed))
        message = folded
    return steps


def _step(fact: Fact, added: tuple[str, ...], removed: tuple[str, ...]) -> TagStep:
    match fact:
        case Showing():
            at = fact.since[1] if fact.since else fact.shown_at
            listed, user = True, None
        case Absence():
            listed, at, user = True, fact.shown_at, None
        case _:
            listed, at, user = False, fact.sent_at, fact.user
    return TagStep(id=position(fact), listed=listed, at=at, user=user, added=added, removed=removed)


def _beyond(tags: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    known = {tag.casefold() for tag in others}
    return tuple(tag for tag in tags if tag.casefold() not in known)
