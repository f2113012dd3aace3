"""List Messages: which messages a set of parameters asks for (docs/messages)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from archiver.simulator import tags as tagging
from archiver.simulator.entities import Message, Place, Thread
from archiver.simulator.world import World

MOST = 100
USUAL = 30

_WHOLE = re.compile("-?[0-9]{1,19}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a request asks for. Both ids are exclusive."""

    limit: int = USUAL
    ascending: bool = False
    """Take the oldest that match instead of the newest; the answer ascends either way."""
    since_id: int | None = None
    until_id: int | None = None
    events: frozenset[str] = frozenset()
    tags: tuple[str, ...] = ()
    any_tag: bool = False
    words: tuple[str, ...] = ()
    skip: int = 0
    thread: Thread | None = None


def parse(world: World, parameters: Mapping[str, object], *, thread: Thread | None = None) -> Query:
    """Read the parameters of a request; raise ValueError with the name of a wrong one."""
    words = tuple(str(parameters.get("search") or "").casefold().split())
    mode = str(parameters.get("tag_mode") or "and")
    sort = str(parameters.get("sort") or "desc")
    limit, skip = size_of_page(parameters), _number(parameters, "skip") or 0
    if mode not in {"and", "or"}:
        raise ValueError("tag_mode")
    if sort not in {"asc", "desc"}:
        raise ValueError("sort")
    if not 0 <= skip < 2**63:
        raise ValueError("skip")
    tags = [_as_stored(world, tag) for tag in tagging.from_parameter(parameters.get("tags"))]
    events = str(parameters.get("event") or "").split(",")
    return Query(
        limit=limit,
        ascending=sort == "asc",
        # A search ignores ids, and nothing else has ``skip``.
        since_id=None if words else _number(parameters, "since_id"),
        until_id=None if words else _number(parameters, "until_id"),
        events=frozenset(event.strip() for event in events if event.strip()),
        tags=tuple(tag.casefold() for tag in tags),
        any_tag=mode == "or",
        words=words,
        skip=skip if words else 0,
        thread=thread,
    )


def size_of_page(parameters: Mapping[str, object]) -> int:
    """Return the limit of a request; raise ValueError with the parameter's name if it is wrong."""
    limit = _number(parameters, "limit")
    if limit is not None and not 1 <= limit <= MOST:
        raise ValueError("limit")
    return limit or USUAL


def select(place: Place, query: Query, *, now: int) -> list[Message]:
    """Return the page that *query* asks for, ascending by id, of what is listable at *now*."""
    timeline = place.timeline
    walk = timeline.oldest_first if query.ascending else timeline.newest_first
    wanted = _matching(walk(query.since_id, query.until_id), query, now)
    page = list(islice(islice(wanted, query.skip, None), query.limit))
    return page if query.ascending else page[::-1]


def _as_stored(world: World, tag: str) -> str:
    """Return a tag as messages carry it; an unknown mention as it is, which no message carries."""
    return next(iter(world.normalized([tag])), tag)


def _matching(messages: Iterator[Message], query: Query, now: int) -> Iterator[Message]:
    for message in messages:
        if message.listable_at <= now and _matches(message, query):
            yield message


def _matches(message: Message, query: Query) -> bool:
    if query.events and message.event not in query.events:
        return False
    if query.thread is not None and message.thread is not query.thread:
        return False
    if query.tags:
        carried = {tag.casefold() for tag in message.tags}
        hits = (tag in carried for tag in query.tags)
        if not (any(hits) if query.any_tag else all(hits)):
            return False
    if query.words:
        text = (message.text() or "").casefold()
        return all(word in text for word in query.words)
    return True


def _number(parameters: Mapping[str, object], name: str) -> int | None:
    value = parameters.get(name)
    if value is None or value == "":
        return None
    if not _WHOLE.fullmatch(str(value)):
        raise ValueError(name)
    return int(str(value))
