"""Which flow an event belongs to."""

import psycopg
import pytest

from archiver.domain.events import Event
from archiver.domain.model import Flow, FlowId, UserId
from archiver.flowdock.decode import decode
from archiver.ingest.names import Names, flow_named
from archiver.store.engine import connect
from tests.ingest.arriving import NOW, frame
from tests.test_daemon import CUT_OFF

ME = UserId("1")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"flow": "uuid"}, "uuid"),
        ({"flow": "acme:main"}, "acme:main"),
        ({"flow": None, "user": "2", "to": "1"}, "private/1/2"),
        ({"flow": None, "user": "1", "to": "2"}, "private/1/2"),
        ({"flow": None, "user": 2, "to": 1}, "private/1/2"),
        ({"flow": None, "user": "1", "to": "1"}, "private/1/1"),
        ({"flow": None, "to": None}, None),
        ({"flow": None, "to": "1", "user": None}, None),
        ({"flow": None, "to": "1", "user": "0"}, None),
        ({"flow": None, "to": "2", "user": "0"}, "private/1/2"),
    ],
)
def test_an_event_names_its_flow_or_the_people_of_its_conversation(fields, named):
    event = decode(frame(1, **fields))
    assert isinstance(event, Event)
    assert flow_named(event, me=ME) == named


async def test_all_spellings_of_a_listed_flow_lead_to_one_key(database_url):
    async with connect(database_url) as engine:
        names = Names(engine)
        flow = Flow(id=FlowId("uuid"), path="acme/main")
        (key,) = (await names.see([flow], now=NOW)).values()
        for spelling in ("uuid", "acme/main", "acme:main"):
            assert await names.key(FlowId(spelling), now=NOW) == key


async def test_the_name_of_a_disabled_flow_is_that_of_the_flow_that_was_given_it(database_url):
    former = Flow(id=FlowId("former"), path="acme/main", disabled=True)
    latter = Flow(id=FlowId("latter"), path="acme/main")
    async with connect(database_url) as engine:
        names = Names(engine)
        for listed in [(former, latter), (latter, former)]:
            keys = await names.see(listed, now=NOW)
            for spelling in ("latter", "acme/main", "acme:main"):
                assert names.known(FlowId(spelling)) == keys[latter.id]


async def test_a_path_that_a_listing_names_twice_leads_to_the_flow_that_has_it(database_url):
    first, second = (Flow(id=FlowId(name), path="acme/main") for name in ("first", "second"))
    async with connect(database_url) as engine:
        key = (await Names(engine).see([first], now=NOW))[first.id]
        for listed in [(first, second), (second, first)]:
            names = Names(engine)
            await names.see(listed, now=NOW)
            for spelling in ("first", "acme/main", "acme:main"):
                assert names.known(FlowId(spelling)) == key


async def test_an_id_that_nobody_knows_is_of_another_flow_and_a_name_of_old_may_be_of_this(
    database_url,
):
    async with connect(database_url) as engine:
        names = Names(engine)
        main, ops = (Flow(id=FlowId(name), path=f"acme/{name}") for name in ("main", "ops"))
        key = (await names.see([main, ops], now=NOW))[main.id]
    others = {name for name in ("main", "acme:main", "acme:before", "ops", "acme:ops", "unknown")
              if names.is_another(FlowId(name), key)}  # fmt: skip
    assert others == {"ops", "acme:ops", "unknown"}


async def test_a_name_of_old_is_that_of_the_flow_at_the_path_after_a_restart_too(database_url):
    """An import of old events leaves such a name if it ran before the service listed the flow."""
    async with connect(database_url) as engine:
        before = await Names(engine).key(FlowId("acme:main"), now=NOW)
        main = Flow(id=FlowId("main"), path="acme/main")
        key = (await Names(engine).see([main], now=NOW))[main.id]
        later = Names(engine)
        await later.load()
        await later.load_paths()
        assert before != key
        assert later.is_same(FlowId("acme:main"), key)


async def test_an_id_of_old_stays_that_of_its_flow_when_another_flow_takes_the_path(database_url):
    """The service still lists some flows under ``organization:flow``, also after a renaming."""
    old, new = FlowId("acme:main"), FlowId("uuid")
    async with connect(database_url) as engine:
        names = Names(engine)
        key = (await names.see([Flow(id=old, path="acme/main")], now=NOW))[old]
        renamed = [Flow(id=old, path="acme/before"), Flow(id=new, path="acme/main")]
        other = (await names.see(renamed, now=NOW))[new]
        later = Names(engine)
        await later.load()
        await later.load_paths()
        after_restart = Names(engine)
        await after_restart.load()
        await after_restart.see([Flow(id=new, path="acme/main")], now=NOW)
        for one in (names, later, after_restart):
            assert one.is_same(old, key)
            assert one.is_another(old, other)
            assert one.is_same(FlowId("acme/main"), other)


async def test_a_flow_that_events_name_is_known_after_a_restart(database_url):
    async with connect(database_url) as engine:
        key = await Names(engine).key(FlowId("uuid"), now=NOW)
        later = Names(engine)
        await later.load()
        assert await later.key(FlowId("uuid"), now=NOW) == key


async def test_a_name_is_found_although_the_database_was_away(database_url):
    async with connect(database_url) as engine:
        names = Names(engine)
        await names.key(FlowId("one"), now=NOW)
        cut_all(database_url)
        await names.key(FlowId("two"), now=NOW)
        cut_all(database_url)
        await names.see([Flow(id=FlowId("three"), path="acme/three")], now=NOW)


def cut_all(database_url: str) -> None:
    """End all connections to the database but this one."""
    with psycopg.connect(database_url) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).rowcount
    assert ended > 0


async def test_flows_are_learned_though_the_database_goes_away_meanwhile(database_url, admin):
    async with connect(database_url) as engine:
        await Names(engine).key(FlowId("uuid"), now=NOW)
        admin.execute(CUT_OFF)
        later = Names(engine)
        await later.load()
        assert later.known(FlowId("uuid")) is not None
