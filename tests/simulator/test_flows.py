import pytest

from archiver.simulator import membership


async def test_joined_flows_are_listed_with_their_secrets(api, flowdock):
    flows = await api.get("/flows")
    assert [flow["parameterized_name"] for flow in flows] == ["main", "development", "operations"]
    assert all(flow["joined"] and flow["open"] and flow["api_token"] for flow in flows)
    assert ["join_url" in flow for flow in flows] == [True, False, True]
    assert "users" not in flows[0]
    assert flows[0]["organization"]["parameterized_name"] == "acme"


async def test_users_are_listed_with_their_flow_when_asked_for(api):
    flows = await api.get("/flows", users=1)
    assert flows[0]["users"][0]["nick"] == "Anna"
    assert flows[0]["users"][0]["in_flow"] is True


async def test_all_flows_include_those_to_be_joined_but_no_invitation(api, flowdock):
    directory = flowdock.world.directory
    acme = directory.organizations["acme"]
    directory.add_flow(acme, slug="public", name="Public", access_mode="organization")
    directory.add_flow(acme, slug="closed", name="Closed", access_mode="invitation")
    names = [flow["name"] for flow in await api.get("/flows/all")]
    assert names[-1] == "Public"
    assert "Public" not in [flow["name"] for flow in await api.get("/flows")]
    assert (await api("GET", "/flows/acme/public/messages"))[0] == 403
    assert (await api("GET", "/flows/acme/closed/messages"))[0] == 404


async def test_the_flows_of_one_organization_are_listed_under_its_address(api, flowdock):
    directory = flowdock.world.directory
    other = directory.add_organization("umbrella", "Umbrella")
    secret = directory.add_flow(other, slug="secret", name="Secret")
    assert await api.get("/flows/acme") == await api.get("/flows")
    assert (await api("GET", "/flows/umbrella"))[0] == 404
    other.users[flowdock.me.id] = flowdock.me
    secret.members[flowdock.me.id] = True
    assert [flow["name"] for flow in await api.get("/flows/umbrella", users=1)] == ["Secret"]
    assert len(await api.get("/flows/acme")) == 3
    assert len(await api.get("/flows")) == 4


async def test_a_flow_is_found_by_address_and_by_id(api, flowdock):
    by_address = await api.get("/flows/acme/main")
    assert by_address["users"]
    assert await api.get("/flows/find", id=by_address["id"]) == by_address
    assert (await api("GET", "/flows/find?id=nothing"))[0] == 404
    assert (await api("GET", "/flows/acme/nothing"))[0] == 404


async def test_a_flow_is_created_with_its_founder_alone(api):
    status, _, flow = await api("POST", "/flows/acme", json={"name": "My flow"})
    assert (status, flow["parameterized_name"]) == (201, "my-flow")
    assert [user["id"] for user in flow["users"]] == [1]
    assert (await api("POST", "/flows/acme", json={"name": "x" * 101}))[0] == 400
    assert (await api("POST", "/flows/nowhere", json={"name": "x"}))[0] == 404


async def test_opening_a_flow_joins_it(api, flowdock):
    directory = flowdock.world.directory
    acme = directory.organizations["acme"]
    directory.add_flow(acme, slug="public", name="Public", access_mode="organization")
    status, _, flow = await api("PUT", "/flows/acme/public", json={"open": True})
    assert (status, flow["joined"], flow["open"]) == (200, True, True)
    (joined,) = await api.get("/flows/acme/public/messages")
    assert (joined["event"], joined["content"]["type"]) == ("action", "join")


async def test_whoever_is_added_or_leaves_is_named_in_an_action(api, flowdock):
    flow, other = flowdock.world.flows[0], flowdock.world.users[1]
    flow.members.pop(other.id, None)
    for _ in range(2):
        path = "/flows/acme/main/users"
        assert (await api("POST", path, json={"id": other.id}))[::2] == (200, {})
    membership.leave(flowdock.world, flow, other, by=flowdock.me)
    added, blocked = await api.get("/flows/acme/main/messages", event="action", limit=2)
    assert (added["user"], blocked["user"]) == ("1", "1")
    assert (added["content"]["type"], added["content"]["description"]) == ("add_people", "Mike")
    assert blocked["content"] == {"type": "block", "description": {"user": other.id}}
    assert other.id not in flow.members


async def test_a_disabled_flow_disappears(api, flowdock):
    assert (await api("PUT", "/flows/acme/main", json={"disabled": True}))[0] == 200
    assert len(await api.get("/flows")) == 2
    assert (await api("GET", "/flows/acme/main/messages"))[0] == 404
    assert (await api("PUT", "/flows/acme/main", json={"disabled": False}))[0] == 200
    assert len(await api.get("/flows")) == 3


async def test_nobody_joins_a_disabled_flow(api, flowdock):
    flow = flowdock.world.flows[0]
    membership.leave(flowdock.world, flow, flowdock.me)
    assert (await api("PUT", "/flows/acme/main", json={"disabled": True, "open": True}))[0] == 403
    assert not flow.disabled
    assert (await api("PUT", "/flows/acme/main", json={"disabled": True}))[0] == 200
    assert (await api("PUT", "/flows/acme/main", json={"open": True}))[0] == 403
    assert flowdock.me.id not in flow.members
    assert (await api("PUT", "/flows/acme/main", json={"disabled": False, "open": True}))[0] == 200
    assert flow.members[flowdock.me.id]


async def test_a_renamed_flow_keeps_its_id_and_address(api):
    before = await api.get("/flows/acme/main")
    await api("PUT", "/flows/acme/main", json={"name": "Other", "access_mode": "link"})
    after = await api.get("/flows/acme/main")
    assert (after["id"], after["name"], after["access_mode"]) == (before["id"], "Other", "link")


async def test_only_an_administrator_changes_a_flow(as_user, flowdock):
    flow, other = flowdock.world.flows[0], flowdock.world.users[1]
    flow.members[other.id] = True
    changed = await as_user(other)("PUT", "/flows/acme/main", json={"name": "Mine"})
    assert changed[0] == 403


@pytest.mark.parametrize(
    ("name", "value"),
    [("limit", 0), ("limit", "9" * 5000), ("since", "yesterday"), ("until", "9999-99-99")],
)
async def test_a_wrong_parameter_of_the_threads_is_named(api, name, value):
    status, _, body = await api("GET", "/flows/acme/main/threads", params={name: value})
    assert (status, body["errors"]) == (400, {name: ["is invalid"]})


async def test_times_that_ask_for_threads_are_utc(api):
    everything = await api.get("/flows/acme/main/threads", limit=100)
    border = everything[3]["updated_at"]
    newer = await api.get("/flows/acme/main/threads", since=border, limit=100)
    assert newer == everything[:3]
    naive = border.removesuffix("Z")
    assert await api.get("/flows/acme/main/threads", since=naive, limit=100) == newer
    assert await api.get("/flows/acme/main/threads", since="0001-01-01", limit=100) == everything


async def test_threads_are_paged_newest_first_by_their_link(api, flowdock):
    read, address = [], "/flows/acme/main/threads?limit=20"
    while address:
        status, headers, page = await api("GET", address)
        assert status == 200
        read += [thread["id"] for thread in page]
        link = headers.get("Link", "")
        address = link.partition(">")[0].removeprefix("<").removeprefix(flowdock.api_url)
        assert not link or 'rel="next"' in link
    threads = flowdock.world.flows[0].threads.values()
    newest = sorted(threads, key=lambda thread: (-thread.updated_at, -thread.initial_message))
    assert read == [thread.id for thread in newest]
