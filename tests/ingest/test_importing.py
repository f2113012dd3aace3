"""An import is a listing of unknown time: whatever comes before or after it, the rows converge."""

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from typing_extensions import override

from archiver.domain.coverage import Ranges
from archiver.domain.model import Flow, FlowId
from archiver.errors import ArchiverError
from archiver.flowdock.official import ExportFile, ExportUnreadable, find_exports
from archiver.ingest.apply import apply
from archiver.ingest.batch import Arrival, Batch
from archiver.ingest.importing import Imported, find_destination, import_export, survey
from archiver.ingest.names import Names
from archiver.ingest.rebuild import check
from archiver.store import reading
from archiver.store.coverage import Standing
from tests.ingest.arriving import (
    FEW,
    NOW,
    SENT,
    Heard,
    cut,
    derived,
    edit,
    frame,
    hearsay,
    listed,
    new_flow,
    query,
    running,
    streamed,
    tag_change,
    together,
)


@dataclass(frozen=True)
class Found(Heard):
    """A frame as an exported file holds it, whenever the file is read."""

    @override
    def arrival(self, flow_key: int) -> Arrival:
        arrival = listed(self.payload, flow_key, as_of=self.as_of or 0)
        at = super().arrival(flow_key).received_at
        return replace(arrival, witness="import", origin="import acme/main", received_at=at)


@st.composite
def twice_told(draw: st.DrawFn) -> tuple[list[list[Heard]], list[list[Heard]]]:
    """The same events, listings and files, as they came to one archive and to another."""
    heard = draw(hearsay())
    turned = draw(st.lists(st.booleans(), min_size=len(heard), max_size=len(heard)))
    told = [
        Found(one.payload, one.seconds, one.as_of) if is_found and type(one) is Heard else one
        for one, is_found in zip(heard, turned, strict=True)
    ]
    # Nobody knows when a file was made; if it is read at another time, it says the same.
    later = [replace_seconds(one) for one in told]
    return draw(cut(told)), draw(cut(later))


def replace_seconds(one: Heard) -> Heard:
    return Found(one.payload, 9 - one.seconds, one.as_of) if isinstance(one, Found) else one


def test_rows_do_not_depend_on_when_a_file_is_read(database_url: str) -> None:
    with (
        running(database_url) as (run, engine),
        psycopg.connect(database_url, autocommit=True) as admin,
    ):

        @FEW
        @given(twice_told())
        def law(told: tuple[list[list[Heard]], list[list[Heard]]]) -> None:
            flows = []
            for batches in told:
                flows.append(run(new_flow(engine)))
                for batch in batches:
                    run(apply(engine, together(batch, flows[-1])))
            here, there = flows
            assert derived(admin, there) == derived(admin, here)

            async def differing() -> list[Any]:
                return [step async for step in check(engine, here) if step.differences]

            assert run(differing()) == []

        law()


@pytest.mark.parametrize("kind", ["message", "flow-rename"])
@pytest.mark.parametrize("as_of", [0, 2, 3])
def test_a_file_and_a_stream_tell_the_same_in_either_order(database_url, kind, as_of):
    payload = frame(2, kind, content="hello")
    with (
        running(database_url) as (run, engine),
        psycopg.connect(database_url, autocommit=True) as admin,
    ):
        rows = []
        for turn in (1, -1):
            flow_key = run(new_flow(engine))
            found = Found(payload, 1, as_of).arrival(flow_key)
            for one in [streamed(payload, flow_key), found][::turn]:
                run(apply(engine, Batch(now=NOW, arrivals=[one])))
            rows.append(derived(admin, flow_key))
    assert len(rows[0]["messages"]) == 1
    assert rows[0] == rows[1]


class Archive:
    """A database, and files to import into it."""

    def __init__(self, url: str, run: Any, engine: Any, home: Path) -> None:
        self.url, self.run, self.engine, self.home = url, run, engine, home

    def file(self, *elements: bytes) -> ExportFile:
        path = self.home / "messages.json"
        path.write_bytes(b"[\n" + b",\n".join(elements) + b"\n]")
        (export,) = find_exports(path)
        return export

    def read(self, *elements: bytes, path: str | None = None, most: int = 10**9) -> Imported:
        """Import a file of *elements*; stops after *most* batches."""
        export = self.file(*elements)

        async def work() -> Imported:
            *_, found = survey(export)
            destination = await find_destination(self.engine, found, path=path, now=NOW)
            imported, steps = Imported(), 0
            async for step in import_export(self.engine, export, found, destination, now=NOW):
                imported += step
                steps += 1
                if steps >= most:
                    break
            return imported

        result: Imported = self.run(work())
        return result

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return query(self.url, statement)


@pytest.fixture
def archive(database_url: str, tmp_path: Path):
    with running(database_url) as (run, engine):
        yield Archive(database_url, run, engine, tmp_path)


def test_a_file_is_archived_once_however_often_it_is_read(archive: Archive) -> None:
    elements = [frame(id_, edited=None, tags=["a"]) for id_ in range(1, 6)]
    assert archive.read(*elements) == Imported(taken=5)
    everything = "SELECT * FROM store.{} ORDER BY 1, 2"
    before = [archive.query(everything.format(one)) for one in ("journal", "messages")]
    assert archive.read(*elements) == Imported(known=5)
    assert [archive.query(everything.format(one)) for one in ("journal", "messages")] == before
    assert archive.query("SELECT count(*) FROM store.sightings") == [(0,)]
    assert archive.query("SELECT DISTINCT witness FROM archive.events") == [("import",)]


def test_an_import_that_was_interrupted_is_finished_by_the_next(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("archiver.ingest.importing.BATCH_ELEMENTS", 2)
    elements = [frame(id_) for id_ in range(1, 10)]
    assert archive.read(*elements, most=2) == Imported(taken=4)
    assert archive.read(*elements) == Imported(taken=5, known=4)


def test_after_an_import_that_was_interrupted_the_flow_is_listed_again_all_the_same(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it brought may have been deleted since, and perhaps nobody resumes the import."""
    monkeypatch.setattr("archiver.ingest.importing.BATCH_ELEMENTS", 2)
    elements = [frame(id_) for id_ in range(1, 10)]
    archive.read(*elements[:2])
    ((flow_key, epoch),) = archive.query("SELECT flow_key, epoch FROM store.ledger")
    gain = Standing(listed=Ranges(((1, 9),)), due=9, epoch=epoch)
    archive.run(apply(archive.engine, Batch(now=NOW, gains={flow_key: gain})))
    archive.read(*elements, most=2)
    assert archive.query("SELECT count(*) FROM archive.messages") == [(4,)]
    assert archive.query("SELECT from_id, to_id FROM archive.doubts") == [(1, 9)]


def test_a_later_file_brings_later_states_and_says_what_changed(archive: Archive) -> None:
    archive.read(frame(1), frame(2), frame(3))
    edited = frame(1, content="better", edited=SENT + 10)
    imported = archive.read(edited, frame(2), frame(3, tags=["x"]), frame(4))
    assert imported == Imported(taken=1, changed=2, known=1)
    assert imported.read == 4
    assert archive.query("SELECT id, content, tags FROM archive.messages ORDER BY id") == [
        (1, "better", []), (2, "hello", []), (3, "hello", ["x"]), (4, "hello", []),
    ]  # fmt: skip


def test_a_file_proves_nothing_and_has_the_flow_listed_again(archive: Archive) -> None:
    archive.read(frame(1), frame(2))
    assert archive.query("SELECT * FROM archive.coverage") == []
    assert archive.query("SELECT due, epoch FROM store.ledger") == [(0, 1)]
    ((flow_key,),) = archive.query("SELECT flow_key FROM store.flows")
    gain = Standing(listed=Ranges(((1, 9),)), due=9, epoch=1)
    archive.run(apply(archive.engine, Batch(now=NOW, gains={flow_key: gain})))
    archive.read(frame(1), frame(2), frame(3))
    assert archive.query("SELECT from_id, to_id FROM archive.coverage") == [(1, 9)]
    assert archive.query("SELECT from_id, to_id FROM archive.doubts") == [(1, 9)]


def test_it_is_told_when_a_file_was_archived_however_old_its_messages(archive: Archive) -> None:
    ago = NOW - timedelta(days=30)

    async def written_at() -> Any:
        async with archive.engine.connect() as tx:
            return (await reading.totals(tx, exact=False)).written_at

    archive.read(frame(8), frame(9))
    with psycopg.connect(archive.url, autocommit=True) as db:
        db.execute("UPDATE store.journal SET received_at = %s", [ago])
        db.execute("UPDATE store.ledger SET due_at = %s", [ago])
    assert archive.run(written_at()) == ago
    archive.read(frame(1), frame(2))
    assert archive.run(written_at()) == NOW


def test_the_stream_and_newer_listings_outweigh_a_file(archive: Archive) -> None:
    archive.read(frame(1, tags=["old"]), frame(2))
    ((flow_key,),) = archive.query("SELECT flow_key FROM store.flows")
    live = [
        streamed(tag_change(3, 1, add=["new"]), flow_key),
        streamed(edit(4, 2, "edited"), flow_key),
        listed(frame(1, tags=["newest"]), flow_key, as_of=4),
    ]
    archive.run(apply(archive.engine, Batch(now=NOW, arrivals=live)))
    archive.read(frame(1, tags=["old"]), frame(2))
    assert archive.query("SELECT tags, content FROM archive.messages ORDER BY id") == [
        (["newest"], "hello"),
        ([], "edited"),
    ]


def test_what_cannot_be_placed_is_rejected_with_its_place(archive: Archive) -> None:
    hole = b'{"id": 2, "event": }'
    foreign = frame(3, flow="another")
    huge = frame(9 * 10**11)
    elements = [frame(1), hole, foreign, huge, b"null", frame(5)]
    assert archive.read(*elements) == Imported(taken=2, rejected=4)
    rejects = archive.query("SELECT origin, reason, raw FROM archive.rejects ORDER BY id")
    assert [raw for _, _, raw in rejects] == [hole, foreign, huge, b"null"]
    assert {origin for origin, _, _ in rejects} == {"import f"}
    at = b"[\n" + b",\n".join(elements)
    places = [at.index(one) for one in (hole, foreign, huge, b"null")]
    for (_, reason, _), place in zip(rejects, places, strict=True):
        assert reason.endswith(f"(at byte {place:,} of the file)")
    assert "another flow" in rejects[1][1]
    assert archive.query("SELECT max(as_of) FROM store.messages") == [(5,)]


def test_a_file_is_of_the_flow_that_is_named_first(archive: Archive) -> None:
    assert archive.read(frame(1), frame(2, flow="another")) == Imported(taken=1, rejected=1)
    assert archive.query("SELECT flow, id FROM archive.messages") == [("f", 1)]


def test_a_flow_may_have_a_name_that_postgres_does_not_take(archive: Archive) -> None:
    assert archive.read(frame(1, flow="a\0b"), frame(2, flow="a\0b")) == Imported(taken=2)
    assert archive.query("SELECT DISTINCT flow FROM archive.messages") == [("a\ufffdb",)]


def test_a_file_is_held_against_how_far_its_flow_has_come(archive: Archive) -> None:
    archive.read(frame(1), frame(9))
    with pytest.raises(ArchiverError, match=r"the id 2000000000, impossibly high for f"):
        archive.read(frame(2_000_000_000))
    assert archive.query("SELECT max(id), max(as_of) FROM store.journal") == [(9, 9)]


def test_a_file_that_is_not_whole_changes_nothing(archive: Archive) -> None:
    path = archive.home / "messages.json"
    path.write_bytes(b"[" + frame(1) + b",\n" + frame(2)[:30])
    (export,) = find_exports(path)
    with pytest.raises(
        ExportUnreadable, match=r"messages\.json is not a complete list .* at byte 99"
    ):
        list(survey(export))


def test_flows_are_named_by_id_path_or_the_operator(archive: Archive) -> None:
    archive.read(frame(1, flow="u-1"), path="acme/main")
    archive.read(frame(2, flow="u-1"))
    archive.read(frame(1, flow="u-2"))
    nameless = [json.dumps({"id": id_, "event": "message"}).encode() for id_ in (1, 3)]
    archive.read(nameless[0], path="acme/x")
    archive.read(nameless[1], path="acme/main")
    archive.read(frame(4, flow="u-1"), path="acme/main")
    assert archive.query("SELECT flow, id FROM archive.messages ORDER BY flow, id") == [
        ("acme/main", 1), ("acme/main", 2), ("acme/main", 3), ("acme/main", 4),
        ("acme/x", 1), ("u-2", 1),
    ]  # fmt: skip
    for elements, path, told in (
        (frame(1, flow="u-1"), "acme/other", "its messages belong to acme/main, not to acme/other"),
        (frame(1, flow="u-3"), "acme/main", "another flow than acme/main: u-3"),
        (nameless[0], None, "--flow"),
    ):
        with pytest.raises(Exception, match=told):
            archive.read(elements, path=path)
    assert archive.query("SELECT flow_id FROM archive.flows WHERE flow_id = 'u-3'") == []


def test_a_file_that_names_its_flow_as_of_old_is_of_the_flow_that_goes_by_that(
    archive: Archive,
) -> None:
    archive.read(frame(1, flow="u-1"), path="acme/main")
    assert archive.read(frame(1, flow="u-1"), frame(2, flow="acme:main")).rejected == 0
    archive.read(frame(3, flow="acme:main"))
    archive.read(frame(4, flow="acme:main"), path="acme/main")
    assert archive.query("SELECT flow, id FROM archive.messages ORDER BY flow, id") == [
        ("acme/main", 1), ("acme/main", 2), ("acme/main", 3), ("acme/main", 4),
    ]  # fmt: skip


def test_what_names_its_flow_as_of_old_may_be_read_again_once_that_is_listed(
    archive: Archive,
) -> None:
    archive.read(frame(1, flow="acme:main"), path="acme/main")
    archive.run(Names(archive.engine).see([Flow(id=FlowId("u-1"), path="acme/main")], now=NOW))
    archive.read(frame(1, flow="acme:main"), path="acme/main")
    assert archive.query("SELECT flow, id FROM archive.messages ORDER BY flow, id") == [
        ("acme/main", 1), ("acme/main@acme:main", 1),
    ]  # fmt: skip


@pytest.mark.parametrize("turn", [1, -1])
def test_an_id_out_of_proportion_to_the_others_of_a_file_is_believed_of_no_place(
    archive: Archive, turn: int
) -> None:
    elements = [frame(1), frame(2), frame(2**52)]
    assert archive.read(*elements[::turn]) == Imported(taken=2, rejected=1)
    assert archive.query("SELECT max(id), max(as_of) FROM store.journal") == [(2, 2)]


@pytest.mark.parametrize("kind", ["activity", "discussion"])
@pytest.mark.parametrize("turn", [1, -1])
def test_what_a_file_does_not_tell_of_an_activity_stays(
    archive: Archive, kind: str, turn: int
) -> None:
    """Elements of exports, as far as they are known, have no title, body or author."""
    said = {"title": "pushed", "body": "<b>a commit</b>", "author": {"name": "Ann"}}
    whole = frame(1, kind, content=None, **said)
    bare = frame(1, kind, content=None, edited=None, emojiReactions={}, tags=["new"])
    for elements in [(whole, frame(2)), (bare, frame(3))][::turn]:
        archive.read(*elements)
    shown = "SELECT content, detail, external_user_name, tags FROM archive.messages WHERE id = 1"
    assert archive.query(shown) == [("pushed\na commit", said, "Ann", ["new"])]
