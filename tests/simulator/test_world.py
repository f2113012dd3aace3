import json
from typing import Any

import pytest

from archiver.simulator.directory import NoSuchThing
from archiver.simulator.seeding import settle
from archiver.simulator.world import World


@pytest.fixture
def heard() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def world(heard) -> World:
    ticking = iter(range(1_700_000_000_000, 1_800_000_000_000, 1000))
    world = World(seed=1, clock=lambda: next(ticking))
    settle(world, flows=2, users=3, token="secret")
    world.log.listeners.append(lambda event: heard.append(json.loads(event.json_frame)))
    return world


def test_each_flow_counts_its_ids_for_itself_and_signals_take_ids_too(world):
    main, other = world.flows
    me = world.users[0]
    first = world.post(main, me, "one")
    world.signal(main, me, "activity.user", {}, persist=False)
    world.change_tags(main, first.id, add=["x"])
    assert world.post(main, me, "two").id == first.id + 3
    assert world.post(other, me, "three").id == first.id


def test_an_edit_is_told_with_its_tags_when_they_changed(world, heard):
    flow, me = world.flows[0], world.users[0]
    message = world.post(flow, me, "hello #one", tags=["kept"])
    world.edit(flow, message.id, "hello #two")
    world.edit(flow, message.id, "bye #two")
    _, first, second = heard
    assert first["content"] == {
        "message": message.id,
        "updated_content": "hello #two",
        "updated_tags": ["kept", "two"],
    }
    assert first["persist"] is False
    assert second["content"] == {"message": message.id, "updated_content": "bye #two"}
    assert message.edited == second["sent"] - 1000 or message.edited <= second["sent"]


def test_an_edit_may_change_the_kind_of_a_message(world, heard):
    flow = world.flows[0]
    message = world.post(flow, world.users[0], "hello")
    world.edit(flow, message.id, "waves", event="line")
    assert heard[-1]["content"]["updated_event"] == message.event == "line"


def test_deleting_chat_is_an_edit_to_nothing(world, heard):
    flow = world.flows[0]
    message = world.post(flow, world.users[0], "hello #x")
    world.delete(flow, message.id)
    assert heard[-1]["event"] == "message-edit"
    assert heard[-1]["content"] == {"message": message.id, "updated_content": ""}
    assert message.is_deleted()


def test_deleting_a_file_is_told_and_the_file_is_gone(world, heard):
    flow = world.flows[0]
    file = world.upload(flow, world.users[0], file_name="x", content_type="image/png", data=b"x")
    world.delete(flow, file.id)
    assert heard[-1]["event"] == "message-delete"
    assert heard[-1]["content"] == {"message": file.id}
    with pytest.raises(NoSuchThing):
        world.find(flow, file.id)
    assert world.truth()["flows"][flow.path]["gone"][0]["id"] == file.id


def test_a_tag_change_tells_what_was_asked_whether_or_not_it_mattered(world, heard):
    flow = world.flows[0]
    message = world.post(flow, world.users[0], "hello", tags=["One"])
    world.change_tags(flow, message.id, add=["#ONE", "two"], remove=["absent"])
    assert heard[-1]["content"] == {
        "message": message.id,
        "add": ["ONE", "two"],
        "remove": ["absent"],
    }
    assert message.tags == ["One", "two"]


def test_a_receipt_takes_off_the_mark_of_the_unread(world, heard):
    talk = world.directory.conversation(*world.users[:2])
    message = world.post(talk, world.users[0], "psst")
    assert message.tags == [":unread:2"]
    world.change_tags(talk, message.id, remove=[":unread:2"], user=world.users[1])
    assert message.tags == []
    assert (heard[-1]["user"], heard[-1]["to"]) == ("2", "1")


def test_a_reaction_goes_when_its_last_user_takes_it_back(world, heard):
    flow, (one, two, _) = world.flows[0], world.users
    message = world.post(flow, one, "hello")
    world.react(flow, message.id, one, "👍")
    world.react(flow, message.id, two, "👍")
    assert message.reactions == {"👍": ["1", "2"]}
    world.react(flow, message.id, one, "👍", present=False)
    world.react(flow, message.id, two, "👍", present=False)
    assert message.reactions == {}
    told = {"message": message.id, "emoji": "👍", "type": "remove"}
    assert heard[-1]["content"] == told


def test_rethreading_tells_the_new_thread(world, heard):
    flow = world.flows[0]
    one, two = world.post(flow, world.users[0], "one"), world.post(flow, world.users[0], "two")
    assert two.thread is not None
    world.rethread(flow, one.id, two.thread)
    assert (heard[-1]["event"], heard[-1]["message_id"]) == ("message-change", one.id)
    assert heard[-1]["patch"] == ["thread_id"]
    assert heard[-1]["content"] == {"thread_id": two.thread.id}


def test_a_changed_thread_is_told_and_its_messages_carry_it(world, heard):
    flow = world.flows[0]
    message = world.post(flow, world.users[0], "one")
    assert message.thread is not None
    world.change_thread(flow, message.thread, title="renamed")
    assert heard[-1]["event"] == "thread-change"
    assert heard[-1]["content"]["title"] == "renamed"
    assert heard[-1]["thread_id"] == message.thread.id


def test_what_utf_8_cannot_say_is_escaped(world):
    frames = []
    world.log.listeners.append(lambda event: frames.append(event.json_frame))
    world.post(world.flows[0], world.users[0], "lone \ud800 and ä \u0000")
    assert b"\\ud800" in frames[0]
    assert json.loads(frames[0])["content"] == "lone \ud800 and ä \u0000"


def test_disabled_users_are_not_mentioned(world):
    mike = world.users[1]
    assert world.normalized(["@mike"]) == [":user:2"]
    mike.disabled = True
    world.directory.forget_nicks()
    assert world.normalized(["@mike"]) == []
