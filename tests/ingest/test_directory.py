"""Which flows an account reads, and who the people in them are."""

import json

from archiver import daemon
from archiver.simulator.faults import Fault
from archiver.simulator.server import Simulator
from archiver.store.engine import connect
from tests.ingest.arriving import query
from tests.test_daemon import settings_for

PEOPLE = "SELECT count(*) > 0 FROM archive.users"


async def test_flows_are_read_though_nobody_says_who_the_people_in_them_are(database_url):
    async with Simulator.start(flows=1, history=5) as flowdock:
        flowdock.faults.add(Fault(kind="status", on="rest", path="*/users", status=400))
        settings = settings_for(flowdock, database_url, private=False)
        async with connect(database_url) as engine, daemon.works(settings, engine) as shared:
            account = shared.account(settings.require_accounts()[0])
            for told in (False, True):
                await account.look_up()
                assert len(account.source.paths) == 1
                assert query(database_url, PEOPLE) == [(told,)]
        assert flowdock.faults.fired["status"] == 1


async def test_a_flow_whose_path_no_database_can_hold_is_left_out_and_the_others_are_read(
    database_url, caplog
):
    paths = {"acme/main": "8d1f", "acme/ma%00in": "8d20"}
    listed = [{"id": id_, "url": f"https://h/flows/{path}"} for path, id_ in paths.items()]
    async with Simulator.start(flows=1, history=5) as flowdock:
        body = json.dumps(listed)
        flowdock.faults.add(Fault(kind="status", on="rest", path="*/flows", status=200, body=body))
        settings = settings_for(flowdock, database_url, private=False)
        async with connect(database_url) as engine, daemon.works(settings, engine) as shared:
            account = shared.account(settings.require_accounts()[0])
            await account.look_up()
            assert [*account.source.paths.values()] == ["acme/main"]
        assert flowdock.faults.fired["status"] == 1
    assert "some listed items cannot be read: left out" in caplog.text
