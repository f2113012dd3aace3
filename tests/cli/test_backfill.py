"""``archiver backfill``: gaps are filled once, and reported to people and programs."""

import asyncio
import json
import re
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import psycopg
import pytest

from archiver.cli.backfill import Progressed, _look, _summary
from archiver.settings import Settings
from archiver.simulator.entities import Message, Timeline
from archiver.simulator.faults import Fault
from archiver.simulator.server import Simulator
from archiver.store.engine import connect
from archiver.store.files import Counts
from tests.cli.conftest import IMPORTED, OnTerminal, Run, leading_to
from tests.cli.forks import Starter
from tests.ingest.arriving import waits_for_lock

pytestmark = pytest.mark.usefixtures("hasty")


@pytest.fixture
async def flowdock() -> AsyncIterator[Simulator]:
    async with Simulator.start(flows=2, history=500, listing_delay_seconds=0) as simulator:
        yield simulator


def without(listed: Callable[..., Iterator[Message]], lost: Message) -> Callable[..., object]:
    """*listed*, but without the message that the index has *lost*."""
    return lambda *asked: (one for one in listed(*asked) if one is not lost)


async def backfill(
    archiver: Run, flowdock: Simulator, url: str, *options: str, **settings: str
) -> Any:
    run = partial(
        archiver,
        "backfill",
        *options,
        **leading_to(flowdock, url),
        ARCHIVER_TOKEN=flowdock.token,
        ARCHIVER_BACKFILL_REQUESTS_PER_SECOND="1000",
        ARCHIVER_INGEST_SETTLING_SECONDS="0.1",
        **settings,
    )
    return await asyncio.to_thread(run)


async def test_a_file_that_tells_of_ids_to_come_hides_nothing(
    archiver: Run, flowdock: Simulator, database_url: str, tmp_path: Path
) -> None:
    """Messages said later have lower ids, in a range that was listed when it was still empty."""
    await backfill(archiver, flowdock, database_url)
    flow = next(flow for flow in flowdock.world.flows if flow.path == "acme/main")
    to_come = max(one.id for one in flow.timeline) + 1000
    element = {"id": to_come, "event": "message", "content": "x", "flow": flow.id, "sent": 1}
    file = tmp_path / "messages.json"
    file.write_text(json.dumps([element]))
    imported = archiver("import", str(file), ARCHIVER_DATABASE_URL=database_url)
    assert imported.returncode == 0, imported.stderr
    await backfill(archiver, flowdock, database_url)
    await flowdock.play(seed=3, events=100)
    await backfill(archiver, flowdock, database_url)

    told = [one.id for one in flow.timeline]
    assert max(told) < to_come
    with psycopg.connect(database_url) as db:
        held = db.execute("SELECT id FROM archive.messages WHERE flow = 'acme/main'").fetchall()
        due = db.execute(
            "SELECT due FROM store.ledger JOIN store.flows USING (flow_key)"
            " WHERE path = 'acme/main'"
        ).fetchone()
    assert {id_ for (id_,) in held} == {*told, to_come}
    assert due == (max(told),)


async def test_what_is_said_where_nothing_is_listed_any_more_is_not_hidden_by_a_file(
    archiver: Run, flowdock: Simulator, database_url: str, tmp_path: Path
) -> None:
    flow = next(flow for flow in flowdock.world.flows if flow.path == "acme/main")
    ids = [one.id for one in flow.timeline]
    told = {"event": "message", "content": "x", "flow": flow.id, "sent": 1}
    file = tmp_path / "messages.json"
    file.write_text(json.dumps([{"id": id_, **told} for id_ in [*ids, max(ids) + 500]]))
    for id_ in ids:
        flow.timeline.remove(id_)
    assert archiver("import", str(file), ARCHIVER_DATABASE_URL=database_url).returncode == 0
    done = await backfill(archiver, flowdock, database_url)
    assert (done.returncode, done.stdout.split(", ")[-2]) == (0, "0 gaps left")
    later = flowdock.world.post(flow, flowdock.me, "after all")
    assert (await backfill(archiver, flowdock, database_url)).returncode == 0
    with psycopg.connect(database_url) as db:
        held = db.execute("SELECT id FROM archive.messages WHERE flow = 'acme/main'").fetchall()
    assert max(ids) < later.id < max(ids) + 500
    assert {id_ for (id_,) in held} == {*ids, max(ids) + 500, later.id}


async def test_all_gaps_are_filled(archiver: Run, flowdock: Simulator, database_url: str) -> None:
    told = await backfill(archiver, flowdock, database_url, "--json")
    assert told.returncode == 0, told.stderr
    result = json.loads(told.stdout)
    assert result["gaps_left"] == 0
    assert result["not_filled"] == []
    assert result["proven"] == 1
    mine = [flow for flow in flowdock.world.flows if flowdock.me.id in flow.members]
    with psycopg.connect(database_url) as db:
        rows = db.execute("SELECT flow, count(*) FROM archive.messages GROUP BY flow").fetchall()
    held: dict[str, int] = dict(rows)
    assert {flow.path: held[flow.path] for flow in mine} == {
        flow.path: len(flow.timeline) for flow in mine
    }
    assert result["messages"] == sum(held.values())


async def test_who_stops_it_is_told_how_to_go_on(
    flowdock: Simulator, database_url: str, starter: Starter, environ: dict[str, str]
) -> None:
    settings = environ | leading_to(flowdock, database_url)
    settings |= {"ARCHIVER_TOKEN": flowdock.token, "ARCHIVER_LOG_LEVEL": "error"}

    def stop() -> list[str]:
        with psycopg.connect(database_url) as other, TemporaryFile("w+") as told:
            other.execute("LOCK TABLE store.journal")
            files = [told.fileno()] * 3
            with starter.start(["backfill", "--json"], settings, *files) as filling:
                while not waits_for_lock(database_url):
                    time.sleep(0.01)
                filling.send_signal(signal.SIGINT)
                assert filling.wait() == 130
            told.seek(0)
            return told.read().rstrip().split("\n")

    assert (await asyncio.to_thread(stop))[-1] == (
        "stopped: what was archived is kept; run the same command again to continue, "
        "or archiver status to see what is left"
    )


async def test_the_gaps_of_others_are_filled_though_a_token_is_refused(
    archiver: Run, flowdock: Simulator, database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "archiver.toml"
    club = '[[accounts]]\nname = "club"\ntoken = "s3cret-marker"\n'
    work = f'[[accounts]]\nname = "work"\ntoken = "{flowdock.token}"\n'
    config.write_text(club + work)
    run = partial(archiver, "--config", str(config), "backfill", "--json")
    settings = leading_to(flowdock, database_url)
    told = await asyncio.to_thread(run, **settings, ARCHIVER_INGEST_SETTLING_SECONDS="0.1")
    assert told.returncode == 2
    assert "refused the token of account club (401)" in told.stderr
    result = json.loads(told.stdout)
    assert (result["proven"], result["gaps_left"], result["locked_out"]) == (1, 0, ["club"])
    assert result["messages"] > 0


async def test_it_can_be_repeated_and_speaks_to_people(
    archiver: Run, flowdock: Simulator, database_url: str
) -> None:
    first = await backfill(archiver, flowdock, database_url)
    again = await backfill(archiver, flowdock, database_url)
    assert first.returncode == again.returncode == 0
    assert re.search(r" 0 gaps left, \d files kept\n$", again.stdout)


async def test_flows_that_two_accounts_read_are_counted_once(
    archiver: Run, flowdock: Simulator, database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "two.toml"
    names = ("one", "other")
    config.write_text(
        "".join(f'[[accounts]]\nname = "{name}"\ntoken = "{flowdock.token}"\n' for name in names)
    )
    run = partial(archiver, "--config", str(config), "backfill")
    settings = leading_to(flowdock, database_url)
    told = await asyncio.to_thread(run, **settings, ARCHIVER_INGEST_SETTLING_SECONDS="0.1")
    flows = told.stdout.splitlines()[-1].partition(",")[0]
    assert f"filling the gaps of {flows}\n" in told.stderr


async def test_what_is_told_on_a_terminal_stands_above_the_bar(
    on_terminal: OnTerminal, environ: dict[str, str], flowdock: Simulator, database_url: str
) -> None:
    hasty = {
        "ARCHIVER_TOKEN": flowdock.token,
        "ARCHIVER_BACKFILL_REQUESTS_PER_SECOND": "1000",
        "ARCHIVER_INGEST_SETTLING_SECONDS": "0.1",
    }
    settings = environ | leading_to(flowdock, database_url) | hasty
    shown = await asyncio.to_thread(on_terminal, ["backfill"], settings)
    before, told, _ = shown.partition("filling the gaps of ")
    assert told
    assert before.endswith("\r\x1b[2K")


async def test_a_gap_that_stays_is_told_with_its_reason(
    archiver: Run, flowdock: Simulator, database_url: str
) -> None:
    flowdock.faults.add(
        Fault(kind="status", on="rest", path="*/acme/main/messages", status=403, times=0,
              after_requests=1)
    )  # fmt: skip
    told = await backfill(archiver, flowdock, database_url)
    assert flowdock.faults.fired["status"] > 0
    assert told.returncode == 1
    assert "acme/main: 1 gap: " in told.stdout


async def test_a_flow_that_is_listed_and_refused_is_not_done(
    archiver: Run, flowdock: Simulator, database_url: str
) -> None:
    flowdock.faults.add(
        Fault(kind="status", on="rest", path="*/acme/main/messages", status=403, times=0)
    )
    told = await backfill(archiver, flowdock, database_url)
    assert flowdock.faults.fired["status"] == 1
    assert told.returncode == 1
    assert "acme/main: its newest message is not known: Flowdock refused acme/main" in told.stdout


async def test_a_message_that_is_never_listed_holds_up_its_page_alone(
    archiver: Run, flowdock: Simulator, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service shows the message itself, but its index has lost it for good."""
    await backfill(archiver, flowdock, database_url)
    with psycopg.connect(database_url) as db:
        db.execute("UPDATE store.ledger SET listed = '{}'")
    flow = next(flow for flow in flowdock.world.flows if flow.path == "acme/main")
    ids = [one.id for one in flow.timeline]
    lost = list(flow.timeline)[150]
    for name in ("oldest_first", "newest_first"):
        monkeypatch.setattr(Timeline, name, without(getattr(Timeline, name), lost))
    told = await backfill(archiver, flowdock, database_url)
    assert told.returncode == 1
    assert "acme/main: 1 gap: " in told.stdout
    with psycopg.connect(database_url) as db:
        gaps = db.execute("SELECT from_id, to_id, last_error FROM archive.gaps").fetchall()
        ((first, last, error),) = gaps
    assert first <= lost.id <= last
    assert sum(first <= id_ <= last for id_ in ids) <= 101
    assert error == "the page lacks 1 messages that exist"


async def test_a_newest_message_that_cannot_be_read_is_a_gap(
    archiver: Run, flowdock: Simulator, database_url: str
) -> None:
    flow = next(flow for flow in flowdock.world.flows if flow.path == "acme/main")
    newest = list(flow.timeline)[-1]
    newest.encoded = b'{"event": null, "id": %d}' % newest.id
    told = await backfill(archiver, flowdock, database_url)
    assert told.returncode == 1
    assert "acme/main: 1 gap: " in told.stdout
    with psycopg.connect(database_url) as db:
        held = db.execute("SELECT count(*) FROM archive.messages WHERE flow = 'acme/main'")
        assert held.fetchall() == [(len(flow.timeline) - 1,)]


async def test_a_flow_whose_newest_message_is_not_told_is_not_done(
    archiver: Run, flowdock: Simulator, database_url: str
) -> None:
    refusal = Fault(kind="status", on="rest", path="*/acme/main/messages", status=418)
    flowdock.faults.add(refusal)
    told = await backfill(archiver, flowdock, database_url)
    assert flowdock.faults.fired == {"status": 1}
    assert told.returncode == 1
    untold = "acme/main: its newest message is not known: "
    assert untold in told.stdout
    status = await asyncio.to_thread(archiver, "status", ARCHIVER_DATABASE_URL=database_url)
    assert f"\n{untold}/flows/acme/main/messages was answered with status 418" in status.stdout


async def test_a_flow_that_was_imported_and_that_no_account_can_read_is_not_done(
    archiver: Run, flowdock: Simulator, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute(IMPORTED)
    told = await backfill(archiver, flowdock, database_url)
    assert told.returncode == 1
    assert " 0 gaps left, " in told.stdout
    assert told.stdout.endswith(
        " kept\n  old/main: not measured yet: its newest message was never requested\n"
    )
    plain = await backfill(archiver, flowdock, database_url, "--json")
    assert (plain.returncode, json.loads(plain.stdout)["not_measured"]) == (1, ["old/main"])
    unwanted = await backfill(archiver, flowdock, database_url, ARCHIVER_FLOWS="acme/*")
    assert unwanted.returncode == 0
    assert unwanted.stdout.endswith(
        " kept\n  old/main: the settings exclude it (flows, private), so nothing is requested from"
        " it\n"
    )
    plain = await backfill(archiver, flowdock, database_url, "--json", ARCHIVER_FLOWS="acme/*")
    told = json.loads(plain.stdout)
    assert (told["not_measured"], told["excluded"]) == ([], ["old/main"])


async def test_a_pattern_that_no_flow_is_like_is_told(
    archiver: Run, flowdock: Simulator, database_url: str
) -> None:
    told = await backfill(archiver, flowdock, database_url, ARCHIVER_FLOWS="acme/*,nosuch/*")
    assert told.returncode == 0, told.stderr
    assert (
        told.stderr.count(
            "no joined flow matches this pattern of ARCHIVER_FLOWS (flows in the file)"
            " account=default pattern=nosuch/*\n"
        )
        == 1
    )
    assert "pattern=acme" not in told.stderr


def test_flows_without_gaps_are_not_listed() -> None:
    progressed = Progressed(reports=(), messages=0, proven=0.0, files=Counts(kept=0, missing=0))
    assert _summary(progressed)["not_filled"] == []


async def test_who_shows_how_far_it_has_come_waits_for_the_database_too(
    database_url: str, admin: psycopg.Connection, tmp_path: Path
) -> None:
    ending = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted"
    async with connect(database_url) as engine:
        with psycopg.connect(database_url) as other:
            other.execute("LOCK TABLE store.flows")
            looking = asyncio.create_task(_look(Settings(data_dir=tmp_path), engine))
            while not waits_for_lock(database_url):  # noqa: ASYNC110 - the server calls nobody
                await asyncio.sleep(0.01)
            assert admin.execute(ending).rowcount
        assert (await looking).messages == 0
