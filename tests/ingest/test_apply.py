"""The one writer: what Postgres refuses is set aside alone, and nothing else is lost."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from archiver.domain.coverage import Ranges
from archiver.domain.events import Posted, Rejected
from archiver.domain.model import EventId, Thread, ThreadId, UserId
from archiver.ingest.apply import apply, without
from archiver.ingest.batch import Applied, Arrival, Batch
from archiver.store.coverage import Standing
from archiver.store.engine import DatabaseError
from tests.ingest.arriving import (
    NOW,
    edit,
    fail_to_journal,
    frame,
    listed,
    new_flow,
    query,
    running,
    streamed,
    tag_change,
)

THREAD = Thread(id=ThreadId("t"), activities=2**31)

POISONS: dict[str, dict[str, Any]] = {
    "text with NUL": {"content": "a\0b"},
    "text with half a character": {"content": "\ud800"},
    "a tag with NUL": {"tags": ("good", "a\0b")},
    "a detail with NUL, which jsonb has not": {"detail": {"a": "\0"}},
    "a detail with half a character": {"detail": {"a": "\ud800"}},
    "an id beyond 64 bits": {"id": EventId(2**63)},
    "a parent beyond 64 bits": {"parent": EventId(2**63)},
    "a thread's count beyond 32 bits": {"thread": THREAD},
    "a user with NUL": {"user": UserId("\0")},
}


class Archive:
    """A flow of its own, to apply batches to and to inspect."""

    def __init__(self, url: str, run: Any, engine: Any) -> None:
        self.url = url
        self.flow_key: int = run(new_flow(engine))
        self._run, self._engine = run, engine

    def apply(self, *arrivals: Arrival, **changes: Any) -> Applied:
        batch = Batch(now=NOW, arrivals=arrivals, **changes)
        applied: Applied = self._run(apply(self._engine, batch))
        return applied

    def streamed(self, payload: bytes, **changes: Any) -> Arrival:
        arrival = streamed(payload, self.flow_key)
        assert isinstance(arrival.decoded, Posted)
        return replace(arrival, decoded=replace(arrival.decoded, **changes))

    def ids(self, table: str) -> set[int]:
        return {id_ for (id_,) in query(self.url, f"SELECT id FROM store.{table}")}

    def contents(self) -> set[str]:
        return {content for (content,) in query(self.url, "SELECT content FROM store.messages")}

    def rejects(self) -> list[tuple[Any, ...]]:
        return query(self.url, "SELECT origin, reason, raw FROM archive.rejects ORDER BY id")

    def doubts(self) -> list[tuple[Any, ...]]:
        return query(self.url, "SELECT from_id, to_id FROM archive.doubts ORDER BY 1")

    def standing(self) -> list[tuple[Any, ...]]:
        return query(self.url, "SELECT witness, from_id, to_id FROM archive.coverage ORDER BY 2")


@pytest.fixture
def archive(database_url):
    with running(database_url) as (run, engine):
        yield Archive(database_url, run, engine)


@pytest.mark.parametrize("poison", POISONS)
def test_what_postgres_refuses_is_set_aside_and_the_rest_lands(archive, poison):
    arrivals = [archive.streamed(frame(id_)) for id_ in range(1, 8)]
    arrivals[3] = archive.streamed(frame(4), **POISONS[poison])
    gain = Standing(streamed=Ranges(((1, 7),)), due=7)

    applied = archive.apply(*arrivals, gains={archive.flow_key: gain})

    assert applied.refused == {(archive.flow_key, arrivals[3].id)}
    assert (applied.events, applied.rejected) == (6, 1)
    assert archive.ids("journal") == archive.ids("messages") == {1, 2, 3, 5, 6, 7}
    ((origin, reason, raw),) = archive.rejects()
    assert (origin, raw) == ("default 1", arrivals[3].frame)
    assert reason
    if arrivals[3].id == 4:
        assert archive.standing() == [("stream", 1, 3), ("stream", 5, 7)]


def test_what_a_trigger_of_somebody_refuses_is_set_aside_and_the_rest_lands(archive):
    fail_to_journal(archive.url, 4, state="P0001")
    arrivals = [archive.streamed(frame(id_)) for id_ in range(1, 8)]
    gain = Standing(streamed=Ranges(((1, 7),)), due=7)

    applied = archive.apply(*arrivals, gains={archive.flow_key: gain})

    assert (applied.events, applied.rejected) == (6, 1)
    assert archive.ids("messages") == {1, 2, 3, 5, 6, 7}
    assert archive.rejects() == [("default 1", "not to be kept", arrivals[3].frame)]
    assert archive.standing() == [("stream", 1, 3), ("stream", 5, 7)]


def test_what_cannot_be_set_aside_either_is_raised(archive):
    fail_to_journal(archive.url, 4, state="P0001")
    with psycopg.connect(archive.url) as db:
        db.execute(
            "CREATE TRIGGER fail BEFORE INSERT ON store.rejects"
            " FOR EACH ROW EXECUTE FUNCTION fail()"
        )
    with pytest.raises(DatabaseError, match="not to be kept"):
        archive.apply(archive.streamed(frame(4)))


def test_what_is_brought_in_is_doubted_together_with_it_also_where_postgres_refuses_a_part(archive):
    """A kill may come after any of the transactions, so each of them also raises the doubts."""
    with psycopg.connect(archive.url) as db:
        db.execute("CREATE TABLE public.opening (xid xid)")
        db.execute(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN INSERT INTO public.opening VALUES (pg_current_xact_id()::xid);"
            " RETURN NULL; END $$"
        )
        db.execute(
            "CREATE TRIGGER note AFTER UPDATE OF epoch ON store.ledger"
            " FOR EACH ROW WHEN (old.epoch < new.epoch) EXECUTE FUNCTION note()"
        )
    arrivals = [archive.streamed(frame(id_)) for id_ in range(1, 8)]
    arrivals[3] = archive.streamed(frame(4), **POISONS["text with NUL"])
    archive.apply(*arrivals, opened=frozenset({archive.flow_key}))
    assert archive.ids("journal") == {1, 2, 3, 5, 6, 7}
    undoubted = "SELECT id FROM store.journal WHERE xmin NOT IN (SELECT xid FROM opening)"
    assert query(archive.url, undoubted) == []


def test_a_page_is_new_but_for_what_the_journal_has_of_its_range(archive):
    key = archive.flow_key
    last = listed(frame(9), key, as_of=50)
    archive.apply(last, *(streamed(one, key) for one in (edit(30, 4, "changed"), frame(40))))
    gains = {
        number: {key: Standing(listed=Ranges(((number, number + 2),)))} for number in (1, 4, 7)
    }
    page = {n: [listed(frame(id_), key, as_of=50) for id_ in range(n, n + 3)] for n in gains}

    vacant, changed = (archive.apply(*page[n], gains=gains[n]) for n in (1, 4))
    known = archive.apply(*page[7][:2], last, gains=gains[7])

    assert (vacant.events, changed.events) == (3, 3)
    assert (known.events, known.repeated) == (2, 1)
    asked = "SELECT id FROM archive.messages WHERE content = 'changed'"
    assert query(archive.url, asked) == [(4,)]


def test_a_payload_that_is_no_json_for_postgres_is_set_aside(archive):
    bad = replace(archive.streamed(frame(2)), frame=b"{'id': 2}")
    archive.apply(archive.streamed(frame(1)), bad, archive.streamed(frame(3)))
    assert archive.ids("journal") == {1, 3}
    assert [raw for _, _, raw in archive.rejects()] == [b"{'id': 2}"]


def test_several_poisons_are_found_among_many_and_again_when_they_come_again(archive):
    bad = {3, 4, 50, 99, 100}
    arrivals = [
        archive.streamed(frame(id_), **({"content": "\0"} if id_ in bad else {}))
        for id_ in range(1, 101)
    ]
    gain = Standing(listed=Ranges(((1, 100),)))
    for repeated in (0, 95):
        applied = archive.apply(*arrivals, gains={archive.flow_key: gain})
        assert {id_ for _, id_ in applied.refused} == bad
        assert archive.ids("messages") == set(range(1, 101)) - bad
        assert len(archive.rejects()) == len(bad)
        assert archive.standing() == [("list", 1, 2), ("list", 5, 49), ("list", 51, 98)]
        assert (applied.events, applied.repeated) == (95 - repeated, repeated)


def test_a_batch_of_poison_alone_claims_nothing(archive):
    gain = Standing(streamed=Ranges(((1, 2),)), due=2)
    arrivals = [archive.streamed(frame(id_), content="\0") for id_ in (1, 2)]
    archive.apply(*arrivals, gains={archive.flow_key: gain})
    assert archive.standing() == []
    assert query(archive.url, "SELECT from_id, to_id FROM archive.gaps") == [(1, 2)]


def test_a_batch_that_is_applied_twice_changes_nothing(archive):
    arrivals = [archive.streamed(frame(1)), streamed(edit(2, 1, "new"), archive.flow_key)]
    rejected = streamed(b"{", archive.flow_key)
    first = archive.apply(*arrivals, rejected)
    again = archive.apply(*arrivals, rejected)
    assert (first.events, first.repeated, first.messages) == (2, 0, 1)
    assert (again.events, again.repeated, again.messages) == (0, 2, 0)
    assert len(archive.rejects()) == 1


def test_a_batch_without_anything_is_applied(archive):
    assert archive.apply() == Applied()


def test_signals_and_rejects_land_without_any_event(archive):
    nowhere = replace(streamed(frame(1, "presence"), 1), flow_key=None)
    unplaced = replace(nowhere, decoded=Rejected(reason="no flow"))
    applied = archive.apply(nowhere, unplaced)
    assert (applied.events, applied.signals, applied.rejected) == (0, 1, 1)
    assert query(archive.url, "SELECT flow, event FROM archive.signals") == [(None, "presence")]


def test_a_tag_that_no_index_takes_keeps_no_message_out(archive):
    letters = "".join(map(chr, Random(7).choices(range(0x20000, 0x2A000), k=651)))
    waiting = tag_change(9, 5, add=["a", letters])
    for frames in ([waiting], [frame(5), frame(6, tags=[letters[:-1], letters])]):
        archive.apply(*(streamed(one, archive.flow_key) for one in frames))

    assert archive.rejects() == []
    stored = query(archive.url, "SELECT id, tags FROM archive.messages ORDER BY id")
    assert stored == [(5, ["a"]), (6, [letters[:-1]])]


def test_a_message_said_thousands_of_times_in_one_batch_is_kept_once(archive):
    arrivals = [archive.streamed(frame(1))] * 3000
    arrivals += [listed(frame(1), archive.flow_key, as_of=n % 50) for n in range(2000)]
    applied = archive.apply(*arrivals)
    assert (applied.events, applied.repeated, applied.messages) == (1, 4999, 1)
    assert query(archive.url, "SELECT as_of, revisions FROM store.messages") == [(49, 0)]


def test_a_message_in_hundreds_of_forms_keeps_them_all(archive):
    arrivals = [listed(frame(1, tags=[f"t{n}"]), archive.flow_key, as_of=n) for n in range(1, 301)]
    archive.apply(*arrivals[:150])
    archive.apply(*arrivals[150:])
    assert query(archive.url, "SELECT count(*), max(form) FROM archive.forms") == [(300, 299)]
    stored = "SELECT count(*), max(ordinal) FROM store.revisions"
    assert query(archive.url, stored) == [(300, 299)]
    assert query(archive.url, "SELECT tags, revisions FROM store.messages") == [(["t300"], 300)]


def test_two_thousand_flows_fit_into_one_batch(database_url):
    with running(database_url) as (run, engine):
        with psycopg.connect(database_url) as admin:
            admin.execute(
                "INSERT INTO store.flows (flow_id, path, first_seen_at) "
                "SELECT n, n, now() FROM generate_series(1, 2000) AS n"
            )
            admin.execute("INSERT INTO store.ledger (flow_key) SELECT flow_key FROM store.flows")
            keys = [key for (key,) in admin.execute("SELECT flow_key FROM store.flows")]
        arrivals = [streamed(frame(7), key) for key in keys]
        gains = {key: Standing(streamed=Ranges(((7, 7),)), due=7) for key in keys}
        applied = run(apply(engine, Batch(now=NOW, arrivals=arrivals, gains=gains)))
    assert applied.events == 2000
    held = "SELECT count(DISTINCT flow) FROM archive.coverage JOIN archive.messages USING (flow)"
    assert query(database_url, held) == [(2000,)]


def test_an_event_of_another_flow_with_the_same_id_is_another_event(database_url):
    with running(database_url) as (run, engine):
        flows = [run(new_flow(engine)) for _ in range(2)]
        arrivals = [streamed(frame(1), flow_key) for flow_key in flows]
        arrivals.append(streamed(edit(2, 1, "changed"), flows[0]))
        run(apply(engine, Batch(now=NOW, arrivals=arrivals)))
    told = query(database_url, "SELECT content FROM store.messages ORDER BY flow_key")
    assert told == [("changed",), ("hello",)]


def test_times_at_the_ends_of_the_calendar_are_kept(archive):
    ends = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
    archive.apply(*(archive.streamed(frame(n), sent_at=at) for n, at in enumerate(ends, 1)))
    assert archive.rejects() == []
    changes = [streamed(edit(9, n, "new"), archive.flow_key) for n in (1, 2)]
    archive.apply(*changes)
    assert [
        at for (at,) in query(archive.url, "SELECT sent FROM archive.messages ORDER BY id")
    ] == ends


def test_without_takes_exactly_the_refused_ids_out_of_both_witnesses():
    gain = Standing(streamed=Ranges(((1, 9),)), listed=Ranges(((5, 20),)), due=20)
    batch = Batch(now=NOW, gains={1: gain, 2: gain})
    left = without(batch, [(1, 5), (1, 9), (3, 1)]).gains
    assert left[1].streamed == Ranges(((1, 4), (6, 8)))
    assert left[1].listed == Ranges(((6, 8), (10, 20)))
    assert left[1].due == 20
    assert left[2] == gain


def test_a_listing_lifts_no_doubt_of_a_message_of_which_something_newer_is_known(archive):
    key = archive.flow_key
    archive.apply(
        streamed(frame(1), key), streamed(frame(2), key), gains={key: Standing(due=9)}, opened={key}
    )
    archive.apply(streamed(edit(8, 2, "newer"), key))
    listing = [listed(frame(id_), key, as_of=5) for id_ in (1, 2)]
    gain = Standing(listed=Ranges(((1, 4),)), epoch=1)
    archive.apply(*listing, gains={key: gain})
    assert archive.doubts() == [(2, 2), (5, 9)]


def test_nor_of_one_that_a_listing_of_a_newer_position_has_shown(archive):
    key = archive.flow_key
    archive.apply(
        streamed(frame(1), key), streamed(frame(2), key), gains={key: Standing(due=9)}, opened={key}
    )
    archive.apply(listed(frame(2, tags=["newer"]), key, as_of=8))
    listing = [listed(frame(id_), key, as_of=5) for id_ in (1, 2)]
    archive.apply(*listing, gains={key: Standing(listed=Ranges(((1, 4),)), epoch=1)})
    assert archive.doubts() == [(2, 2), (5, 9)]


def test_nor_of_one_that_is_changed_by_what_came_with_it(archive):
    key = archive.flow_key
    archive.apply(gains={key: Standing(due=9)})
    archive.apply(opened={key})
    came = [*(listed(frame(id_), key, as_of=5) for id_ in (1, 2)), streamed(edit(8, 2, "new"), key)]
    archive.apply(*came, gains={key: Standing(listed=Ranges(((1, 4),)), epoch=1)})
    assert archive.doubts() == [(2, 2), (5, 9)]


def test_a_message_that_was_changed_in_an_unknown_way_is_doubted_until_it_is_listed(archive):
    key = archive.flow_key
    heard = [streamed(frame(id_), key) for id_ in (1, 2, 3)]
    unknown = frame(8, "message-change", message_id=2, patch=["uuid"], content={"uuid": "?"})
    archive.apply(*heard, gains={key: Standing(streamed=Ranges(((1, 9),)), due=9)})
    archive.apply(streamed(unknown, key))
    assert archive.doubts() == [(2, 2)]

    changed = frame(2, content="as it is by now")
    listing = Standing(listed=Ranges(((2, 2),)))
    archive.apply(listed(changed, key, as_of=7), gains={key: listing})
    assert archive.doubts() == [(2, 2)]
    archive.apply(listed(changed, key, as_of=8), gains={key: listing})
    assert archive.doubts() == []
    assert "as it is by now" in archive.contents()

    archive.apply(streamed(unknown, key))
    archive.apply(listed(unknown, key, as_of=9))
    assert archive.doubts() == []


def test_what_a_stream_tells_otherwise_than_it_is_kept_is_doubted_until_it_is_listed(archive):
    key = archive.flow_key
    due = Standing(streamed=Ranges(((1, 9),)), due=9)
    archive.apply(streamed(frame(2), key), streamed(edit(5, 1, "one"), key), gains={key: due})
    archive.apply(streamed(frame(1), key), streamed(frame(2), key))
    assert archive.doubts() == []

    changed = frame(2, content="a newer one", tags=["todo"])
    archive.apply(streamed(changed, key), streamed(edit(5, 1, "another"), key))
    assert archive.doubts() == [(1, 2)]

    listing = Standing(listed=Ranges(((2, 2),)))
    archive.apply(listed(changed, key, as_of=9), gains={key: listing})
    assert archive.doubts() == [(1, 1)]
    assert "a newer one" in archive.contents()


def test_nor_does_one_of_which_postgres_refuses_another_message(archive):
    key = archive.flow_key
    archive.apply(
        streamed(frame(1), key), streamed(frame(2), key), gains={key: Standing(due=9)}, opened={key}
    )
    archive.apply(streamed(edit(8, 2, "newer"), key))
    fail_to_journal(archive.url, 3, state="22023")
    listing = [listed(frame(id_), key, as_of=5) for id_ in (1, 2, 3)]
    applied = archive.apply(*listing, gains={key: Standing(listed=Ranges(((1, 4),)), epoch=1)})
    assert applied.refused == {(key, 3)}
    assert archive.standing() == [("list", 1, 2), ("list", 4, 4)]
    assert archive.doubts() == [(2, 3), (5, 9)]


def test_a_listing_that_shows_what_a_stream_did_not_bring_has_the_whole_flow_listed_again(archive):
    key = archive.flow_key
    streams = Standing(streamed=Ranges(((1, 5),)), listed=Ranges(((6, 9),)), due=9)
    archive.apply(streamed(frame(1), key), streamed(frame(5), key), gains={key: streams})
    archive.apply(listed(frame(7), key, as_of=9))
    assert archive.doubts() == []  # 7 is in a listed range: a listing may lag
    archive.apply(listed(frame(5, edited=6000), key, as_of=9))
    assert archive.doubts() == []  # the stream brought the message, in another form
    archive.apply(listed(frame(3), key, as_of=9))
    assert archive.doubts() == [(1, 9)]


def test_a_stream_that_did_not_bring_what_it_should_have_is_told_by_paths(archive, caplog):
    key = archive.flow_key
    streams = Standing(streamed=Ranges(((1, 5),)), due=5)
    archive.apply(streamed(frame(1), key), gains={key: streams})
    archive.apply(listed(frame(3), key, as_of=9))
    ((path,),) = query(archive.url, "SELECT path FROM store.flows")
    (told,) = [one for one in caplog.records if "missed messages" in one.message]
    assert vars(told)["flows"] == [path]


def test_a_signal_happened_when_it_says_if_that_may_be_true(archive):
    said = [NOW - timedelta(hours=1), NOW - timedelta(days=400), NOW + timedelta(days=400)]
    for at in said:
        payload = frame(1, "activity.user", sent=round(at.timestamp() * 1000))
        archive.apply(streamed(payload, archive.flow_key))
    told = query(archive.url, "SELECT at FROM archive.signals ORDER BY at")
    assert [at for (at,) in told] == [said[0], NOW, NOW]


def test_a_listing_that_shows_a_message_newer_than_its_position_comes_after_that_message(archive):
    key = archive.flow_key
    archive.apply(listed(frame(5, tags=["listed"]), key, as_of=3))
    archive.apply(streamed(frame(5), key))
    assert query(archive.url, "SELECT tags FROM archive.messages") == [(["listed"],)]
    assert query(archive.url, "SELECT DISTINCT as_of FROM store.journal") == [(5,)]


def test_what_is_listed_again_later_counts_from_then_on_though_nothing_was_said_meanwhile(archive):
    key = archive.flow_key
    for minutes, tags in enumerate((["now"], ["for a while"], ["now"])):
        at = NOW + timedelta(minutes=minutes)
        archive.apply(listed(frame(5, tags=tags), key, as_of=9, at=at))
    assert query(archive.url, "SELECT tags FROM archive.messages") == [(["now"],)]


def test_an_old_message_that_is_listed_shows_its_thread_as_it_is_by_now(archive):
    """The thread was renamed twice, and only the first event was heard."""

    def thread(title: str, *, minute: int) -> dict[str, str]:
        return {"id": "t", "title": title, "updated_at": f"2020-01-01T00:{minute:02}:00.000Z"}

    key = archive.flow_key
    said = frame(5, thread_id="t", thread=thread("plans", minute=1))
    renamed = frame(7, "thread-change", content=thread("old plans", minute=2))
    by_now = frame(5, thread_id="t", thread=thread("new plans", minute=3))
    late = frame(6, thread_id="t", thread=thread("plans", minute=1))
    for arrival in (streamed(said, key), streamed(renamed, key), listed(by_now, key, as_of=9)):
        archive.apply(arrival, streamed(late, key))
    assert query(archive.url, "SELECT title FROM archive.threads") == [("new plans",)]
