"""Messages, their history and threads: what is read is what was stored."""

import json
from datetime import UTC, datetime, timedelta

import psycopg
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from archiver.domain.facts import Showing
from archiver.domain.fold import sketch
from archiver.domain.model import (
    Attachment,
    EventId,
    Message,
    Revision,
    Thread,
    ThreadId,
    UserId,
)
from archiver.store import messages
from archiver.store.engine import transaction
from archiver.store.messages import Held, History, Shown
from tests.domain.happenings import posted
from tests.ingest.arriving import FEW, LONG_AGO, derived, new_flow, query, running

MORE = settings(FEW, max_examples=40)
NASTY = ["\\", "\t", "\n", "\r", "\b", "{", '"', ",", "N", "\x7f", "\u2028", "\ufffe"]
_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from(NASTY),
    max_size=8,
)
_ids = st.integers(1, 2**63 - 1).map(EventId)
_users = _text.map(UserId)
_moments = st.datetimes(timezones=st.just(UTC))
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | _text
    | st.floats(allow_nan=False, width=32).filter(lambda number: abs(number) < 1e15),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=6,
)
_counts = st.none() | st.integers(0, 2**31 - 1)
_size = st.none() | st.integers(0, 2**63 - 1)
_attachments = st.builds(
    Attachment,
    file_name=st.none() | _text,
    content_type=st.none() | _text,
    size_bytes=_size,
    path=st.none() | _text,
)
_reactions = st.dictionaries(
    _text.filter(bool), st.lists(_users, min_size=1, max_size=3).map(tuple), max_size=3
).map(lambda users: tuple(sorted(users.items())))
_messages = st.builds(
    Message,
    id=_ids,
    event=_text,
    user=st.none() | _users,
    sent_at=st.none() | _moments,
    content=_text,
    tags=st.lists(_text, max_size=4).map(tuple),
    thread=st.none() | _text.map(ThreadId),
    parent=st.none() | _ids,
    edited_at=st.none() | _moments,
    edits=st.integers(0, 2**31 - 1),
    deleted_at=st.none() | _moments,
    attachments=st.lists(_attachments, max_size=3).map(tuple),
    reactions=_reactions,
    app=st.none() | _text,
    uuid=st.none() | _text,
    external_user_name=st.none() | _text,
    detail=_json,
    removed=st.booleans(),
    as_of=_ids,
)


def test_a_message_is_read_as_it_was_stored_and_as_it_was_changed(database_url):
    with running(database_url) as (run, engine):

        async def stored(first: Message, second: Message) -> list[Held]:
            key = (await new_flow(engine), first.id)
            async with transaction(engine) as tx:
                await messages.store(tx, added={key: Held(first, 0)})
                added = (await messages.held(tx, [key]))[key]
                await messages.store(tx, changed={key: Held(second, 3)})
                return [added, (await messages.held(tx, [key]))[key]]

        @MORE
        @given(_messages, _messages)
        def law(first, second):
            second = replace(second, id=first.id)
            assert run(stored(first, second)) == [Held(first, 0), Held(second, 3)]

        law()


def test_a_message_that_is_stored_as_it_was_read_does_not_change(database_url):
    numbers = [1e16 + 2, -5.081533433197363e16, 1e22, 1e308, 5e-324, -0.0, 1.0, 10**400, 2**63]
    plain = sketch(Showing(message=posted(detail=numbers), as_of=EventId(10)))[0]
    with running(database_url) as (run, engine), psycopg.connect(database_url) as admin:
        admin.autocommit = True
        key = (run(new_flow(engine)), plain.id)

        async def add() -> None:
            async with transaction(engine) as tx:
                await messages.store(tx, added={key: Held(plain, 0)})

        async def store_again() -> None:
            async with transaction(engine) as tx:
                await messages.store(tx, changed=await messages.held(tx, [key]))

        run(add())
        before = derived(admin, key[0])
        run(store_again())
        assert derived(admin, key[0]) == before


_revisions = st.builds(
    Revision,
    id=_ids,
    kind=st.sampled_from(["created", "edited", "listed"]),
    at=st.none() | _moments,
    user=st.none() | _users,
    content=st.none() | _text,
    tags=st.lists(_text, max_size=3).map(tuple),
    event=_text,
    thread=st.none() | _text.map(ThreadId),
    edited_at=st.none() | _moments,
    edits=st.integers(0, 2**31 - 1),
    deleted_at=st.none() | _moments,
    seen_at=st.none() | _moments,
)


def test_a_history_is_replaced_from_its_start_and_added_to_elsewhere(database_url):
    with running(database_url) as (run, engine):

        async def written(flow_key: int, *histories: History) -> None:
            async with transaction(engine) as tx:
                for one in histories:
                    both = {(flow_key, 5): one, (flow_key, 6): one}
                    await messages.store(tx, histories=both)

        @MORE
        @given(*[st.lists(_revisions, max_size=3).map(tuple)] * 3)
        def law(old, new, more):
            flow_key = run(new_flow(engine))
            run(written(flow_key, History(0, old), History(0, new), History(len(new), more)))
            rows = query(
                database_url,
                "SELECT revision, kind, at, user_id, content, tags, event, thread_id, edited_at, "
                "edits, deleted_at, seen_at FROM store.revisions "
                "WHERE flow_key = %s AND message_id = 5 ORDER BY ordinal",
                flow_key,
            )
            assert rows == [
                (
                    one.id, one.kind, one.at, one.user, one.content, list(one.tags), one.event,
                    one.thread, one.edited_at, one.edits, one.deleted_at, one.seen_at,
                )
                for one in (*new, *more)
            ]  # fmt: skip

        law()


def test_the_newest_state_of_a_thread_wins_in_any_order(database_url):
    with running(database_url) as (run, engine):

        def time_of(state: Shown) -> datetime | None:
            """The time by which states compare: of the same change, one with a date is newer."""
            told_at = state.told_at
            return state.thread.updated_at if told_at is None else told_at - timedelta(seconds=1)

        async def shown(states: list[Shown]) -> int:
            flow_key = await new_flow(engine)
            async with transaction(engine) as tx:
                for state in states:
                    await messages.store(tx, threads=[replace(state, flow_key=flow_key)])
            return flow_key

        times = st.none() | st.sampled_from([datetime(2020, 1, n, tzinfo=UTC) for n in (1, 2)])
        threads = st.builds(
            lambda title, updated_at: Thread(
                id=ThreadId("t"),
                title=title,
                updated_at=updated_at,
                detail={"title": title, "updated_at": str(updated_at)},
            ),
            st.sampled_from("ab"),
            times,
        )
        states = st.builds(Shown, st.just(0), threads, st.integers(1, 2).map(EventId), times)

        @MORE
        @given(
            st.lists(states, min_size=1, max_size=5).flatmap(
                lambda one: st.tuples(st.just(one), st.permutations(one))
            )
        )
        def law(orders):
            told = [
                query(
                    database_url,
                    "SELECT title, coalesce(told_at - interval '1 s', updated_at), detail, as_of "
                    "FROM store.threads WHERE flow_key = %s",
                    run(shown(list(order))),
                )
                for order in orders
            ]
            assert told[0] == told[1]
            newest = max((time_of(state) or LONG_AGO, state.as_of) for state in orders[0])
            assert (told[0][0][1] or LONG_AGO, told[0][0][3]) == newest

        law()


def test_a_threads_detail_is_kept_as_json(database_url):
    detail = {"id": "t", "n": 10**25, "deep": [{"a": "\u2028"}], "none": None}
    with running(database_url) as (run, engine):

        async def shown() -> None:
            flow_key = await new_flow(engine)
            async with transaction(engine) as tx:
                thread = Thread(id=ThreadId("t"), detail=detail)
                await messages.store(tx, threads=[Shown(flow_key, thread, EventId(1))])

        run(shown())
    ((text,),) = query(database_url, "SELECT detail::text FROM archive.threads")
    assert json.loads(text) == detail
