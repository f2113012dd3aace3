"""``archiver verify``: what is claimed is listed again, compared, and repaired."""

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from archiver import daemon
from archiver.cli import verify as command
from archiver.cli.database import Place
from archiver.cli.findings import COLUMNS, Findings, summarize
from archiver.cli.moments import parse
from archiver.ingest import backfill, source
from archiver.ingest import verify as verification
from archiver.settings.sections import IngestSettings, StreamSettings
from archiver.simulator.entities import Flow
from archiver.simulator.faults import Fault
from archiver.simulator.server import Simulator
from archiver.store.engine import connect
from tests.cli.conftest import IMPORTED, Run, leading_to
from tests.cli.forks import Starter
from tests.ingest.arriving import waits_for_lock
from tests.test_daemon import Archive, archiving, settings_for, until

FLOW = "acme/main"


@pytest.fixture
async def flowdock() -> AsyncIterator[Simulator]:
    async with Simulator.start(
        flows=2, history=150, listing_delay_seconds=0, keepalive_seconds=1
    ) as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def hasty_here(hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apply the short times of `hasty` in this process as well."""
    for module in (daemon, source, command):
        monkeypatch.setattr(module, "STREAM_FIRST_SECONDS", 0.0)
    monkeypatch.setattr(backfill, "PLAN_SECONDS", 0.2)


@pytest.fixture
async def url(flowdock: Simulator, database_url: str) -> str:
    """The URL of an archive that holds all of the service, and has proven it."""
    settings = settings_for(flowdock, database_url)
    async with connect(database_url) as engine:
        await daemon.backfill_once(settings, engine, on_found=lambda _flows: None)
    return database_url


async def verify_here(
    flowdock: Simulator,
    url: str,
    *patterns: str,
    since: datetime | None = None,
    settling_seconds: float = 0.2,
) -> Findings:
    """Verify as the command does, but in this process."""
    place = Place(url=url, pool_size=5, private=False)
    settings = replace(
        settings_for(flowdock, url), ingest=IngestSettings(settling_seconds=settling_seconds)
    )
    found = Findings()
    await command._run(
        settings, place, patterns, since=since, found=found, tell=lambda _done, _where: None
    )
    return found


async def verify(
    archiver: Run,
    flowdock: Simulator,
    url: str,
    *options: str,
    config: Path | None = None,
    **settings: str,
) -> tuple[int, str]:
    told = await asyncio.to_thread(
        archiver,
        *(["--config", str(config)] if config else []),
        "verify",
        *options,
        **leading_to(flowdock, url),
        **({} if config else {"ARCHIVER_TOKEN": flowdock.token}),
        ARCHIVER_BACKFILL_REQUESTS_PER_SECOND="1000",
        ARCHIVER_INGEST_SETTLING_SECONDS="0.2",
        ARCHIVER_LOG_LEVEL="error",
        **settings,
    )
    assert told.stderr == "" or told.returncode == 2
    return told.returncode, told.stdout + told.stderr


def execute(url: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as db:
        done = db.execute(statement.encode(), parameters)
        return done.fetchall() if done.description else []


def lose(url: str, id_: int) -> None:
    """Delete a message that the archive goes on to claim."""
    for table, column in (("journal", "id"), ("messages", "id"), ("revisions", "message_id")):
        execute(url, f"DELETE FROM store.{table} USING store.flows f WHERE path = %s"
                f" AND {table}.flow_key = f.flow_key AND {column} = %s", FLOW, id_)  # fmt: skip


def main_flow(flowdock: Simulator) -> Flow:
    return next(flow for flow in flowdock.world.flows if flow.path == FLOW)


async def test_what_differs_is_told_and_repaired_and_then_proven(archiver, flowdock, url):
    flow, world = main_flow(flowdock), flowdock.world
    chat = [one for one in flow.timeline if one.event == "message" and one.text()]
    lost, forged, edited, tagged = (one.id for one in chat[10:14])
    gone = next(one.id for one in flow.timeline if one.event == "file" or one.app == "influx")
    lose(url, lost)
    execute(url, "UPDATE store.messages m SET content = E'for\\x1bged' FROM store.flows f"
            " WHERE m.flow_key = f.flow_key AND path = %s AND id = %s", FLOW, forged)  # fmt: skip
    world.edit(flow, edited, "changed while nobody listened")
    world.change_tags(flow, tagged, add=["unheard"])
    world.delete(flow, gone)

    status, told = await verify(archiver, flowdock, url, "--flow", FLOW)
    assert status == 1, told
    assert f"{FLOW} {lost}: claimed but missing, now archived: " in told
    assert f"{FLOW} {forged}: content changed unnoticed: for␛ged → " in told
    assert " → changed while nobody listened" in told
    assert f"{FLOW} {tagged}: tags changed unnoticed\n" in told
    assert f"{FLOW} {gone}: gone from Flowdock, now marked as deleted: " in told
    assert told.endswith(" listed: 5 differences found and repaired\n")

    status, told = await verify(archiver, flowdock, url, "--json")
    result = json.loads(told)
    assert (status, result["proven"], result["differences"]) == (0, True, 0)
    assert result["listed"] > 100
    with Archive(url, flowdock) as archive:
        assert archive.differences() == []
    pages = execute(url, "SELECT count(*) FROM store.pages WHERE purpose = 'verify'")
    assert pages[0][0] > result["pages"]


NO_SECOND_PAGE = """
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF EXISTS (SELECT FROM store.pages WHERE purpose = 'verify') THEN
            PERFORM pg_advisory_xact_lock(77);
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER wait BEFORE INSERT ON store.pages FOR EACH ROW
        WHEN (NEW.purpose = 'verify') EXECUTE FUNCTION wait()
"""


def stop(starter: Starter, settings: dict[str, str], url: str) -> list[str]:
    """Verify, and interrupt that while it waits for a lock; return what it tells people."""
    reader, writer = os.pipe()
    with psycopg.connect(url) as other, Path(os.devnull).open("r+b") as nothing:
        other.execute("SELECT pg_advisory_lock(77)")
        files = (nothing.fileno(), nothing.fileno(), writer)
        with starter.start(["verify"], settings, *files) as verifying, os.fdopen(reader) as told:
            os.close(writer)
            while not waits_for_lock(url):
                time.sleep(0.01)
            verifying.send_signal(signal.SIGINT)
            assert verifying.wait() == 130
            return told.read().rstrip().split("\n")


async def test_who_stops_it_is_told_what_was_repaired_by_then(flowdock, url, starter, environ):
    execute(url, "UPDATE store.messages SET content = 'forged' WHERE event = 'message'")
    execute(url, NO_SECOND_PAGE)
    settings = environ | leading_to(flowdock, url) | {
        "ARCHIVER_TOKEN": flowdock.token, "ARCHIVER_BACKFILL_CONCURRENCY": "1",
        "ARCHIVER_INGEST_SETTLING_SECONDS": "0.2", "ARCHIVER_LOG_LEVEL": "error",
    }  # fmt: skip
    *differences, last = await asyncio.to_thread(stop, starter, settings, url)
    found = re.fullmatch(
        r"stopped: (\d+) messages listed, (\d+) differences found and repaired, "
        r"unless a stream reported them meanwhile; run the same command again to start over",
        last,
    )
    assert found, last
    listed, count = map(int, found.groups())
    assert 20 < count <= listed < 100
    assert all(" content changed unnoticed: forged → " in one for one in differences[:20])
    assert differences[20:] == [f"… and {count - 20} more differences"]
    left = execute(url, "SELECT count(*) FROM store.messages WHERE content = 'forged'")
    whole = execute(url, "SELECT count(*) FROM store.messages WHERE event = 'message'")
    assert 0 < left[0][0] <= whole[0][0] - count


async def test_a_flow_whose_newest_message_is_not_told_is_in_doubt(archiver, flowdock, url):
    refusal = Fault(kind="status", on="rest", path=f"*/{FLOW}/messages", status=418)
    flowdock.faults.add(refusal)
    status, told = await verify(archiver, flowdock, url)
    assert flowdock.faults.fired == {"status": 1}
    assert status == 2
    assert f"{FLOW}: its newest message is not known: " in told


async def test_doubt_remains_while_the_service_refuses_or_something_is_missing(
    archiver, flowdock, url
):
    flowdock.faults.add(
        Fault(kind="status", on="rest", path=f"*/{FLOW}/messages", status=403, times=0,
              after_requests=1)
    )  # fmt: skip
    execute(url, "UPDATE store.ledger l SET listed = listed - '{[3,6)}' FROM store.flows f"
            " WHERE l.flow_key = f.flow_key AND path <> %s", FLOW)  # fmt: skip
    status, told = await verify(archiver, flowdock, url)
    assert status == 2
    assert f"{FLOW}: Flowdock refused {FLOW} (403)" in told
    assert "gap from 3 to 5: archiver backfill fills it" in told
    assert "doubt remains in " in told


async def test_a_flow_that_is_listed_and_was_always_refused_is_a_doubt(
    archiver, flowdock, database_url
):
    refusal = Fault(kind="status", on="rest", path=f"*/{FLOW}/messages", status=403, times=0)
    flowdock.faults.add(refusal)
    status, told = await verify(archiver, flowdock, database_url)
    assert status == 2
    assert f"{FLOW}: no account can read this flow now" in told


async def test_a_refused_token_is_the_operators_matter(archiver, flowdock, url):
    flowdock.faults.add(Fault(kind="status", on="rest", path="*/user", status=401, times=0))
    status, told = await verify(archiver, flowdock, url)
    assert status == 2
    assert "comes from ARCHIVER_TOKEN" in told


@pytest.mark.parametrize("first", ["work", "club"])
async def test_what_others_read_is_verified_though_a_token_is_refused(
    archiver, flowdock, url, tmp_path, first
):
    accounts = {"work": flowdock.token, "club": "s3cret-marker"}
    names = [first, *(accounts.keys() - {first})]
    config = tmp_path / "archiver.toml"
    config.write_text(
        "".join(f'[[accounts]]\nname = "{one}"\ntoken = "{accounts[one]}"\n' for one in names)
    )
    status, told = await verify(archiver, flowdock, url, config=config)
    assert status == 2
    assert "Flowdock refused the token: account left out account=club" in told
    assert "doubt remains in what only account club can read" in told
    assert f"{FLOW} " in told
    status, told = await verify(archiver, flowdock, url, "--json", config=config)
    found = json.loads(next(line for line in told.splitlines() if line.startswith("{")))
    assert (status, found["doubt"], found["proven"]) == (2, True, False)
    assert found["locked_out"] == ["club"]
    assert found["listed"] > 0


async def test_what_a_token_can_read_no_more_is_verified_by_those_who_can(flowdock, url):
    """The first account's token is refused after its first page."""
    other = next(id_ for id_ in main_flow(flowdock).members if id_ != flowdock.me.id)
    with_both = settings_for(flowdock, url)
    (work,) = with_both.accounts
    club = replace(work, name="club", token=flowdock.world.directory.users[other].token)
    lost = list(main_flow(flowdock).timeline)[-5].id
    lose(url, lost)

    def revoke(_done: float, _where: str) -> None:
        flowdock.world.directory._by_secret.pop(flowdock.token, None)

    place = Place(url=url, pool_size=5, private=False)
    found = Findings()
    both = replace(with_both, accounts=(work, club))
    await command._run(both, place, (), since=None, found=found, tell=revoke)
    assert list(found.locked_out) == ["default"]
    assert found.looks[FLOW].troubles == []
    assert [*found.looks[FLOW].differences] == [lost]


async def test_a_false_claim_of_a_stream_leaves_no_doubt_once_it_is_repaired(flowdock, url):
    lost = list(main_flow(flowdock).timeline)[-5].id
    execute(url, "UPDATE store.ledger SET streamed = listed, listed = '{}'")
    lose(url, lost)
    found = await verify_here(flowdock, url)
    look = found.looks[FLOW]
    assert {one.id: one.kind for one in look.differences.values()} == {lost: "not held"}
    told = summarize(found)
    assert (told["differences"], told["doubt"]) == (1, False)
    for flow in told["flows"]:
        assert flow["two_witnesses_before"] == 0
        assert flow["two_witnesses"] == flow["claimed_ids"]
    assert execute(url, "SELECT count(*) FROM archive.doubts") == [(0,)]


async def test_a_history_that_is_listed_no_more_is_a_doubt(flowdock, url):
    flow = main_flow(flowdock)
    for message in list(flow.timeline)[:60]:
        flow.timeline.remove(message.id)
    found = await verify_here(flowdock, url, FLOW)
    (trouble,) = found.looks[FLOW].troubles
    assert "archived messages are no longer listed, and are kept: " in trouble
    assert found.looks[FLOW].differences == {}


@pytest.mark.parametrize(
    ("altered", "field"),
    [
        ("user_id = '77'", "sender"),
        ("sent_at = sent_at - interval '1 day'", "time"),
        ("external_user_name = 'somebody'", "sender"),
    ],
)
async def test_whoever_altered_who_said_it_or_when_is_told(flowdock, url, altered, field):
    forged = next(one.id for one in main_flow(flowdock).timeline if one.event == "message")
    execute(url, f"UPDATE store.messages m SET {altered} FROM store.flows f"
            " WHERE m.flow_key = f.flow_key AND path = %s AND id = %s", FLOW, forged)  # fmt: skip
    found = await verify_here(flowdock, url, FLOW)
    (difference,) = found.looks[FLOW].differences.values()
    assert (difference.id, difference.kind, difference.fields) == (forged, "changed", (field,))


async def test_what_is_kept_otherwise_than_it_is_listed_is_no_proof(flowdock, url):
    """The service dates the second edit before the first, so nobody knows which one is newer."""
    flow = main_flow(flowdock)
    message = next(one for one in flow.timeline if one.event == "message" and one.text())
    flowdock.world.edit(flow, message.id, "said at last")
    found = await verify_here(flowdock, url, FLOW)
    assert [one.after for one in found.looks[FLOW].differences.values()] == ["said at last"]
    message.content, message.encoded = "said once more", None
    message.edited = (message.edited or 0) - 2000
    found = await verify_here(flowdock, url, FLOW)
    (trouble,) = found.looks[FLOW].troubles
    assert trouble.startswith("1 messages differ from what Flowdock lists")
    assert found.looks[FLOW].is_doubtful


async def test_what_is_listed_though_its_deletion_was_told_is_no_proof(flowdock, database_url):
    """As after the service was restored from a backup."""
    flow, world = main_flow(flowdock), flowdock.world
    with Archive(database_url, flowdock) as archive:
        async with archiving(settings_for(flowdock, database_url)):
            await flowdock.connected()
            await archive.completed()
            file = world.upload(
                flow, flowdock.me, file_name="plan.txt", content_type="text/plain", data=b"plan"
            )
            world.post(flow, flowdock.me, "said after it")
            await archive.completed()
            world.delete(flow, file.id)
            deleted = "SELECT count(*) FROM archive.messages WHERE id = %s AND deleted_at > sent"
            await until(lambda: archive.query(deleted, file.id) == [(1,)])
            await archive.completed()
    flow.timeline.add(file)
    found = await verify_here(flowdock, database_url, FLOW)
    (trouble,) = found.looks[FLOW].troubles
    assert trouble.startswith("1 messages are listed by Flowdock, but kept as deleted")
    assert trouble.endswith(f": {file.id} to {file.id}")
    assert found.looks[FLOW].is_doubtful


async def test_only_recent_messages_are_asked_for(flowdock, url):
    recent = list(main_flow(flowdock).timeline)[-1].id
    execute(url, "UPDATE store.messages SET content = 'forged', sent_at = '2020-01-01'"
            " WHERE id <> %s", recent)  # fmt: skip
    found = await verify_here(flowdock, url, FLOW, since=datetime(2020, 1, 2, tzinfo=UTC))
    assert found.looks[FLOW].listed == 1
    assert not found.looks[FLOW].differences


async def test_a_flow_that_can_be_read_no_more_is_told(flowdock, url):
    flow = main_flow(flowdock)
    del flow.members[flowdock.me.id]
    found = await verify_here(flowdock, url)
    assert found.unreadable == [FLOW]


async def test_of_what_the_settings_exclude_nothing_is_said_to_be_proven(archiver, flowdock, url):
    line = f"{FLOW}: the settings exclude it (flows, private), so nothing of it was compared\n"
    (other,) = {flow.path for flow in flowdock.world.flows} - {FLOW}

    wanted: dict[str, Any] = {"ARCHIVER_FLOWS": f"*,!{FLOW}"}

    async def verdict(*flows: str, **settings: Any) -> tuple[int, bool, bool, list[str]]:
        options = ["--json", *(word for flow in flows for word in ("--flow", flow))]
        status, told = await verify(archiver, flowdock, url, *options, **(settings or wanted))
        plain = json.loads(told)
        return status, plain["proven"], plain["doubt"], plain["excluded"]

    assert await verdict(FLOW) == await verdict(other, FLOW) == (2, False, True, [FLOW])
    assert await verdict() == await verdict("acme/*") == (0, True, False, [FLOW])
    assert await verdict(f"!{FLOW}") == (0, True, False, [])
    *doubt, left_out = await verdict(ARCHIVER_FLOWS="none/*", ARCHIVER_PRIVATE="false")
    assert (doubt, {FLOW, other} <= {*left_out}) == ([2, False, True], True)

    told = await verify(archiver, flowdock, url, "--flow", FLOW, **wanted)
    assert told == (2, f"{line}0 flows, 0 messages listed: doubt remains in 1 flow\n")
    status, text = await verify(archiver, flowdock, url, **wanted)
    assert status == 0
    assert line in text
    assert "listed: proven, " in text


async def test_a_flow_that_was_imported_and_cannot_be_read_is_told(flowdock, url):
    execute(url, IMPORTED)
    found = await verify_here(flowdock, url)
    assert found.unreadable == ["old/main"]


async def test_the_head_is_asked_for_again_when_it_has_grown_old(flowdock, url, monkeypatch):
    monkeypatch.setattr(verification, "HEAD_SECONDS", 0.0)
    found = await verify_here(flowdock, url, FLOW)
    assert not found.looks[FLOW].differences
    assert not found.looks[FLOW].is_doubtful


async def test_what_is_edited_while_it_is_verified_is_no_difference(flowdock, database_url):
    # Each new connection has everything listed again, so none may be taken for silent by mistake.
    stream = StreamSettings(silence_seconds=60)
    settings = settings_for(flowdock, database_url, stream=stream)
    with Archive(database_url, flowdock) as archive:
        async with archiving(settings):
            await flowdock.connected()
            await archive.completed()
            await archive.certain()
            playing = asyncio.create_task(flowdock.play(seed=4, events=100_000, rate=60))
            streamed = "SELECT count(*) FROM archive.coverage WHERE witness = 'stream'"
            await until(lambda: archive.query(streamed) > [(0,)])
            # Settling takes longer, since the streams' writer shares a slow core with the traffic.
            found = await verify_here(flowdock, database_url, "acme/*", settling_seconds=2)
            assert not playing.done()
            playing.cancel()
    looks = list(found.looks.values())
    assert [look.differences for look in looks if look.differences] == []
    assert [look.troubles for look in looks if look.troubles] == []
    told = summarize(found)
    assert sum(flow["two_witnesses"] for flow in told["flows"]) > 0


NOW = datetime(2024, 3, 10, 12, tzinfo=UTC)


def test_the_help_explains_each_column(archiver):
    told = archiver("verify", "--help").stdout
    assert re.findall(r"^  ([a-z ]+\S)  +\S", told, re.MULTILINE)[:7] == [
        column.name for column in COLUMNS if column.name != "flow"
    ]


def test_moments_are_so_long_ago_or_dates():
    assert parse("30d", now=NOW) == NOW - timedelta(days=30)
    assert parse("2w", now=NOW) == NOW - timedelta(days=14)
    assert parse("12h", now=NOW) == NOW - timedelta(hours=12)
    assert parse("2024-03-01", now=NOW) == datetime(2024, 3, 1, tzinfo=UTC)
    assert parse("2024-03-01T10:00+02:00", now=NOW) == datetime(2024, 3, 1, 8, tzinfo=UTC)
    for wrong in ("", "soon", "30", "-3d"):
        with pytest.raises(ValueError, match="Invalid isoformat"):
            parse(wrong, now=NOW)
    for beyond in ("0001-01-01T00:00+14:00", "9999-12-31T23:00-05:00"):
        with pytest.raises(OverflowError):
            parse(beyond, now=NOW)
