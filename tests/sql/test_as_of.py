"""``archive.messages_as_of``: what the flow showed in the past, as far as that is known."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from psycopg.rows import dict_row

from archiver.domain.events import Posted
from archiver.domain.facts import Fact, Showing, order
from archiver.domain.fold import fold, sketch
from archiver.domain.model import EventId, Message
from archiver.domain.tags import is_receipt
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.ingest.folding import replayed
from archiver.store import messages
from archiver.store.engine import transaction
from archiver.store.messages import History
from tests.domain.happenings import BEGIN, Life, lives
from tests.ingest.arriving import (
    FEW,
    NOW,
    SENT,
    Heard,
    cut,
    edit,
    frame,
    hearsay,
    new_flow,
    running,
    together,
)
from tests.ingest.test_importing import Found

Row = dict[str, Any]

AS_OF = """
    SELECT moment, past.* FROM unnest(%s::timestamptz[]) AS moment
    CROSS JOIN LATERAL archive.messages_as_of(moment) AS past
    JOIN archive.flows USING (flow) WHERE flow_id = %s
"""


def as_of(admin: psycopg.Connection, flow_id: str, moments: Iterable[datetime]) -> list[Row]:
    """The messages of a flow at each of *moments*."""
    with admin.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(AS_OF, [list(moments), flow_id]).fetchall()


def flow_id_of(admin: psycopg.Connection, flow_key: int) -> str:
    found = "SELECT flow_id FROM store.flows WHERE flow_key = %s"
    return str(admin.execute(found, [flow_key]).fetchall()[0][0])


def test_the_past_is_the_fold_of_what_was_heard_and_is_dated_up_to_then(database_url, admin):
    """A life may be heard in part or as a whole: the past shows no more than was heard."""
    with running(database_url) as (run, engine):

        async def stored(heard: Sequence[Fact]) -> int:
            flow_key = await new_flow(engine)
            key = (flow_key, 10)
            histories: dict[tuple[int, int], History] = {}
            held = replayed(key, heard, histories)
            async with transaction(engine) as tx:
                await messages.store(tx, added={key: held}, histories=histories)
            return flow_key

        @FEW
        @given(lives(), st.data())
        def law(life, data):
            facts = st.lists(st.sampled_from([*life.facts, *life.listings]), unique=True)
            whole = st.just(list(life.facts))
            heard = data.draw(whole | facts.filter(has_showing), label="heard")
            flow_id = flow_id_of(admin, run(stored(heard)))
            moments = [BEGIN + timedelta(seconds=half / 2) for half in range(-1, 2 * 40)]
            told = {row["moment"]: shown(row) for row in as_of(admin, flow_id, moments)}
            assert told == {
                moment: state for moment in moments if (state := folded(heard, moment)) is not None
            }

        law()


def has_showing(facts: Iterable[Fact]) -> bool:
    return any(isinstance(fact, Showing) for fact in facts)


State = tuple[str, str | None, list[str], str | None, datetime | None, int, bool]


def shown(row: Row) -> State:
    """What people see of a message in a row.

    It counts only whether the message is deleted: of two deletions, the fold dates the last.
    """
    names = ("thread_id", "edited_at", "edits")
    said = (row["event"], row["content"], sorted(row["tags"]))
    return *said, *(row[name] for name in names), row["deleted_at"] is not None


def folded(heard: Sequence[Fact], moment: datetime) -> State | None:
    """The state at *moment* by the domain's fold; None before the message was sent."""
    in_order = sorted(heard, key=order)
    message, created = sketch(next(fact for fact in in_order if isinstance(fact, Showing)))
    if message.sent_at is None or message.sent_at > moment:
        return None
    is_known = created.content is not None
    for fact in in_order:
        part = dated(fact, message, moment)
        if part is not None:
            before, message = message, fold(message, part)
            is_known = is_known or before.edited_at != message.edited_at
    return (
        message.event,
        message.content if is_known else None,
        sorted(tag for tag in message.tags if not is_receipt(tag)),
        message.thread,
        message.edited_at,
        message.edits,
        message.deleted_at is not None,
    )


def dated(fact: Fact, message: Message, moment: datetime) -> Fact | None:
    """The part of *fact* that was true at *moment*.

    Of a later listing that is the content, if it was edited by then.
    """
    if not isinstance(fact, Showing):
        sent_at = getattr(fact, "sent_at", None)
        return fact if sent_at is not None and sent_at <= moment else None
    if fact.shown_at is None or fact.shown_at <= moment:
        return fact
    if fact.message.edited_at is None or fact.message.edited_at > moment:
        return None
    kept = replace(fact.message, tags=message.tags, thread_id=message.thread)
    return replace(fact, message=kept)


def test_a_life_heard_whole_is_told_as_the_server_showed_it(database_url, admin):
    """What the archive shows of each moment is the server's own state after each change."""
    with running(database_url) as (run, engine):

        async def stored(life: Life) -> int:
            flow_key = await new_flow(engine)
            histories: dict[tuple[int, int], History] = {}
            held = replayed((flow_key, 10), life.facts, histories)
            async with transaction(engine) as tx:
                await messages.store(tx, added={(flow_key, 10): held}, histories=histories)
            return flow_key

        @FEW
        @given(lives().filter(lambda life: not life.removed))
        def law(life):
            flow_id = flow_id_of(admin, run(stored(life)))
            listings = {one.shown_at: visible(one.message) for one in life.listings}
            told = as_of(admin, flow_id, [one for one in listings if one])
            assert {
                row["moment"]: (row["content"], row["tags"], row["thread_id"]) for row in told
            } == listings

        law()


def visible(message: Posted) -> tuple[str, list[str], str | None]:
    tags = [tag for tag in message.tags if not is_receipt(tag)]
    return message.content, tags, message.thread_id


def test_the_end_of_time_is_now(database_url, admin):
    """The last state of the past is the present, whatever was heard, in whatever order."""
    with running(database_url) as (run, engine):

        async def archived(batches: Sequence[Sequence[Heard]]) -> int:
            flow_key = await new_flow(engine)
            for batch in batches:
                await apply(engine, together(batch, flow_key))
            return flow_key

        @FEW
        @given(hearsay().flatmap(cut))
        def law(batches):
            flow_id = flow_id_of(admin, run(archived(batches)))
            differing = f"""
                SELECT * FROM ({PRESENT.format("archive.messages")}) AS now
                FULL JOIN ({PRESENT.format("archive.messages_as_of('infinity')")}) AS past
                    USING (flow, id)
                JOIN archive.flows USING (flow)
                WHERE flow_id = %s AND now.shown IS DISTINCT FROM past.shown
            """
            assert admin.execute(differing, [flow_id]).fetchall() == []

        law()


PRESENT = """
    SELECT flow, id, ROW(event, user_id, nick, sent, content, thread_id, parent_id, edited_at,
                         edits, deleted_at IS NULL, attachments, reactions, app, uuid,
                         external_user_name, detail, array(
                             SELECT t FROM unnest(tags) AS t
                             WHERE t NOT LIKE ':unread:%%' ORDER BY t)
                         ) AS shown
    FROM {} WHERE sent IS NOT NULL
"""


HOUR = timedelta(hours=1)
START = datetime.fromtimestamp(SENT / 1000, UTC)


def at(hours: int) -> dict[str, Any]:
    return {"sent": SENT + hours * 3_600_000}


REACTED = frame(9, "emoji-reaction", content={"message": 1, "emoji": "+1", "type": "add"}, **at(5))
FILE = frame(2, "file", content={"file_name": "a.png", "file_size": 7}, **at(1))


@pytest.fixture
def told(database_url, admin):
    """A function that archives *heard*, and gives a message as of so many hours later."""
    with running(database_url) as (run, engine):

        async def archived(heard: Sequence[Heard]) -> int:
            flow_key = await new_flow(engine)
            arrivals = [one.arrival(flow_key) for one in heard]
            await apply(engine, Batch(now=NOW, arrivals=arrivals))
            return flow_key

        def told(heard: Sequence[Heard], id_: int, hours: int) -> Row | None:
            flow_id = flow_id_of(admin, run(archived(heard)))
            rows = as_of(admin, flow_id, [START + hours * HOUR])
            return next((row for row in rows if row["id"] == id_), None)

        yield told


def test_reactions_are_told_until_one_comes_and_not_guessed_at_before(told):
    heard = [Heard(frame(1, **at(0)), 0), Heard(REACTED, 0)]
    assert told(heard, 1, 6)["reactions"] == {"+1": ["1"]}
    assert told(heard, 1, 4)["reactions"] is None


def test_what_hangs_on_a_message_is_told_unless_it_was_edited_since(told):
    renamed = frame(3, "message-edit", content={"message": 2, "updated_content": "b"}, **at(5))
    heard = [Heard(FILE, 0), Heard(renamed, 0)]
    before, after = told(heard, 2, 2), told(heard, 2, 6)
    assert (before["content"], before["attachments"], before["detail"]) == ("a.png", None, None)
    assert (after["content"], after["attachments"][0]["size_bytes"]) == ("b", 7)
    assert after["detail"]["file_name"] == "a.png"


def test_an_edit_without_a_time_counts_with_what_came_before_it(told):
    untimed = frame(5, "message-edit", content={"message": 1, "updated_content": "new"}, sent=None)
    tagged = frame(4, "tag-change", content={"message": 1, "add": ["todo"]}, **at(3))
    heard = [Heard(frame(1, **at(0)), 0), Heard(tagged, 0), Heard(untimed, 0)]
    assert told(heard, 1, 2)["content"] == "hello"
    assert told(heard, 1, 3)["content"] == "new"


def test_what_only_a_file_showed_is_told_since_the_newest_message_in_it(told):
    """Nobody knows when a file was made, but it was after the newest message in it."""
    first = frame(1, tags=["then"], **at(0))
    retagged = frame(1, tags=["later"], thread_id="t", **at(0))
    edited = frame(1, content="new", edited=at(1)["sent"], tags=["last"], **at(0))
    newest = [frame(5, **at(5)), frame(9, **at(9))]
    earlier = [Found(one, 0, 5) for one in (retagged, newest[0])]
    later = [Found(one, 0, 9) for one in (edited, *newest)]
    heard = [Heard(first, 0), *later, *earlier]
    rows = [told(heard, 1, hours) for hours in (0, 4, 5, 8, 9)]
    assert [(row["content"], row["tags"], row["thread_id"]) for row in rows] == [
        ("hello", ["then"], None),
        ("new", ["then"], None),
        ("new", ["later"], "t"),
        ("new", ["later"], "t"),
        ("new", ["last"], None),
    ]


def test_a_message_without_a_time_is_left_out(told):
    assert told([Heard(frame(1, sent=None), 0)], 1, 10**5) is None


def test_a_history_that_an_older_release_kept_is_told_as_far_as_it_goes(database_url, admin):
    with running(database_url) as (run, engine):
        flow_key = run(new_flow(engine))
        frames = [frame(1, thread_id="t", **at(0)), edit(2, 1, "later")]
        arrivals = [Heard(one, 0).arrival(flow_key) for one in frames]
        run(apply(engine, Batch(now=NOW, arrivals=arrivals)))
    admin.execute(
        "UPDATE store.revisions SET event = NULL, thread_id = NULL, edited_at = NULL, edits = NULL"
    )
    (row,) = as_of(admin, flow_id_of(admin, flow_key), [START + timedelta(milliseconds=1)])
    assert (row["event"], row["thread_id"], row["content"]) == ("message", "t", "hello")
    assert row["edits"] is None


def test_asking_for_one_flow_reads_that_flow_alone(admin):
    """Postgres inlines the function, so that conditions reach its views."""
    told = admin.execute(
        "EXPLAIN SELECT * FROM archive.messages_as_of(now() - interval '1 day') "
        "WHERE flow = 'acme/main' AND id = 7"
    ).fetchall()
    plan = "\n".join(line for (line,) in told)
    assert "Function Scan on messages_as_of" not in plan
    assert "path = 'acme/main'" in plan
    assert "messages_pkey" in plan


def test_the_columns_are_those_of_messages_at_the_moment_it_was_promised(admin):
    columns = "SELECT * FROM {} LIMIT 0"
    now = [c.name for c in admin.execute(columns.format("archive.messages")).description or ()]
    then = admin.execute(columns.format("archive.messages_as_of(now())")).description or ()
    assert [c.name for c in then] == now[: now.index("revisions")]


def test_a_moment_in_another_zone_is_the_same_moment(told):
    heard = [Heard(frame(EventId(1), **at(0)), 0), Heard(edit(2, 1, "later"), 0)]
    assert told(heard, 1, 0) is not None
    assert told(heard, 1, -1) is None
