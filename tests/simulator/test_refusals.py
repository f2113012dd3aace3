"""Whatever a request says, the API answers in its own form, and no stored data suffer."""

import io
import json
from http import HTTPStatus

import aiohttp
import pytest

from archiver.simulator.server import MAX_BODY_BYTES

MESSAGES = "/flows/acme/main/messages"
MESSAGE = {"event": "message", "content": "x"}
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
PARTS = "multipart/form-data; boundary=x"


def part(head: bytes, body: bytes = b"foo") -> bytes:
    return b"--x\r\n" + head + b"\r\n\r\n" + body + b"\r\n--x--\r\n"


NAMED = b'Content-Disposition: form-data; name="event"'


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (JSON, b"[]"),
        (JSON, b"\xff"),
        (JSON, b"[" * 100_000),
        (JSON, b'{"content": NaN}'),
        (JSON, b'{"content": [-1e999]}'),
        (JSON, b'{"content": ' + b"9" * 5000 + b"}"),
        (FORM, b"\xff=x"),
        (FORM + "; charset=nonsense", b"content=x"),
        ("multipart/form-data", b"x"),
        (PARTS, b"x"),
        (PARTS, part(b"")),
        (PARTS, part(NAMED, b"\xff")),
        (PARTS, part(NAMED + b"\r\nContent-Type: text/plain; charset=nonsense")),
        (PARTS, part(NAMED + b"\r\nContent-Type: multipart/mixed; boundary=y")),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(api, kind, body):
    status, _, told = await api("POST", MESSAGES, data=body, headers={"Content-Type": kind})
    assert (status, told.keys()) == (400, {"message"})


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}])
async def test_a_body_whose_type_is_not_said_is_refused(api, headers):
    skipped = [] if headers else ["Content-Type"]
    before = await api.get(MESSAGES)
    options = {"data": json.dumps(MESSAGE).encode(), "headers": headers}
    status, _, told = await api("POST", MESSAGES, skip_auto_headers=skipped, **options)
    assert (status, told.keys()) == (400, {"message"})
    assert await api.get(MESSAGES) == before


async def test_a_body_that_is_not_compressed_as_it_says_is_refused(api):
    headers = {"Content-Type": JSON, "Content-Encoding": "gzip"}
    status, _, told = await api("POST", MESSAGES, data=b"{}", headers=headers)
    assert (status, told.keys()) == (400, {"message"})


@pytest.mark.parametrize(("depth", "expected"), [(90, 202), (100, 400), (900, 400)])
async def test_what_could_not_be_listed_again_is_not_stored(api, flowdock, depth, expected):
    token = flowdock.world.flows[0].api_token
    nested = b'{"name": "Robot", "at": ' + b"[" * depth + b"]" * depth + b"}"
    body = b'{"event": "activity", "title": "built", "author": %s}' % nested
    headers = {"Content-Type": JSON}
    async with aiohttp.ClientSession() as nobody:
        address = f"{flowdock.api_url}/messages/{token}"
        async with nobody.post(address, data=body, headers=headers) as answer:
            assert answer.status == expected
    assert await api.get(MESSAGES, limit=100)


async def test_a_body_that_is_too_long_is_refused_in_json(api):
    headers = {"Content-Type": JSON}
    body = io.BytesIO(bytes(MAX_BODY_BYTES + 1))
    status, _, told = await api("POST", MESSAGES, data=body, headers=headers)
    assert (status, told) == (413, {"message": HTTPStatus(413).phrase.lower()})


LONG = "9" * 5000


@pytest.mark.parametrize(
    "path",
    [f"{MESSAGES}/{LONG}", f"{MESSAGES}/{2**70}", f"{MESSAGES}/-1", f"/users/{LONG}",
     f"/private/{LONG}", f"/private/{LONG}/messages"],
)  # fmt: skip
async def test_nothing_is_found_under_an_id_that_cannot_be(api, path):
    assert (await api("GET", path))[::2] == (404, {"message": "not found"})


@pytest.mark.parametrize("user", [LONG, "x", "-1", [1], None])
async def test_nobody_is_added_under_an_id_that_cannot_be(api, user):
    status, _, told = await api("POST", "/flows/acme/main/users", json={"id": user})
    assert (status, told["errors"].keys()) == (400, {"id"})


@pytest.mark.parametrize(
    ("given", "wrong"),
    [({"type": ["add"], "emoji": "x"}, "type"), ({"type": {}, "emoji": "x"}, "type"),
     ({"type": "add", "emoji": ["x"]}, "emoji"), ({"type": "add"}, "emoji")],
)  # fmt: skip
async def test_a_reaction_that_is_none_is_refused(api, flowdock, given, wrong):
    newest = flowdock.world.flows[0].timeline.nth_newest(0)
    path = f"{MESSAGES}/{newest.id}/emoji_reaction"
    status, _, told = await api("POST", path, json=given)
    assert (status, told["errors"].keys()) == (400, {wrong})
    assert "emojiReactions" not in await api.get(f"{MESSAGES}/{newest.id}")


@pytest.mark.parametrize(
    ("method", "path", "given", "wrong"),
    [
        ("POST", MESSAGES, MESSAGE | {"uuid": {"a": 1}}, "uuid"),
        ("POST", MESSAGES, MESSAGE | {"external_user_name": ["a"]}, "external_user_name"),
        ("POST", "/flows/acme", {"name": ["x"]}, "name"),
        ("PUT", "/flows/acme/main", {"name": True}, "name"),
        ("PUT", "/flows/acme/main", {"open": "banana"}, "open"),
        ("PUT", "/flows/acme/main", {"name": "x", "disabled": 2}, "disabled"),
        ("PUT", "/users/1", {"nick": ["x"]}, "nick"),
        ("PUT", "/private/2", {"open": []}, "open"),
    ],
)
async def test_a_value_of_the_wrong_kind_is_refused_and_changes_nothing(
    api, flowdock, method, path, given, wrong
):
    await api.get("/private/2")
    before = await api.get("/flows"), json.dumps(flowdock.world.truth())
    status, _, told = await api(method, path, json=given)
    assert (status, told["errors"]) == (400, {wrong: ["is invalid"]})
    assert (await api.get("/flows"), json.dumps(flowdock.world.truth())) == before


async def test_an_integration_whose_values_are_of_the_wrong_kind_leaves_no_thread(api, flowdock):
    path = f"/messages/{flowdock.world.flows[0].api_token}"
    whole = {"event": "activity", "title": "built", "author": {"name": "Robot"}}
    before = json.dumps(flowdock.world.truth())
    for wrong in ("title", "uuid", "external_thread_id"):
        status, _, told = await api("POST", path, json=whole | {wrong: ["x"]})
        assert (status, told["errors"]) == (400, {wrong: ["is invalid"]})
    assert json.dumps(flowdock.world.truth()) == before
