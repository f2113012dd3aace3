from base64 import b64encode

import aiohttp
import pytest


def basic(credentials: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(credentials.encode()).decode()}


async def status_of(flowdock, headers=None, path="/user") -> tuple[int, str | None]:
    async with (
        aiohttp.ClientSession(headers=headers or {}) as session,
        session.get(flowdock.api_url + path) as response,
    ):
        return response.status, response.headers.get("Flowdock-User")


async def test_a_token_is_let_in_whatever_the_password(flowdock):
    for password in ("", "undefined"):
        assert await status_of(flowdock, basic(f"{flowdock.token}:{password}")) == (200, "1")


async def test_email_and_password_are_let_in(flowdock):
    me = flowdock.me
    assert await status_of(flowdock, basic(f"{me.email}:{me.password}")) == (200, "1")
    assert await status_of(flowdock, basic(f"{me.email}:wrong")) == (401, None)


async def test_an_access_token_is_let_in_as_bearer_and_in_the_address(flowdock):
    token = flowdock.me.access_token
    assert await status_of(flowdock, {"Authorization": f"Bearer {token}"}) == (200, "1")
    assert await status_of(flowdock, path=f"/user?access_token={token}") == (200, "1")


@pytest.mark.parametrize(
    "header", [{}, {"Authorization": "Basic ???"}, {"Authorization": "Basic /w=="},
               {"Authorization": "Basic \u00fc"}, {"Authorization": "Bearer x"},
               {"Authorization": "Digest x"}]
)  # fmt: skip
async def test_nobody_else_is_let_in(flowdock, header):
    assert await status_of(flowdock, header) == (401, None)


async def test_a_disabled_user_is_not_let_in(flowdock):
    flowdock.me.disabled = True
    assert await status_of(flowdock, basic(f"{flowdock.token}:")) == (401, None)


async def test_users_and_organizations_are_listed_and_shown(api):
    me = await api.get("/user")
    assert (me["id"], me["nick"]) == (1, "Anna")
    assert me in await api.get("/users")
    assert await api.get("/users/1") == me
    assert (await api("GET", "/users/99"))[0] == 404
    (acme,) = await api.get("/organizations")
    assert await api.get("/organizations/acme") == acme
    assert await api.get("/organizations/find", id=acme["id"]) == acme
    assert len(await api.get("/organizations/acme/users")) == len(acme["users"]) == 5
    assert me["id"] in [user["id"] for user in await api.get("/flows/acme/main/users")]


async def test_a_changed_nick_is_told_in_each_flow_with_an_id_of_its_own(api):
    status, _, user = await api("PUT", "/users/1", json={"nick": "Annie"})
    assert (status, user["nick"]) == (200, "Annie")
    for flow in ("main", "development", "operations"):
        (told,) = await api.get(f"/flows/acme/{flow}/messages", event="user-edit")
        assert told["content"]["user"]["nick"] == "Annie"
    given = {"event": "message", "content": "@annie @anna"}
    _, _, sent = await api("POST", "/flows/acme/main/messages", json=given)
    assert sent["tags"] == [":user:1"]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    ("path", "given"),
    [("/users/1", {"name": "Anne"}), ("/private/2", {"open": False}),
     ("/flows/acme/main", {"name": "Other"})],
)  # fmt: skip
async def test_what_can_be_updated_takes_put_and_patch(api, method, path, given):
    status, _, body = await api(method, path, json=given)
    assert (status, body) == (200, body | given)
    shown = await api.get(path)
    assert shown == shown | given


async def test_conversations_are_listed_under_the_id_of_the_other_one(api, flowdock):
    flowdock.world.directory.conversation(flowdock.me, flowdock.world.users[3])
    listed = {talk["id"]: talk for talk in await api.get("/private")}
    assert listed[4]["name"] == "@Jose"
    assert [user["id"] for user in listed[4]["users"]] == [1, 4]
    assert (await api("PUT", "/private/4", json={"open": False}))[2]["open"] is False
    assert (await api.get("/private/4"))["open"] is False


async def test_refusals_name_the_asker_too(api):
    _, headers, _ = await api("GET", "/flows/acme/nothing")
    assert headers["Flowdock-User"] == "1"


async def test_an_address_that_leads_nowhere_is_answered_in_json(api):
    assert (await api("GET", "/nowhere"))[::2] == (404, {"message": "not found"})
    status, headers, body = await api("DELETE", "/user")
    assert (status, body) == (405, {"message": "method not allowed"})
    assert headers["Allow"] == "GET,HEAD"
