"""Which flows are read, as flows come and go."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from typing_extensions import override

from archiver import daemon
from archiver.domain.model import UserId, is_private
from archiver.errors import ArchiverError
from archiver.ingest import roster as roster_
from archiver.ingest.directory import Choice
from archiver.ingest.ends import EndElsewhere
from archiver.ingest.leases import EVERYTHING, Everything, Share
from archiver.ingest.roster import Roster
from archiver.simulator.faults import Fault
from archiver.simulator.membership import join, leave
from archiver.simulator.server import Simulator
from archiver.store import missing
from archiver.store.engine import connect
from archiver.store.reading import flow_reports
from tests.ingest.arriving import frame, query, streamed, waits_for_lock
from tests.test_daemon import settings_for, until


async def test_a_flow_may_be_found_lost_while_another_is_ended(database_url):
    joined = "SELECT joined FROM store.flows"
    async with Simulator.start(flows=2, history=5) as flowdock:
        settings = settings_for(flowdock, database_url, private=False)
        async with connect(database_url) as engine, daemon.works(settings, engine) as shared:
            account = shared.account(settings.require_accounts()[0])
            await account.look_up()
            with psycopg.connect(database_url) as holding:
                holding.execute("SELECT FROM store.flows FOR UPDATE")
                for flow in flowdock.world.flows:
                    leave(flowdock.world, flow, flowdock.me)
                looking = asyncio.create_task(account.look_up())
                await until(lambda: waits_for_lock(database_url))
                (other,) = account.source.paths
                losing = asyncio.create_task(account.source.lose(other, reason="refused"))
                await until(lambda: not account.source.paths)
            await asyncio.gather(looking, losing)
    assert query(database_url, joined) == [(False,), (False,)]


async def test_a_flow_that_was_left_while_nobody_looked_is_not_taken_for_read_for_ever(
    database_url, caplog
):
    joined = "SELECT path FROM store.flows WHERE joined"
    async with Simulator.start(flows=2, history=5) as flowdock:
        settings = settings_for(flowdock, database_url, private=False)
        left, kept = flowdock.world.flows
        async with connect(database_url) as engine:
            for days in (0, 0.9, 1.1):
                with psycopg.connect(database_url) as looking_back:
                    looking_back.execute(
                        "UPDATE store.flows SET last_seen_at = now() - %s", [timedelta(days=days)]
                    )
                async with daemon.works(settings, engine) as shared:
                    account = shared.account(settings.require_accounts()[0])
                    await account.look_up()
                    await account.look_up()
                if days == 0:
                    leave(flowdock.world, left, flowdock.me)
                read = {path for (path,) in query(database_url, joined)}
                assert read == ({kept.path} if days > 1 else {kept.path, left.path})
    assert [record.__dict__["flow"] for record in caplog.records] == [left.path]


async def test_a_flow_that_the_settings_exclude_is_still_one_that_can_be_read(database_url, caplog):
    """Nothing is requested from it, but the service lists it; conversations are not listed then."""
    joined = "SELECT path FROM store.flows WHERE joined"
    async with Simulator.start(flows=3, history=5) as flowdock:
        excluded, kept, renamed = flowdock.world.flows
        people = flowdock.world.directory.users.values()
        other = next(user for user in people if user is not flowdock.me)
        flowdock.world.post(flowdock.world.directory.conversation(flowdock.me, other), other, "hi")
        settings = settings_for(flowdock, database_url)
        fewer = settings_for(
            flowdock, database_url, private=False, flows=("*", f"!{excluded.path}", "!*/new")
        )
        async with connect(database_url) as engine, daemon.works(settings, engine) as shared:
            account = shared.account(settings.require_accounts()[0])
            await account.look_up()
            before = set(query(database_url, joined))
            assert any(is_private(path) for (path,) in before)
            (one,) = fewer.require_accounts()
            account.replan(
                Choice(is_wanted=one.wants, private=False, idle_patterns=one.idle_patterns)
            )
            former = renamed.path
            flowdock.world.directory.move_flow(renamed, "new")
            await account.look_up()
            assert set(account.source.paths.values()) == {kept.path}
            now = before - {(former,)} | {("acme/new",)}
            assert set(query(database_url, joined)) == now

            with psycopg.connect(database_url) as looking_back:
                looking_back.execute("UPDATE store.flows SET last_seen_at = now() - interval '2 d'")
            await account.look_up()
            await account.look_up()
            assert set(query(database_url, joined)) == now

            leave(flowdock.world, excluded, flowdock.me)
            with psycopg.connect(database_url) as looking_back:
                looking_back.execute("UPDATE store.flows SET last_seen_at = now() - interval '2 d'")
            await account.look_up()
            assert set(query(database_url, joined)) == now - {(excluded.path,)}
    assert "flow can no longer be read" not in caplog.messages


async def test_a_flow_that_was_never_archived_is_not_when_it_is_excluded_either(database_url):
    async with Simulator.start(flows=2, history=5) as flowdock:
        excluded, kept = flowdock.world.flows
        settings = settings_for(
            flowdock, database_url, private=False, flows=("*", f"!{excluded.path}")
        )
        async with connect(database_url) as engine, daemon.works(settings, engine) as shared:
            account = shared.account(settings.require_accounts()[0])
            await account.look_up()
    assert query(database_url, "SELECT path FROM store.flows") == [(kept.path,)]


async def test_no_flow_is_taken_for_lost_before_its_own_account_was_asked(database_url, caplog):
    """No daemon had run for days."""
    async with Simulator.start(history=5) as mine, Simulator.start(history=5, seed=9) as theirs:
        both = [
            settings_for(mine, database_url, private=False),
            settings_for(theirs, database_url, private=False, name="other"),
        ]
        settings = replace(both[0], accounts=(*both[0].accounts, *both[1].accounts))
        async with connect(database_url) as engine:
            for days in (0, 2):
                with psycopg.connect(database_url) as looking_back:
                    looking_back.execute(
                        "UPDATE store.flows SET last_seen_at = now() - %s", [timedelta(days=days)]
                    )
                async with daemon.works(settings, engine) as shared:
                    accounts = [shared.account(one) for one in settings.require_accounts()]
                    for account in (*accounts, *accounts):
                        await account.look_up()
    assert caplog.records == []


async def test_no_flow_is_taken_for_lost_since_the_service_was_away_for_days(database_url, caplog):
    ahead = [timedelta(0)]
    async with Simulator.start(history=5) as mine, Simulator.start(history=5, seed=9) as theirs:
        both = [
            settings_for(mine, database_url, private=False),
            settings_for(theirs, database_url, private=False, name="other"),
        ]
        settings = replace(both[0], accounts=(*both[0].accounts, *both[1].accounts))
        async with connect(database_url) as engine, daemon.works(settings, engine) as shared:
            shared.now = lambda: datetime.now(UTC) + ahead[0]
            accounts = [shared.account(one) for one in settings.require_accounts()]
            for ahead[0] in (timedelta(0), timedelta(days=3)):
                for account in accounts:
                    await account.look_up()
    assert caplog.records == []


async def test_no_flow_is_taken_for_lost_since_the_clock_was_set_back(database_url, caplog):
    ahead = [timedelta(0)]
    async with Simulator.start(flows=2, history=5) as flowdock:
        settings = settings_for(flowdock, database_url, private=False)
        async with connect(database_url) as engine, daemon.works(settings, engine) as shared:
            shared.now = lambda: datetime.now(UTC) + ahead[0]
            account = shared.account(settings.require_accounts()[0])
            for ahead[0] in (timedelta(days=2), timedelta(0), timedelta(days=-2), timedelta(0)):
                await account.look_up()
    assert query(database_url, "SELECT joined FROM store.flows") == [(True,), (True,)]
    assert caplog.records == []


async def test_a_flow_that_is_found_empty_is_measured_and_noted_once(database_url):
    noted = "SELECT path FROM store.pages JOIN store.flows USING (flow_key) WHERE purpose = 'head'"
    async with Simulator.start(flows=2, listing_delay_seconds=0) as flowdock:
        empty, spoken = flowdock.world.flows
        flowdock.world.post(spoken, flowdock.me, "hello")
        settings = settings_for(flowdock, database_url, private=False)
        async with connect(database_url) as engine:
            for _ in range(2):
                async with daemon.works(settings, engine) as shared, engine.connect() as tx:
                    account = shared.account(settings.require_accounts()[0])
                    await account.look_up()
                    keys = account.source.paths
                    before = await missing.unmeasured(tx, keys)
                    await account.look_at_heads()
                    await account.look_at_heads()
                    after = await missing.unmeasured(tx, keys)
                    gaps = {
                        one.flow: one.gaps
                        for one in await flow_reports(tx, [*keys], now=shared.now(), exact=True)
                    }
                # The newest id of the other flow is recorded later, as time passes.
                assert {keys[key] for key in after} == {spoken.path}
                assert gaps == {empty.path: 0, spoken.path: None}
                assert query(database_url, noted) == [(empty.path,)]
                assert before.keys() >= after.keys()


@asynccontextmanager
async def listed(
    database_url: str, *, share: Share = EVERYTHING, private: bool = False
) -> AsyncIterator[tuple[Simulator, Roster]]:
    """The roster of an account whose flows were looked up a moment ago."""
    async with Simulator.start(flows=2, history=5) as flowdock:
        settings = settings_for(flowdock, database_url)
        async with connect(database_url) as engine, daemon.works(settings, engine) as shared:
            (account,) = shared.settings.accounts
            roster = Roster(
                shared.source(account),
                shared.names,
                tally=shared.tally.accounts[account.name],
                choice=Choice(
                    is_wanted=lambda _path: True, private=private, idle_patterns=lambda _paths: ()
                ),
                share=share,
                aside_seconds=60,
                now=shared.now,
            )
            roster.begin(UserId(str(flowdock.me.id)))
            await roster.look_up()
            roster.stale.clear()
            yield flowdock, roster


class Noting(Everything):
    """A share that records what an account says it can capture."""

    slots: Collection[str] = ()

    @override
    async def see(self, account: str, slots: Collection[str]) -> None:
        self.slots = slots


@pytest.mark.parametrize("private", [True, False])
async def test_only_who_wants_private_conversations_captures_them(database_url, private):
    """A daemon that does not want the slot would keep it from one that does."""
    share = Noting()
    async with listed(database_url, share=share, private=private) as (flowdock, _):
        slots = {flow.path for flow in flowdock.world.flows}
        assert set(share.slots) == slots | ({f"private/{flowdock.me.id}"} if private else set())


async def test_a_flow_that_is_refused_is_left_aside_and_told_though_it_is_listed(database_url):
    async with listed(database_url) as (flowdock, roster):
        source, (key, other) = roster.source, roster.source.paths
        refused = f"*/{source.paths[key]}/messages"
        flowdock.faults.add(Fault(kind="status", on="rest", path=refused, status=404))
        assert await roster.look_at_head(key) is None
        assert roster.stale.is_set()
        await roster.look_up()
        assert [*source.paths] == [other]
        assert "404" in source.untold[key]
        read = "SELECT flow_key FROM store.flows WHERE joined ORDER BY flow_key"
        assert query(database_url, read) == [(other,)]


async def test_a_flow_that_one_account_is_refused_and_another_reads_is_not_lost(database_url):
    async with listed(database_url) as (flowdock, roster):
        source, (key, other) = roster.source, roster.source.paths
        source._turns.holds("another", {key: source.paths[key]})
        refused = f"*/{source.paths[key]}/messages"
        flowdock.faults.add(Fault(kind="status", on="rest", path=refused, status=404))
        assert await roster.look_at_head(key) is None
        read = "SELECT flow_key FROM store.flows WHERE joined ORDER BY flow_key"
        assert query(database_url, read) == sorted([(key,), (other,)])
        await roster.look_up()
        assert [*source.paths] == [other]
        assert query(database_url, read) == sorted([(key,), (other,)])


async def test_the_flow_that_took_the_path_of_a_refused_one_is_not_left_aside(database_url):
    """What is sent in it meanwhile, such as presence, could not be listed later."""
    async with listed(database_url) as (flowdock, roster):
        source, directory = roster.source, flowdock.world.directory
        (key, path), *_ = source.paths.items()
        (moved,) = (one for one in flowdock.world.flows if one.path == path)
        directory.move_flow(moved, "renamed")
        new = directory.add_flow(moved.organization, slug=path.partition("/")[2], name="New")
        join(flowdock.world, new, flowdock.me)
        for message in list(new.timeline):
            new.timeline.remove(message.id)
        assert await roster.look_at_head(key) is None
        assert roster.stale.is_set()
        await roster.look_up()
        assert source.paths[key] == "acme/renamed"
        assert path in source.paths.values()


async def test_flows_are_listed_anew_once_when_a_path_leads_to_another_flow(
    database_url, monkeypatch
):
    """And again after a while, if the service still lists the path as that of the former."""
    async with listed(database_url) as (_, roster):
        key, *_ = roster.source.paths

        async def fail(_: int) -> int:
            raise EndElsewhere(roster.source.paths[key])

        monkeypatch.setattr(roster.source, "look_at_head", fail)
        assert await roster.look_at_head(key) is None
        assert roster.stale.is_set()
        roster.stale.clear()
        assert await roster.look_at_head(key) is None
        assert not roster.stale.is_set()
        monkeypatch.setattr(roster_, "ELSEWHERE_SECONDS", 0.0)
        assert await roster.look_at_head(key) is None
        assert roster.stale.is_set()


async def test_why_a_newest_message_is_not_told_is_noted_once_for_each_reason(
    database_url, monkeypatch
):
    noted = "SELECT error FROM store.pages WHERE purpose = 'head' ORDER BY requested_at"
    reasons = ["away", "away", "ill", "away"]
    async with listed(database_url) as (_, roster):
        (key, _), look = roster.source.paths, roster.source.look_at_head

        async def fail(_: int) -> int:
            raise ArchiverError(reasons.pop())

        monkeypatch.setattr(roster.source, "look_at_head", fail)
        while reasons:
            assert await roster.look_at_head(key) is None
            assert roster.source.untold
        monkeypatch.setattr(roster.source, "look_at_head", look)
        assert await roster.look_at_head(key)
        assert not roster.source.untold
    assert query(database_url, noted) == [("away",), ("ill",), ("away",), (None,)]


async def test_flows_are_listed_anew_when_a_stream_tells_of_another_or_of_who_joined(database_url):
    async with listed(database_url) as (flowdock, roster):
        (known, _), unknown = roster.source.paths, 1_000_000
        joined = {"type": "join", "description": None}
        me = flowdock.me.id
        told = []
        for arrival in (
            streamed(frame(1), known),
            streamed(frame(2), unknown),
            streamed(frame(3), unknown),
            streamed(frame(4, "action", user=me + 1, content=joined), known),
            streamed(frame(5, "action", user=me, content=joined), known),
        ):
            roster.heard([arrival])
            told.append(roster.stale.is_set())
            roster.stale.clear()
    assert told == [False, True, False, False, True]


async def test_flows_are_listed_anew_when_a_stream_stands_long_after(database_url, monkeypatch):
    async with listed(database_url) as (_, roster):
        roster.connected()
        assert not roster.stale.is_set()
        monkeypatch.setattr("archiver.ingest.roster.FRESH_SECONDS", 0.0)
        roster.connected()
        assert roster.stale.is_set()
