"""Random changes of one message, consistent with a server that made them.

`lives` plays a message's life on a tiny server: edits, tags, reactions, deletion, each with an id
and a time, and listings that show the state at that moment. The result is every fact that could be
heard, and the state that the server shows in the end.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from archiver.domain.events import (
    ContentEdited,
    MessageDeleted,
    Posted,
    ReactionChanged,
    Rethreaded,
    TagsChanged,
)
from archiver.domain.facts import Fact, Showing
from archiver.domain.fold import replay
from archiver.domain.model import EventId, Message, Revision, ThreadId, UserId

BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
TAGS = ("todo", "Bug", ":unread:2", ":unread:3", "ÄPFEL")
TEXTS = ("one", "two", "three", "")


class Life(Struct, frozen=True, kw_only=True):
    """All that could be heard of a message, and what the server shows in the end."""

    facts: tuple[Fact, ...]
    listings: tuple[Showing, ...]
    """What a listing would have shown at each moment, whether or not anybody asked."""
    shown: Posted
    removed: bool


def posted(**changes: object) -> Posted:
    """A plain message of id 10."""
    plain = Posted(
        id=EventId(10),
        flow=None,
        to=None,
        kind="message",
        user=UserId("1"),
        sent_at=BEGIN,
        content="one",
        detail=None,
        tags=(),
        edited_at=None,
        thread_id=None,
        thread=None,
        parent=None,
        attachments=(),
        reactions=(),
        app="chat",
        uuid=None,
        external_user_name=None,
    )
    return replace(plain, **changes)


def about(id_: int, kind: str) -> dict[str, Any]:
    """The fields that all events have that change the message."""
    return {
        "id": EventId(id_),
        "flow": None,
        "to": None,
        "kind": kind,
        "user": UserId(str(id_ % 3 + 1)),
        "sent_at": BEGIN + timedelta(seconds=id_),
        "target": EventId(10),
    }


@st.composite
def lives(draw: st.DrawFn) -> Life:
    """A message's life: up to eight changes, each followed by what a listing would show."""
    state = posted(tags=tuple(draw(st.lists(st.sampled_from(TAGS), unique=True, max_size=3))))
    facts: list[Fact] = [Showing(message=state, as_of=EventId(10))]
    listings = [_listing(state, 10)]
    removed = False
    changes = st.lists(st.sampled_from(["edit", "tags", "react", "move", "delete"]), max_size=8)
    for number, change in enumerate(draw(changes), 1):
        id_ = 10 + 3 * number
        state, fact = _change(draw, state, change, id_)
        facts.append(fact)
        removed = removed or isinstance(fact, MessageDeleted)
        if not removed:
            listings.append(_listing(state, id_))
    return Life(facts=tuple(facts), listings=tuple(listings), shown=state, removed=removed)


def _listing(state: Posted, as_of: int) -> Showing:
    shown_at = BEGIN + timedelta(seconds=as_of, milliseconds=500)
    return Showing(message=state, as_of=EventId(as_of), shown_at=shown_at)


def _change(draw: st.DrawFn, state: Posted, change: str, id_: int) -> tuple[Posted, Fact]:
    match change:
        case "edit":
            content = draw(st.sampled_from(TEXTS))
            tags = draw(st.none() | st.just(("todo", "new")))
            edit = ContentEdited(
                **about(id_, "message-edit"), content=content, detail=None, tags=tags, new_kind=None
            )
            edited = replace(state, content=content, edited_at=edit.sent_at)
            return (edited if tags is None else replace(edited, tags=tags)), edit
        case "tags":
            added = tuple(draw(st.lists(st.sampled_from(TAGS), unique=True, max_size=2)))
            removed = tuple(draw(st.lists(st.sampled_from(TAGS), unique=True, max_size=2)))
            gone = {tag.casefold() for tag in removed}
            kept = [tag for tag in state.tags if tag.casefold() not in gone]
            held = {tag.casefold() for tag in kept}
            kept += [tag for tag in added if tag.casefold() not in held]
            changed = TagsChanged(**about(id_, "tag-change"), added=added, removed=removed)
            return replace(state, tags=tuple(kept)), changed
        case "react":
            present = draw(st.booleans())
            reaction = ReactionChanged(**about(id_, "emoji-reaction"), emoji="+1", present=present)
            users = [u for u in dict(state.reactions).get("+1", ()) if u != reaction.user]
            users += [reaction.user or UserId("0")] if present else []
            return replace(state, reactions=(("+1", tuple(users)),) if users else ()), reaction
        case "move":
            thread = ThreadId(draw(st.sampled_from("ab")))
            moved = Rethreaded(**about(id_, "message-change"), thread_id=thread, thread=None)
            return replace(state, thread_id=thread), moved
        case _:
            return state, MessageDeleted(**about(id_, "message-delete"))


def told(facts: Iterable[Fact]) -> tuple[Message, tuple[Revision, ...]]:
    """What `replay` makes of *facts*, one of which shows the message."""
    replayed = replay(facts)
    assert replayed is not None
    return replayed
