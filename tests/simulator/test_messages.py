import json
from base64 import b64encode
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from archiver.simulator.server import Simulator

MAIN = "/flows/acme/main"
MESSAGES = f"{MAIN}/messages"


async def send(api: Any, content: Any, path: str = MESSAGES, **more: Any) -> dict[str, Any]:
    given = {"event": "message", "content": content} | more
    status, _, body = await api("POST", path, json=given)
    assert status == 201, body
    sent: dict[str, Any] = body
    return sent


def ids(page: list[dict[str, Any]]) -> list[int]:
    return [message["id"] for message in page]


async def test_a_sent_message_is_as_the_documentation_shows_it(api, flowdock):
    status, headers, body = await api(
        "POST",
        MESSAGES,
        json={
            "event": "message",
            "content": "Howdy-Doo @Jackie #awesome",
            "tags": ["todo", "#feedback", "@all"],
        },
    )
    jackie = next(user for user in flowdock.world.users if user.nick == "Jackie")
    assert status == 201
    assert headers["Flowdock-User"] == "1"
    assert 'rel="comments"' in headers["Link"]
    assert f"{MESSAGES}/{body['id']}/comments" in headers["Link"]
    expected = ["todo", "feedback", ":user:everyone", "awesome", f":user:{jackie.id}"]
    assert body["tags"] == expected
    assert (body["user"], body["app"], body["attachments"]) == ("1", "chat", [])
    assert body["flow"] == flowdock.world.flows[0].id
    assert body["uuid"]


async def test_a_message_may_be_sent_as_a_form(api):
    form = {"event": "message", "content": "as a form", "tags": "#awesome,cool,@mike"}
    status, _, body = await api("POST", MESSAGES, data=form)
    assert (status, body["content"]) == (201, "as a form")
    assert body["tags"] == ["awesome", "cool", ":user:2"]


async def test_a_message_may_name_its_flow_in_the_body(api, flowdock):
    for flow in (flowdock.world.flows[0].id, "acme/main"):
        body = await send(api, "hello", path="/messages", flow=flow)
        assert body["flow"] == flowdock.world.flows[0].id


@pytest.mark.parametrize("event", ["message", "status", "file", "comment"])
async def test_whatever_is_sent_keeps_the_uuid_and_the_name_of_its_client(api, flowdock, event):
    parent = await send(api, "hello")
    content = {"data": "AAAA", "file_name": "x"} if event == "file" else "hello"
    path = f"{MESSAGES}/{parent['id']}/comments" if event == "comment" else MESSAGES
    more = {"path": path, "event": event, "uuid": "mine"}
    body = await send(api, content, **more)
    assert (body["user"], body["uuid"]) == ("1", "mine")
    assert "external_user_name" not in body
    flowdock.me.status = "at work"
    body = await send(api, content, **more, external_user_name="Robot")
    assert (body["user"], body["external_user_name"]) == ("0", "Robot")
    assert flowdock.me.status == "at work"


async def test_a_status_is_sent_and_kept(api, flowdock):
    assert (await send(api, "busy", event="status"))["event"] == "status"
    assert flowdock.me.status == "busy"


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"event": "message", "content": ""}, "content"),
        ({"event": "message"}, "content"),
        ({"event": "message", "content": "x" * 8097}, "content"),
        ({"event": "no-such", "content": "x"}, "event"),
        ({"content": "x"}, "event"),
        ({"event": ["message"], "content": "x"}, "event"),
        ({"event": "comment", "content": "x", "message": 1}, "event"),
        ({"event": "file", "content": "x"}, "content"),
        ({"event": "file", "content": {"data": "!!", "file_name": "x"}}, "content"),
    ],
)
async def test_what_is_wrong_with_a_message_is_said(api, given, wrong):
    status, _, body = await api("POST", MESSAGES, json=given)
    assert (status, body["message"]) == (400, "Validation error")
    assert wrong in body["errors"]


async def test_8096_characters_are_not_too_many(api):
    assert len((await send(api, "ä" * 8096))["content"]) == 8096


async def test_broken_json_is_refused(api):
    options = {"data": b"{", "headers": {"Content-Type": "application/json"}}
    assert (await api("POST", MESSAGES, **options))[0] == 400


async def test_the_newest_thirty_are_listed_ascending(api, flowdock):
    page = await api.get(MESSAGES)
    stored = [message.id for message in flowdock.world.flows[0].timeline]
    assert ids(page) == stored[-30:]
    assert ids(await api.get(MESSAGES, limit=1)) == stored[-1:]


async def test_since_id_gives_the_newest_after_it_unless_sorted_ascending(api, flowdock):
    stored = [message.id for message in flowdock.world.flows[0].timeline]
    since = stored[5]
    assert ids(await api.get(MESSAGES, since_id=since, limit=3)) == stored[-3:]
    assert ids(await api.get(MESSAGES, since_id=since, limit=3, sort="asc")) == stored[6:9]


async def test_both_bounds_are_left_out_and_may_be_combined(api, flowdock):
    stored = [message.id for message in flowdock.world.flows[0].timeline]
    page = await api.get(MESSAGES, since_id=stored[2], until_id=stored[6], limit=100)
    assert ids(page) == stored[3:6]
    assert ids(await api.get(MESSAGES, until_id=stored[6], limit=2)) == stored[4:6]
    assert ids(await api.get(MESSAGES, until_id=stored[6], limit=2, sort="asc")) == stored[:2]


async def test_paging_forward_reads_every_message_once(api, flowdock):
    read, since = [], 0
    while page := await api.get(MESSAGES, since_id=since, sort="asc", limit=7):
        read += ids(page)
        since = read[-1]
    assert read == [message.id for message in flowdock.world.flows[0].timeline]


@pytest.mark.parametrize(
    ("name", "value"),
    [("limit", 0), ("limit", 101), ("limit", "x"), ("sort", "up"), ("tag_mode", "xor"),
     ("since_id", "x"), ("until_id", "9" * 5000), ("skip", -1), ("skip", 2**63)],
)  # fmt: skip
async def test_a_wrong_parameter_of_a_listing_is_named(api, name, value):
    status, _, body = await api("GET", MESSAGES, params={name: value})
    assert status == 400
    assert body["errors"].keys() == {name}


async def test_events_filter_a_listing(api):
    await send(api, "busy", event="status")
    sent = await send(api, "hello")
    page = await api.get(MESSAGES, event="status,file", limit=100)
    assert {message["event"] for message in page} <= {"status", "file"}
    assert sent["id"] not in ids(page)


async def test_tags_filter_a_listing_by_all_or_by_any(api):
    both = await send(api, "one", tags=["red", "blue"])
    red = await send(api, "two", tags=["RED"])
    assert ids(await api.get(MESSAGES, tags="red,#Blue")) == [both["id"]]
    any_of = await api.get(MESSAGES, tags="red,blue", tag_mode="or")
    assert ids(any_of) == [both["id"], red["id"]]


async def test_a_user_tag_filters_in_both_forms(api):
    sent = await send(api, "hello @Mike")
    for tag in ("@mike", ":user:2"):
        assert sent["id"] in ids(await api.get(MESSAGES, tags=tag, limit=100))


async def test_a_tag_of_nobody_matches_nothing(api):
    sent = await send(api, "hello", tags=["red"])
    assert await api.get(MESSAGES, tags="@nobody") == []
    assert await api.get(MESSAGES, tags="red,@nobody") == []
    assert ids(await api.get(MESSAGES, tags="red,@nobody", tag_mode="or")) == [sent["id"]]


async def test_tags_that_are_none_are_refused_and_take_none_off(api):
    sent = await send(api, "hello", tags=["red"])
    address = f"{MESSAGES}/{sent['id']}"
    for method, path in (("POST", MESSAGES), ("PUT", address), ("GET", MESSAGES)):
        given = {"event": "message", "content": "hello", "tags": 7}
        status, _, body = await api(method, path, json=given)
        assert (status, body["errors"].keys()) == (400, {"tags"})
    assert (await api.get(address))["tags"] == ["red"]


async def test_a_search_wants_all_words_and_ignores_ids(api):
    sent = await send(api, "Zebra crossing")
    await send(api, "zebra alone")
    assert ids(await api.get(MESSAGES, search="ZEBRA cross", since_id=10**9)) == [sent["id"]]


async def test_only_a_search_can_be_skipped_into(api):
    first, second = await send(api, "zebra 1"), await send(api, "zebra 2")
    assert ids(await api.get(MESSAGES, search="zebra", skip=1, limit=1)) == [first["id"]]
    assert ids(await api.get(MESSAGES, skip=1, limit=1)) == [second["id"]]


async def test_parameters_of_a_listing_may_stand_in_its_body(api):
    sent = await send(api, "hello")
    status, _, page = await api("GET", MESSAGES, json={"limit": 1})
    assert (status, ids(page)) == (200, [sent["id"]])


async def test_a_message_is_shown_and_an_unknown_one_is_not_found(api):
    sent = await send(api, "hello")
    assert (await api.get(f"{MESSAGES}/{sent['id']}")) == sent
    status, _, body = await api("GET", f"{MESSAGES}/999999")
    assert (status, body) == (404, {"message": "not found"})


async def test_an_edit_answers_with_nothing_and_is_listed_with_its_time(api):
    sent = await send(api, "hello #one")
    status, _, body = await api("PUT", f"{MESSAGES}/{sent['id']}", json={"content": "bye #two"})
    assert (status, body) == (200, {})
    shown = await api.get(f"{MESSAGES}/{sent['id']}")
    assert (shown["content"], shown["tags"]) == ("bye #two", ["two"])
    assert sent["edited"] is None
    assert shown["edited"] >= sent["sent"]


async def test_only_the_author_edits_the_text_but_anyone_the_tags(api, as_user, flowdock):
    flow, other = flowdock.world.flows[0], flowdock.world.users[1]
    flow.members[other.id] = True
    sent = await send(api, "hello", tags=["one", "two"])
    address = f"{MESSAGES}/{sent['id']}"
    stranger = as_user(other)
    assert (await stranger("PUT", address, json={"content": "mine"}))[0] == 403
    assert (await stranger("PUT", address, json={"tags": ["#Two", "@all"]}))[0] == 200
    assert (await api.get(address))["tags"] == ["two", ":user:everyone"]
    assert (await api.get(address))["edited"] is None


async def test_the_same_tags_again_are_no_change_of_tags(api, flowdock):
    sent = await send(api, "hello", tags=["one", "@all"])
    head = flowdock.world.log.published
    again = {"tags": "#ONE,:user:everyone"}
    assert (await api("PUT", f"{MESSAGES}/{sent['id']}", data=again))[0] == 200
    assert flowdock.world.log.published == head
    assert (await api.get(f"{MESSAGES}/{sent['id']}"))["tags"] == ["one", ":user:everyone"]


async def test_deleting_chat_empties_it(api):
    sent = await send(api, "hello")
    status, _, body = await api("DELETE", f"{MESSAGES}/{sent['id']}")
    assert (status, body) == (200, {})
    shown = await api.get(f"{MESSAGES}/{sent['id']}")
    assert shown["content"] == ""
    assert shown["edited"] is not None
    assert ids(await api.get(MESSAGES, limit=1)) == [sent["id"]]


async def test_deleting_a_file_removes_it(api):
    content = {"data": b64encode(b"x").decode(), "content_type": "text/plain", "file_name": "x"}
    sent = await send(api, content, event="file")
    status, headers, body = await api("DELETE", f"{MESSAGES}/{sent['id']}")
    assert (status, body) == (204, None)
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert (await api("GET", f"{MESSAGES}/{sent['id']}"))[0] == 404
    assert sent["id"] not in ids(await api.get(MESSAGES))


async def test_deleting_an_inbox_item_removes_it_and_anything_else_is_refused(api, flowdock):
    flow, other = flowdock.world.flows[0], flowdock.world.users[1]
    mail = flowdock.world.post(flow, None, {"subject": "x"}, event="mail", app="influx")
    foreign = flowdock.world.post(flow, other, "not yours")
    status = flowdock.world.post(flow, flowdock.me, "busy", event="status")
    assert (await api("DELETE", f"{MESSAGES}/{mail.id}"))[0] == 204
    assert (await api("DELETE", f"{MESSAGES}/{foreign.id}"))[0] == 403
    assert (await api("DELETE", f"{MESSAGES}/{status.id}"))[0] == 403
    assert (await api("DELETE", f"{MESSAGES}/999999"))[0] == 404


async def test_a_file_uploaded_in_json_is_downloaded_byte_for_byte(api, flowdock):
    data = bytes(range(256))
    content = {
        "data": b64encode(data).decode(),
        "content_type": "image/png",
        "file_name": "näkymä 1.png",
    }
    sent = await send(api, content, event="file")
    assert (sent["event"], sent["tags"], sent["attachments"]) == (
        "file",
        [":file"],
        [sent["content"]],
    )
    assert sent["content"]["file_size"] == 256
    path = sent["content"]["path"]
    redirected = await api.session.get(flowdock.api_url + path, allow_redirects=False)
    assert redirected.status == 302
    async with api.session.get(flowdock.api_url + path) as response:
        assert await response.read() == data
        assert response.content_type == "image/png"


@pytest.mark.parametrize(
    ("name", "kept"),
    [("notes.txt", "notes.txt"), ("../a/notes.txt", "notes.txt"), ("50% ä\u3000?#.txt", None),
     ("...", None)],
)  # fmt: skip
async def test_a_file_is_found_under_any_name(api, name, kept):
    kind = "text/plain; charset=utf-8"
    content = {"data": "AAEC", "file_name": name, "content_type": kind}
    sent = (await send(api, content, event="file"))["content"]
    assert sent["file_name"] == (kept or name)
    async with api.session.get(api.base + quote(sent["path"])) as response:
        assert response.headers["Content-Type"] == kind
        assert await response.read() == b"\0\1\2"


@pytest.mark.parametrize(
    "wrong",
    [{"file_name": ".."}, {"file_name": "a/"}, {"file_name": "\ud800"}, {"file_name": "a\r\nb"},
     {"content_type": "a/b\r\nX-More: yes"}, {"content_type": "ü/ü"}, {"content_type": "text"}],
)  # fmt: skip
async def test_a_file_that_could_not_be_sent_again_is_refused(api, wrong):
    content = {"data": "AAEC", "file_name": "x"} | wrong
    status, _, body = await api("POST", MESSAGES, json={"event": "file", "content": content})
    assert (status, body["errors"]) == (400, {"content": ["is invalid"]})


async def test_a_file_is_uploaded_as_a_multipart_form(api, flowdock):
    form = aiohttp.FormData()
    form.add_field("event", "file")
    form.add_field("content", b"\x00\r\n\xff", filename="x.bin", content_type="application/x")
    status, _, sent = await api("POST", MESSAGES, data=form)
    assert (status, sent["content"]["file_name"]) == (201, "x.bin")
    async with api.session.get(flowdock.api_url + sent["content"]["path"]) as response:
        assert await response.read() == b"\x00\r\n\xff"


async def test_a_file_is_for_those_who_may_see_it(api, flowdock):
    world = flowdock.world
    talk = world.directory.conversation(world.users[1], world.users[2])
    secret = world.upload(talk, world.users[1], file_name="x", content_type="text/plain", data=b"x")
    status, _, _ = await api("GET", secret.content["path"])
    assert status == 404
    async with (
        aiohttp.ClientSession() as nobody,
        nobody.get(flowdock.api_url + secret.content["path"]) as response,
    ):
        assert response.status == 401


async def test_a_comment_carries_its_parent_in_a_tag(api):
    parent = await send(api, "hello")
    status, _, body = await api(
        "POST", f"{MESSAGES}/{parent['id']}/comments", json={"event": "comment", "content": "hi #x"}
    )
    assert status == 201
    assert body["content"] == {"title": "hello", "text": "hi #x"}
    assert body["tags"] == [f"influx:{parent['id']}", "x"]
    assert body["thread_id"] == parent["thread_id"]


@pytest.mark.parametrize(
    ("event", "content", "more", "title"),
    [
        ("mail", {"subject": "Lunch?", "content": "<p>Who?</p>"}, {}, "Lunch?"),
        ("vcs", {"event": "push", "ref": "refs/heads/main"}, {}, "refs/heads/main"),
        ("file", {"file_name": "a.png", "path": "/files/8/0/a.png"}, {}, "a.png"),
        ("activity", None, {"title": "Closed pull request"}, "Closed pull request"),
        ("action", {"type": "join", "description": None}, {}, ""),
    ],
)
async def test_a_comment_tells_the_title_of_the_item_that_it_is_on(
    api, flowdock, event, content, more, title
):
    flow = flowdock.world.flows[0]
    item = flowdock.world.post(flow, None, content, event=event, app="influx", extra=more)
    sent = await send(api, "indeed", f"{MESSAGES}/{item.id}/comments", event="comment")
    assert sent["content"] == {"title": title, "text": "indeed"}


async def test_a_comment_may_name_its_parent_in_the_body_but_not_another_comment(api):
    parent = await send(api, "hello")
    given = {"flow": "acme/main", "event": "comment", "content": "hi"}
    status, _, comment = await api("POST", "/comments", json=given | {"message": parent["id"]})
    assert status == 201
    file = {"event": "file", "content": {"data": "AAAA", "file_name": "x"}}
    of_a_comment = {"message": comment["id"]}
    for wrong in (of_a_comment, of_a_comment | file, {"message": "x"}, {}):
        status, _, body = await api("POST", "/comments", json=given | wrong)
        assert (status, list(body["errors"])) == (400, ["message"])


@pytest.mark.parametrize("event", ["message", "status", "line", None])
async def test_nothing_but_comments_and_files_is_posted_where_comments_are(api, event):
    parent = await send(api, "hello")
    given = {"event": event, "content": "hi", "flow": "acme/main", "message": parent["id"]}
    for path in (f"{MESSAGES}/{parent['id']}/comments", "/comments"):
        status, _, body = await api("POST", path, json=given)
        assert (status, list(body["errors"])) == (400, ["event"])
    assert ids(await api.get(MESSAGES, limit=1)) == [parent["id"]]


async def test_a_file_posted_where_comments_are_joins_the_thread(api):
    parent = await send(api, "hello")
    content = {"data": "AAAA", "file_name": "x"}
    given = {"event": "file", "content": content, "flow": "acme/main", "message": parent["id"]}
    for path in (f"{MESSAGES}/{parent['id']}/comments", "/comments"):
        status, _, body = await api("POST", path, json=given)
        assert (status, body["event"], body["thread_id"]) == (201, "file", parent["thread_id"])


async def test_an_edited_comment_keeps_its_title(api):
    parent = await send(api, "hello")
    address = f"{MESSAGES}/{parent['id']}/comments"
    _, _, comment = await api("POST", address, json={"event": "comment", "content": "hi"})
    await api("PUT", f"{MESSAGES}/{comment['id']}", json={"content": "changed"})
    shown = await api.get(f"{MESSAGES}/{comment['id']}")
    assert shown["content"] == {"title": "hello", "text": "changed"}


async def test_replies_share_a_thread_that_lists_them(api):
    first = await send(api, "question")
    reply = await send(api, "answer", thread_id=first["thread_id"])
    inside = await send(api, "more", path=f"{MAIN}/threads/{first['thread_id']}/messages")
    page = await api.get(f"{MAIN}/threads/{first['thread_id']}/messages")
    assert ids(page) == ids([first, reply, inside])
    thread = await api.get(f"{MAIN}/threads/{first['thread_id']}")
    assert (thread["title"], thread["internal_comments"]) == ("question", 2)
    assert thread["initial_message"] == first["id"]
    assert page[0]["thread"] == thread
    assert len(thread["id"]) == 27


async def test_reacting_and_rethreading_show_in_the_message(api):
    one, two = await send(api, "one"), await send(api, "two")
    address = f"{MESSAGES}/{one['id']}"
    assert "emojiReactions" not in one
    await api("POST", f"{address}/emoji_reaction", json={"type": "add", "emoji": "👍"})
    await api("POST", f"{address}/rethread", json={"thread_id": two["thread_id"]})
    shown = await api.get(address)
    assert (shown["emojiReactions"], shown["thread_id"]) == ({"👍": ["1"]}, two["thread_id"])
    await api("POST", f"{address}/emoji_reaction", json={"type": "remove", "emoji": "👍"})
    assert "emojiReactions" not in await api.get(address)


async def test_a_message_is_listed_only_after_the_delay_but_shown_at_once(as_user):
    now = 1_700_000_000_000
    async with Simulator.start(listing_delay_seconds=1.0, clock=lambda: now) as flowdock:
        post = flowdock.world.post(flowdock.world.flows[0], flowdock.me, "hello")
        api = as_user(flowdock.me)
        api.base = flowdock.api_url
        assert await api.get(MESSAGES) == []
        assert (await api.get(f"{MESSAGES}/{post.id}"))["content"] == "hello"
        now += 999
        assert await api.get(MESSAGES) == []
        now += 1
        assert ids(await api.get(MESSAGES)) == [post.id]
        flowdock.world.edit(flowdock.world.flows[0], post.id, "changed")
        assert (await api.get(MESSAGES))[0]["content"] == "changed"


async def test_private_messages_are_sent_listed_edited_and_deleted(api, as_user, flowdock):
    other = as_user(flowdock.world.users[1])
    sent = await send(api, "psst", path="/private/2/messages")
    assert (sent["to"], sent["user"], sent["tags"]) == ("2", "1", [":unread:2"])
    assert "flow" not in sent
    assert sent["id"] > 9_000_000_000
    assert ids(await other.get("/private/1/messages", limit=1)) == [sent["id"]]
    address = f"/private/2/messages/{sent['id']}"
    assert (await other("DELETE", f"/private/1/messages/{sent['id']}"))[0] == 403
    assert (await api("PUT", address, json={"content": "changed"}))[0] == 200
    assert (await api.get(address))["content"] == "changed"
    assert (await api("DELETE", address))[0] == 200
    assert (await api.get(address))["content"] == ""


async def test_private_ids_come_from_one_sequence(flowdock):
    world = flowdock.world
    one, two, three = world.users[:3]
    first = world.post(world.directory.conversation(one, two), one, "a")
    second = world.post(world.directory.conversation(one, three), three, "b")
    assert 9_000_000_000 < first.id < second.id


@pytest.mark.parametrize(
    "path", ["/private/1/messages", "/private/99/messages", "/private/x/messages"]
)
async def test_there_is_no_conversation_with_nobody_or_oneself(api, path):
    assert (await api("GET", path))[0] == 404


async def test_an_integration_posts_with_the_token_of_its_flow(api, flowdock):
    flow = flowdock.world.flows[0]
    given = {
        "flow_token": flow.api_token,
        "event": "activity",
        "external_thread_id": "x-1",
        "author": {"name": "Robot"},
        "title": "opened",
        "thread": {"title": "Ticket 1", "status": {"color": "green", "value": "open"}},
    }
    async with aiohttp.ClientSession() as nobody:
        async with nobody.post(flowdock.api_url + "/messages", json=given) as response:
            assert (response.status, await response.json()) == (202, {})
        given |= {"event": "discussion", "body": "hm", "thread": {"title": "Ticket one"}}
        headers = {"X-flowdock-wait-for-message": "true"}
        async with nobody.post(
            flowdock.api_url + "/messages", json=given, headers=headers
        ) as response:
            assert response.status == 201
        async with nobody.post(
            flowdock.api_url + "/messages", json=given | {"flow_token": "wrong"}
        ) as response:
            assert response.status == 401
    activity, discussion = await api.get(MESSAGES, limit=2)
    assert (activity["event"], activity["title"], activity["content"]) == (
        "activity",
        "opened",
        None,
    )
    assert (activity["user"], activity["app"]) == ("0", "influx")
    assert discussion["thread"]["title"] == activity["thread"]["title"] == "Ticket one"
    assert (discussion["thread"]["activities"], discussion["thread"]["external_comments"]) == (1, 1)


async def test_an_integration_chats_with_tags_under_a_name_of_its_own(api, flowdock):
    path = f"/messages/{flowdock.world.flows[0].api_token}"
    given = {"event": "message", "content": "built #green", "external_user_name": "Robot"}
    assert (await api("POST", path, json=given | {"tags": "ci,#red", "uuid": "mine"}))[0] == 202
    (told,) = await api.get(MESSAGES, limit=1)
    assert (told["user"], told["external_user_name"], told["uuid"]) == ("0", "Robot", "mine")
    assert told["tags"] == ["ci", "red", "green"]


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"event": "activity", "author": {"name": "Robot"}}, {"title"}),
        ({"event": "activity", "title": "built", "author": "Robot"}, {"author"}),
        ({"event": "discussion"}, {"title", "author"}),
        ({"event": "activity", "title": "x", "author": {"name": "Robot"}, "tags": 7}, {"tags"}),
        ({"event": "message", "content": "hello"}, {"external_user_name"}),
        ({"event": "message", "content": "x" * 8097, "external_user_name": "R"}, {"content"}),
        ({"event": "mail"}, {"event"}),
    ],
)
async def test_what_is_wrong_with_a_message_of_an_integration_is_said(api, flowdock, given, wrong):
    before = json.dumps(flowdock.world.truth())
    path = f"/messages/{flowdock.world.flows[0].api_token}"
    status, _, told = await api("POST", path, json=given)
    assert (status, told["errors"].keys()) == (400, wrong)
    assert json.dumps(flowdock.world.truth()) == before
