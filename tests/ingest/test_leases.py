"""Daemons share the flows of an archive; their functions are called on a real Postgres."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from msgspec.structs import replace
from sqlalchemy import text

from archiver.domain.sharing import slot_of
from archiver.ingest.leases import EVERYTHING, Leases
from archiver.ingest.process import is_running, this_process
from archiver.ingest.tally import SharingTally
from archiver.store import leases
from archiver.store.connection import Engine
from archiver.store.engine import DatabaseError, connect, create_engine, key_of, transaction
from tests.ingest.arriving import NOW, query

FLOWS = [f"acme/{number}" for number in range(8)]
LONG_SECONDS = 60.0
SHORT_SECONDS = 0.4


class Daemons:
    """Daemons that share an archive, and what each of them was told."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.tallies: dict[str, SharingTally] = {}
        self.told: list[str] = []
        self.loaded: list[str] = []
        self.heard: set[str] = set()
        self.may_load = asyncio.Event()
        self.may_load.set()

    def start(self, name: str, *, lease_seconds: float = LONG_SECONDS, **process: Any) -> Leases:
        me = this_process(str(uuid4()), name=name, lease_seconds=lease_seconds)

        async def load() -> None:
            await self.may_load.wait()
            self.loaded.append(name)

        tally = self.tallies[name] = SharingTally()
        it = Leases(
            self.engine,
            replace(me, **process),
            tally,
            heard=lambda: self.heard,
            on_taken=load,
        )
        it.listen("account", lambda: self.told.append(name))
        return it


@pytest.fixture
async def daemons(database_url: str) -> AsyncIterator[Daemons]:
    async with connect(database_url) as engine:
        yield Daemons(engine)


def share(of: Leases, slots: list[str] = FLOWS) -> set[str]:
    return {slot for slot in slots if of.holds(slot)}


@pytest.fixture
def ended_pid() -> int:
    """The pid of a process that has ended."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert not is_running(ended.pid)
    return ended.pid


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - another task does it
            await asyncio.sleep(0.01)


async def test_one_alone_holds_all_it_sees_as_soon_as_it_sees_it(daemons, database_url):
    one = daemons.start("one")
    await one.see("account", FLOWS)
    assert share(one) == set(FLOWS)
    since = query(database_url, "SELECT max(taken_at) FROM archive.leases")
    await one.see("account", FLOWS[2:])
    assert share(one) == set(FLOWS[2:])
    assert query(database_url, "SELECT max(taken_at) FROM archive.leases") == since
    assert query(database_url, "SELECT flow, daemon FROM archive.leases ORDER BY 1") == [
        (flow, "one") for flow in FLOWS[2:]
    ]


async def test_two_have_half_each_and_one_that_gives_back_leaves_all(daemons, database_url):
    one, two = (daemons.start(name, lease_seconds=2.0) for name in ("one", "two"))
    async with asyncio.TaskGroup() as group:
        await one.see("account", FLOWS)
        await two.see("account", FLOWS)
        keeping = [group.create_task(daemon.keep()) for daemon in (one, two)]
        await until(lambda: len(share(one)) == 4)
        assert share(two) == set(FLOWS) - share(one)
        told = daemons.tallies["one"]
        assert (told.daemons, told.held, told.elsewhere) == (2, 4, 4)
        assert (told.taken, told.lost) == (8, 4)
        assert query(
            database_url, "SELECT daemon, captures, could_capture FROM archive.daemons ORDER BY 1"
        ) == [("one", 4, 8), ("two", 4, 8)]
        keeping.pop().cancel()
        await two.give_back()
        assert query(database_url, "SELECT DISTINCT daemon FROM archive.leases") == [("one",)]
        await until(lambda: share(one) == set(FLOWS))
        keeping.pop().cancel()
    assert daemons.told == ["one", "one"]
    assert daemons.loaded == ["one"]


async def test_what_one_holds_and_does_not_hear_is_told(daemons, database_url):
    daemons.heard = {*FLOWS[:6], "acme/of another"}
    one = daemons.start("one", lease_seconds=SHORT_SECONDS)
    unheard = "SELECT unheard FROM archive.daemons"
    async with asyncio.TaskGroup() as group:
        await one.see("account", FLOWS)
        keeping = group.create_task(one.keep())
        await until(lambda: query(database_url, unheard) == [(FLOWS[6:],)])
        daemons.heard = set(FLOWS)
        await until(lambda: query(database_url, unheard) == [([],)])
        keeping.cancel()
    assert daemons.told == []  # its share has not changed


async def test_what_is_heard_no_more_is_not_written_with_each_beat(daemons, database_url):
    """For thousands of flows that is much to write, while the service may be away for hours."""
    size = "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE relname = 'daemons'"
    me = leases.Sharer(key=str(uuid4()), name="one", machine="m", pid=1, lease_seconds=9)
    flows = [f"acme/{uuid4()}" for _ in range(1000)]
    sizes = []
    for _ in range(3):
        async with transaction(daemons.engine) as tx:
            await leases.beat(tx, me, flows, unheard=flows)
        sizes += query(database_url, size + " AND relnamespace = 'store'::regnamespace")
    assert sizes[0] != (0,)
    assert sizes == sizes[:1] * 3


async def test_what_is_taken_is_followed_by_both_until_the_other_looks(daemons):
    one, two = daemons.start("one"), daemons.start("two")
    await one.see("account", FLOWS)
    await two.see("account", FLOWS)
    assert share(one) == set(FLOWS)
    assert len(share(two)) == 4


async def test_one_that_is_not_heard_of_within_its_lease_loses_its_share_and_is_not_harmed(daemons):
    stalled = daemons.start("stalled", lease_seconds=SHORT_SECONDS)
    await stalled.see("account", FLOWS)
    other = daemons.start("other", lease_seconds=SHORT_SECONDS)
    async with asyncio.TaskGroup() as group:
        await other.see("account", FLOWS)
        keeping = group.create_task(other.keep())
        await until(lambda: share(other) == set(FLOWS))
        assert share(stalled) == set(FLOWS)
        back = group.create_task(stalled.keep())
        await until(lambda: len(share(stalled)) == len(share(other)) == 4)
        keeping.cancel()
        back.cancel()


async def test_one_that_waits_long_to_learn_of_what_it_took_is_heard_of_meanwhile(
    daemons, database_url
):
    one, two = (daemons.start(name, lease_seconds=2 * SHORT_SECONDS) for name in ("one", "two"))
    await one.see("account", FLOWS)
    await two.see("account", [])
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(one.keep())
        daemons.may_load.clear()
        taking = group.create_task(two.see("account", FLOWS))
        await until(lambda: len(share(one)) == 4)
        lasting = "SELECT now() - min(taken_at) > %s FROM archive.leases WHERE daemon = 'two'"
        a_lease_and_more = timedelta(seconds=3 * SHORT_SECONDS)
        await until(lambda: query(database_url, lasting, a_lease_and_more) != [(False,)])
        assert (len(share(one)), share(two)) == (4, set())
        daemons.may_load.set()
        await taking
        assert share(two) == set(FLOWS) - share(one)
        keeping.cancel()


async def test_what_is_seen_no_more_is_not_held_though_the_round_before_took_longer(
    daemons, database_url
):
    one = daemons.start("one")
    await one.see("account", FLOWS[:1])
    daemons.may_load.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(one.see("account", FLOWS))
        taken = "SELECT count(*) FROM archive.leases"
        await until(lambda: query(database_url, taken) == [(len(FLOWS),)])
        group.create_task(one.see("account", []))
        await asyncio.sleep(0.1)
        daemons.may_load.set()
    assert share(one) == set()


async def test_leases_that_are_not_as_they_should_be_are_told_of(daemons):
    one = daemons.start("one", lease_seconds=SHORT_SECONDS)
    await one.see("account", FLOWS)
    async with transaction(daemons.engine) as tx:
        await tx.execute(text("ALTER TABLE store.leases RENAME slot TO another"))
    with pytest.raises(DatabaseError, match="slot"):
        await asyncio.wait_for(one.keep(), 10)


async def test_who_is_to_stop_does_not_wait_for_a_database(daemons, database_url, monkeypatch):
    monkeypatch.setattr("archiver.ingest.leases.GIVING_BACK_SECONDS", 0.1)
    one = daemons.start("one")
    await one.see("account", FLOWS)
    async with daemons.engine.connect() as busy:
        await busy.execute(text("LOCK TABLE store.daemons"))
        await one.give_back()
    nowhere = create_engine("postgresql://127.0.0.1:9/nothing")
    await Daemons(nowhere).start("two").give_back()
    assert len(query(database_url, "SELECT FROM archive.leases")) == len(FLOWS)


async def test_what_one_that_is_gone_kept_is_learned_of_though_its_share_was_taken_before(daemons):
    """This holds also if that daemon is started again before any other has looked."""
    one, two = (daemons.start(name, lease_seconds=LONG_SECONDS) for name in ("one", "two"))
    await one.see("account", FLOWS[:1])
    await two.see("account", FLOWS[1:])
    await two._go_round(patiently=False)
    await two._go_round(patiently=False)
    assert daemons.loaded == []
    await one.give_back()
    await daemons.start("one").see("account", FLOWS[:1])
    await two._go_round(patiently=False)
    assert daemons.loaded == ["two"]


async def test_who_is_gone_is_remembered_until_the_round_is_committed(daemons, monkeypatch):
    one, two = (daemons.start(name, lease_seconds=LONG_SECONDS) for name in ("one", "two"))
    await one.see("account", FLOWS[:1])
    await two.see("account", FLOWS[1:])
    await two._go_round(patiently=False)
    await one.give_back()

    @asynccontextmanager
    async def failing(engine: Engine) -> AsyncIterator[Any]:
        async with transaction(engine) as tx:
            yield tx
            raise psycopg.OperationalError("the connection is lost")

    with monkeypatch.context() as patch:
        patch.setattr("archiver.ingest.leases.transaction", failing)
        with pytest.raises(psycopg.OperationalError):
            await two._go_round(patiently=False)
    assert daemons.loaded == []
    await two._go_round(patiently=False)
    assert daemons.loaded == ["two"]


async def test_one_whose_process_has_ended_on_this_machine_is_not_waited_for(daemons, ended_pid):
    before = daemons.start("killed", pid=ended_pid)
    await before.see("account", FLOWS)
    again = daemons.start("started again")
    await again.see("account", FLOWS)
    assert share(again) == set(FLOWS)


async def test_the_sessions_of_one_that_is_gone_are_ended_so_that_nobody_waits_for_its_locks(
    daemons, database_url, ended_pid
):
    async with connect(database_url) as its_engine, its_engine.connect() as stalled:
        await stalled.execute(text("LOCK TABLE store.ledger"))
        gone = Daemons(its_engine).start("gone", key=key_of(its_engine), pid=ended_pid)
        await gone.see("account", FLOWS)
        other = daemons.start("other")
        await other.see("account", FLOWS)
        assert share(other) == set(FLOWS)
        async with asyncio.timeout(20), transaction(daemons.engine) as tx:
            await tx.execute(text("LOCK TABLE store.ledger"))
        await stalled.invalidate()


async def test_what_this_process_held_before_it_began_anew_is_its_own(daemons):
    before = daemons.start("same")
    await before.see("account", FLOWS)
    anew = daemons.start("same")
    await anew.see("account", FLOWS)
    assert share(anew) == set(FLOWS)


async def test_another_process_of_the_same_name_is_left_alone(daemons):
    another = daemons.start("same", pid=os.getppid())
    await another.see("account", FLOWS)
    one = daemons.start("same")
    await one.see("account", FLOWS)
    assert len(share(one)) == 4


async def test_one_elsewhere_is_waited_for_whatever_its_process_is_called(daemons, ended_pid):
    elsewhere = daemons.start("elsewhere", pid=ended_pid, machine="another")
    await elsewhere.see("account", FLOWS)
    here = daemons.start("here")
    await here.see("account", FLOWS)
    assert len(share(here)) == 4


async def test_nobody_takes_what_it_cannot_see_and_two_accounts_see_more_than_one(daemons):
    one, two = daemons.start("one"), daemons.start("two")
    await one.see("account", [*FLOWS, "private/1"])
    await two.see("account", ["private/2"])
    await two.see("other account", FLOWS[:2])
    assert share(two, ["private/1", "private/2", *FLOWS[2:]]) == {"private/2"}
    assert share(two) == set(FLOWS[:2])
    two.forget("other account")
    await two.see("account", [])
    assert share(two, ["private/2", *FLOWS]) == set()


async def test_a_database_that_is_away_takes_nothing_from_anybody(daemons, database_url):
    one = daemons.start("one", lease_seconds=SHORT_SECONDS)
    await one.see("account", FLOWS)
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(one.keep())
        name = database_url.partition("?")[0].rpartition("/")[2]
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        for _ in range(3):
            with suppress(Exception):
                query(database_url, f"{end} AND pid <> pg_backend_pid()", name)
            await asyncio.sleep(SHORT_SECONDS / 5)
            assert share(one) == set(FLOWS)
        keeping.cancel()


async def test_after_an_outage_of_all_nobody_is_believed_dead_before_it_could_be_heard(daemons):
    one, two = (daemons.start(name, lease_seconds=SHORT_SECONDS) for name in ("one", "two"))
    await one.see("account", FLOWS)
    await two.see("account", FLOWS)
    await asyncio.sleep(2 * SHORT_SECONDS)
    await one.see("account", [*FLOWS, "acme/late"])
    assert len(share(one, [*FLOWS, "acme/late"])) == 5


async def test_a_beat_dated_by_another_servers_clock_holds_for_no_longer_than_a_lease(
    daemons, database_url
):
    killed = daemons.start("killed", machine="another")
    await killed.see("account", FLOWS)
    async with transaction(daemons.engine) as tx:
        assert [one.is_heard for one in await leases.known(tx)] == [True]
    ahead = "UPDATE store.daemons SET beat_at = beat_at + interval '1 hour' RETURNING 1"
    query(database_url, ahead)
    async with transaction(daemons.engine) as tx:
        assert [one.is_heard for one in await leases.known(tx)] == [False]


async def test_a_lease_goes_from_the_holder_that_was_told_or_not_at_all(daemons):
    a, b, c = (str(uuid4()) for _ in range(3))
    async with transaction(daemons.engine) as tx:
        await leases.take(tx, a, {"acme/1": None, "acme/2": None})
        await leases.take(tx, b, {"acme/1": a, "acme/2": c, "acme/3": None})
        await leases.take(tx, c, {"acme/3": None, "acme/1": a})
        await leases.drop(tx, c, ["acme/1"])
        assert await leases.held(tx) == {"acme/1": b, "acme/2": a, "acme/3": b}


def test_all_private_conversations_of_a_person_are_one_slot():
    assert {slot_of("private/1/2"), slot_of("private/1/3")} == {"private/1"}
    assert slot_of("acme/main") == "acme/main"


async def test_who_is_heard_of_again_was_heard_of_just_now(daemons):
    me = leases.Sharer(key=str(uuid4()), name="one", machine="m", pid=1, lease_seconds=9)
    told = []
    for _ in range(2):
        async with transaction(daemons.engine) as tx:
            await leases.beat(tx, me, [], unheard=[])
            told += await leases.reports(tx)
    first, again = told
    assert first.started_at == again.started_at
    assert first.heard_at < again.heard_at


def test_what_is_unheard_is_told_by_the_daemons_that_are_heard_of():
    heard = leases.Report(
        daemon="one",
        started_at=NOW,
        heard_at=NOW,
        is_heard=True,
        captures=["acme/1", "private/1"],
        could_capture=2,
        unheard=["private/1"],
    )
    ended = replace(heard, is_heard=False, unheard=["acme/2"])
    flows = ["acme/1", "acme/2", "private/1/2", "private/2/1"]
    assert leases.unheard_among(flows, [heard, ended]) == ["private/1/2"]
    assert [leases.is_silent(told) for told in ([heard, ended], [ended], [])] == [False, True, True]


async def test_one_who_shares_with_nobody_holds_everything():
    await EVERYTHING.see("account", FLOWS)
    assert EVERYTHING.holds("acme/whatever")
