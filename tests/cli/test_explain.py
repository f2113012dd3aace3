"""``archiver explain``: where an event came from, what became of it, and why an id is not there."""

import asyncio
import json
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from msgspec.structs import replace

from archiver.cli.database import Place
from archiver.cli.explain import _read
from archiver.cli.explanation import describe
from archiver.domain.coverage import Ranges
from archiver.domain.model import FlowId
from archiver.flowdock.pages import Page
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.ingest.pages import Listing, batch_of, read_page
from archiver.store import directory
from archiver.store.coverage import PageRow, Standing
from archiver.store.engine import connect, transaction
from tests.cli.conftest import HOSTILE, JsonShown, Run
from tests.ingest.arriving import (
    NOW,
    edit,
    fail_to_journal,
    frame,
    listed,
    new_flow,
    query,
    streamed,
    tag_change,
    waits_for_lock,
)
from tests.sql.world import flow

THREAD = {"id": "t", "title": "a thread"}
PAGE = "page 1 (audit, 2024-01-01 00:00:00Z): asked for ids 1 to 9, got 1 message, proved 1 to 9"
LATER = NOW + timedelta(minutes=1)


@pytest.fixture
def archive(database_url: str) -> str:
    """A flow with a message that was streamed, changed, and listed by a page; and with a gap."""

    async def fill() -> None:
        async with connect(database_url) as engine:
            flow_key = await new_flow(engine)
            frames = [
                frame(5, content="hel\x1blo", tags=["one"], thread_id="t", thread=THREAD),
                edit(6, 5, "changed"),
                tag_change(7, 5, add=["Two"], remove=["one"]),
            ]
            shown = frame(5, content="changed", edited=1577836800006, tags=["Two", "three"],
                          thread_id="t", thread=THREAD)  # fmt: skip
            page = PageRow(
                flow_key=flow_key, run=str(UUID(int=1)), purpose="audit", asked=(1, 9),
                proven=(1, 9), messages=1, as_of=9, requested_at=NOW,
            )  # fmt: skip
            failed = PageRow(
                flow_key=flow_key, run=str(UUID(int=1)), purpose="backfill", asked=(10, 12),
                proven=None, messages=0, as_of=0, requested_at=NOW, error="503 down",
            )  # fmt: skip
            claims = Standing(streamed=Ranges(((5, 9),)), listed=Ranges(((1, 9),)), due=12)
            arrivals = [streamed(one, flow_key) for one in frames]
            arrivals.append(listed(shown, flow_key, as_of=9, at=LATER))
            arrivals.append(streamed(frame(14), flow_key))
            await apply(
                engine,
                Batch(now=NOW, arrivals=arrivals, gains={flow_key: claims}, pages=[page, failed]),
            )

    asyncio.run(fill())
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("UPDATE store.flows SET path = 'acme/main', flow_id = 'f'")
    return database_url


async def test_what_is_told_is_of_one_moment_whatever_is_written_meanwhile(archive: str) -> None:
    place = Place(url=archive, pool_size=1, private=False)
    async with connect(archive) as engine:
        with psycopg.connect(archive) as other:
            other.execute("LOCK TABLE store.pages")
            explaining = asyncio.create_task(_read(place, "acme/main", 20))
            while not waits_for_lock(archive):  # noqa: ASYNC110 - the server calls nobody
                await asyncio.sleep(0.01)
            ((flow_key,),) = query(archive, "SELECT flow_key FROM store.flows")
            await apply(engine, Batch(now=NOW, arrivals=[streamed(frame(20), flow_key)]))
        found = await explaining
        assert (found.message, found.proof.newest_id, found.forms) == (None, 14, [])
        found = await _read(place, "acme/main", 20)
        assert found.message
        assert (found.proof.newest_id, len(found.forms)) == (20, 1)


def test_a_message_is_explained_with_all_that_made_it_so(archiver: Run, archive: str) -> None:
    told = archiver("explain", "acme/main", "5", ARCHIVER_DATABASE_URL=archive)
    assert (told.returncode, told.stderr) == (0, "")
    assert "\x1b" not in told.stdout
    lines = [line.strip() for line in told.stdout.split("\n")]
    assert lines[:4] == [
        "acme/main 5: message",
        "proven by an unbroken stream and a listing",
        f"last listed by {PAGE}",
        "form 0, by the stream",
    ]
    assert "received 2024-01-01 00:00:00Z, when the newest id of the flow was 5" in lines
    assert '"content": "hel\\u001blo",' in lines
    assert lines[lines.index("form 1, by a listing") + 2] == f"by {PAGE}"
    assert ["content", "changed"] in [line.split() for line in lines]
    assert "5 created by user 1, 2020-01-01 00:00:00Z: hel␛lo  [one]" in lines
    tags = lines.index("tags")
    assert [line.split(", ")[0] for line in lines[tags + 1 : tags + 4]] == [
        "5 by user 1", "7 by user 1", "9 shown by a listing",
    ]  # fmt: skip
    assert lines[tags + 2].endswith(": +Two -one")
    assert lines[tags + 3].endswith(": +three")
    changed = lines.index("changed by")
    assert [line.split(",")[0] for line in lines[changed + 1 : changed + 3]] == [
        "6 message-edit by user 1", "7 tag-change by user 1",
    ]  # fmt: skip
    assert lines[lines.index("thread") + 1 :] == ["thread_id  t", "title      a thread", ""]


@pytest.mark.parametrize(
    ("is_whole_before", "id_", "told"),
    [
        (False, 22, [("perhaps listed by page 3", "proved parts of 22 to 33")]),
        (False, 25, []),
        (False, 41, []),
        (True, 25, [("last listed by page 3", "proved 21 to 33")]),
    ],
)
async def test_no_page_is_named_for_what_it_left_out(
    archive: str,
    capsys: pytest.CaptureFixture[str],
    is_whole_before: bool,
    id_: int,
    told: list[tuple[str, str]],
) -> None:
    fail_to_journal(archive, 41, state="22023")
    whole = [(20, 50, NOW, [frame(30), frame(33)])] * is_whole_before
    torn = (20, 50, LATER, [frame(22), b'{"event": "message"}', frame(30), frame(33)])
    async with connect(archive) as engine:
        ((key,),) = query(archive, "SELECT flow_key FROM store.flows")
        for since, until, at, frames in [*whole, torn, (39, 42, LATER, [frame(40), frame(41)])]:
            page = Page(
                path="acme/main", since=since, until=until, newest=False, limit=100,
                frames=tuple(frames), requested_at=at, answered_at=at,
            )  # fmt: skip
            listing = Listing(page=page, flow_key=key, as_of=60, objection=lambda _: None)
            batch = batch_of(
                listing, read_page(listing), epoch=0, run=str(UUID(int=1)), purpose="backfill",
                now=at,
            )  # fmt: skip
            await apply(engine, batch)
    describe(await _read(Place(url=archive, pool_size=1, private=False), "acme/main", id_))
    lines = capsys.readouterr().out.split("form 0")[0].splitlines()
    pages = [line.strip() for line in lines if " listed by page" in line]
    assert [(one.partition(" (")[0], one.rpartition(", ")[2]) for one in pages] == told


async def test_pages_are_told_in_their_order_whatever_the_clocks(
    archive: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # The clock was ahead for the first page; for the third it was set back to the second's time.
    shown = ((timedelta(days=9), 60, "a"), (timedelta(0), 61, "b"), (timedelta(0), 70, "c"))
    async with connect(archive) as engine:
        ((key,),) = query(archive, "SELECT flow_key FROM store.flows")
        for ahead, as_of, content in shown:
            page = Page(
                path="acme/main", since=20, until=50, newest=False, limit=100,
                frames=(frame(30, content=content),), requested_at=LATER + ahead,
                answered_at=LATER + ahead + timedelta(seconds=1),
            )  # fmt: skip
            listing = Listing(page=page, flow_key=key, as_of=as_of, objection=lambda _: None)
            batch = batch_of(
                listing, read_page(listing), epoch=0, run=str(UUID(int=1)), purpose="audit",
                now=LATER,
            )  # fmt: skip
            await apply(engine, batch)
    describe(await _read(Place(url=archive, pool_size=1, private=False), "acme/main", 30))
    lines = capsys.readouterr().out.splitlines()
    pages = [line.strip().partition(" (")[0] for line in lines if "by page" in line]
    assert pages == ["last listed by page 5", "by page 3", "by page 4", "by page 5"]


async def test_a_history_is_told_in_its_order_whatever_the_clocks(archive: str) -> None:
    """The first listing shows the tag; the edit in the second is dated before the first listing."""
    tagged = frame(20, tags=["one"])
    edited = frame(20, tags=["one"], content="changed", edited=int(NOW.timestamp() * 1000))
    async with connect(archive) as engine:
        ((flow_key,),) = query(archive, "SELECT flow_key FROM store.flows")
        for arrival in (
            streamed(frame(20), flow_key),
            listed(tagged, flow_key, as_of=20, at=LATER),
            listed(edited, flow_key, as_of=20, at=LATER + timedelta(minutes=1)),
        ):
            await apply(engine, Batch(now=NOW, arrivals=[arrival]))
    found = await _read(Place(url=archive, pool_size=1, private=False), "acme/main", 20)
    told = [(one["content"], one["tags"]) for one in found.revisions]
    assert told == [("hello", []), ("hello", ["one"]), ("changed", ["one"])]


async def test_tags_are_dated_by_the_first_listing_since_the_step_before(archive: str) -> None:
    """A listing before that step may have shown the same, and does not date what came after."""
    place = Place(url=archive, pool_size=1, private=False)
    later = LATER + timedelta(minutes=5)
    tagged = frame(20, tags=["one"])
    async with connect(archive) as engine:
        ((flow_key,),) = query(archive, "SELECT flow_key FROM store.flows")
        for arrival in (
            streamed(frame(20), flow_key),
            listed(tagged, flow_key, as_of=20, at=LATER),
            listed(tagged, flow_key, as_of=25, at=later),
            listed(frame(30), flow_key, as_of=30, at=LATER),
            streamed(tag_change(31, 30, add=["one"]), flow_key),
            listed(frame(30), flow_key, as_of=35, at=later),
        ):
            await apply(engine, Batch(now=NOW, arrivals=[arrival]))
    for id_, added, dated in ((20, ("one",), (20, LATER)), (30, (), (35, later))):
        found = await _read(place, "acme/main", id_)
        step, revision = found.tags[-1], found.revisions[-1]
        assert (step.added, step.id, step.at) == (added, *dated)
        assert (revision["revision"], revision["at"]) == dated


async def test_a_change_of_tags_is_its_author_s_though_a_listing_showed_it_first(
    archive: str,
) -> None:
    """As in a page that was requested just before the newest events counted as known."""
    async with connect(archive) as engine:
        ((flow_key,),) = query(archive, "SELECT flow_key FROM store.flows")
        for arrival in (
            streamed(frame(20), flow_key),
            listed(frame(20, tags=["one"]), flow_key, as_of=20, at=LATER),
            streamed(tag_change(21, 20, add=["one"]), flow_key),
        ):
            await apply(engine, Batch(now=NOW, arrivals=[arrival]))
    found = await _read(Place(url=archive, pool_size=1, private=False), "acme/main", 20)
    told = [(one["revision"], one["kind"], one["user_id"]) for one in found.revisions]
    assert told == [(20, "created", "1"), (21, "tagged", "1")]
    assert [(one.id, one.listed, one.user, one.added) for one in found.tags] == [
        (21, False, "1", ("one",))
    ]


async def test_no_time_is_made_up_for_a_file_that_showed_the_same_again(
    archive: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with connect(archive) as engine:
        ((flow_key,),) = query(archive, "SELECT flow_key FROM store.flows")
        for as_of in (20, 25):
            found = replace(listed(frame(20), flow_key, as_of=as_of), witness="import")
            await apply(engine, Batch(now=NOW, arrivals=[found]))
    told = await _read(Place(url=archive, pool_size=1, private=False), "acme/main", 20)
    assert [(one.seen_again_at, one.seen_again_as_of) for one in told.forms] == [(None, 25)]
    describe(told)
    assert (
        "last shown again by an imported file, when the newest id of the flow was 25\n"
        in capsys.readouterr().out
    )


def test_what_was_altered_in_the_journal_is_told(archiver: Run, archive: str) -> None:
    with psycopg.connect(archive, autocommit=True) as db:
        db.execute("UPDATE store.journal SET payload = '{}' WHERE id = 5 AND form = 1")
    told = archiver("explain", "acme/main", "5", ARCHIVER_DATABASE_URL=archive).stdout
    before, altered = told.split("form 1, by a listing")
    assert "altered" not in before
    assert altered.strip().startswith("altered in the database: this is not what was received\n")


def test_programs_get_one_object(archiver: Run, archive: str) -> None:
    told = archiver("explain", "ACME/main", "5", "--json", ARCHIVER_DATABASE_URL=archive)
    found = json.loads(told.stdout)
    assert [form["witness"] for form in found["forms"]] == ["stream", "list"]
    assert found["forms"][1]["page"]["purpose"] == "audit"
    assert found["message"]["content"] == "changed"
    assert [one["kind"] for one in found["revisions"]] == ["created", "edited", "tagged", "listed"]
    assert [one["id"] for one in found["changed_by"]] == [6, 7]
    assert found["proof"]["due"] == 12


WHY = {
    3: "Flowdock has no message with this id: proven by a listing",
    11: "a gap: nothing proves this range yet; archiver backfill fills it",
    13: "not proven yet: the id is only moments old, or no daemon follows the flow",
    99: "higher than the newest known id of the flow, 14",
}


def test_why_an_id_is_not_there(
    archiver: Run, archive: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = archiver("explain", "acme/main", "11", ARCHIVER_DATABASE_URL=archive)
    failed = "1 request for it failed, the last because: 503 down"
    assert told.returncode == 1
    assert told.stdout == f"acme/main 11: not archived\n  {WHY[11]}\n  {failed}\n"
    place = Place(url=archive, pool_size=5, private=False)
    for id_, why in WHY.items():
        describe(asyncio.run(_read(place, "f", id_)))
        assert capsys.readouterr().out.startswith(f"acme/main {id_}: not archived\n  {why}\n")


def test_what_the_settings_exclude_is_not_said_to_be_asked_for(archiver: Run, archive: str) -> None:
    with psycopg.connect(archive, autocommit=True) as db:
        db.execute("UPDATE store.ledger SET doubted = '{[1,9)}'")
    reason = "it is not requested: the settings exclude it (flows, private)\n"
    given = {"ARCHIVER_DATABASE_URL": archive, "ARCHIVER_TOKEN": "t", "ARCHIVER_FLOWS": "!acme/*"}
    gap = archiver("explain", "acme/main", "11", **given)
    assert f"nothing proves this range yet; {reason}" in gap.stdout
    doubt = archiver("explain", "acme/main", "5", **given)
    assert f"in an unknown form; {reason}" in doubt.stdout
    plain = json.loads(archiver("explain", "acme/main", "11", "--json", **given).stdout)
    assert (plain["not_read"], plain["excluded"]) == (None, True)


def test_a_flow_that_is_not_there_is_told(archiver: Run, archive: str) -> None:
    told = archiver("explain", "acme/man", "5", ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 2
    assert "did you mean acme/main?" in told.stderr


def test_a_flow_that_is_named_exactly_is_meant_though_another_differs_in_case_alone(
    archiver: Run, database_url: str
) -> None:
    async def fill() -> None:
        async with connect(database_url) as engine, transaction(engine) as tx:
            some = [flow(FlowId(path)) for path in ("acme/Main", "acme/main")]
            await directory.see_flows(tx, some, now=NOW)

    def explained(named: str) -> str:
        told = archiver("explain", named, "5", ARCHIVER_DATABASE_URL=database_url)
        return told.stdout + told.stderr

    asyncio.run(fill())
    assert explained("acme/Main").startswith("acme/Main 5: not archived\n")
    assert explained("acme/main").startswith("acme/main 5: not archived\n")
    unclear = "archiver: error: ACME/main may be acme/Main or acme/main: say which\n"
    assert explained("ACME/main") == unclear
    nothing = archiver("files", "save", "acme/Main", "5", ARCHIVER_DATABASE_URL=database_url)
    assert nothing.stderr == "archiver: error: no message 5 of acme/Main names a file\n"


def test_json_has_no_power_over_a_terminal(json_shown: JsonShown, archive: str) -> None:
    assert json_shown(archive, "explain", "f", "5")["flow"].startswith(HOSTILE)
