"""What other services send: activities and discussions, each in a thread of its own subject."""

from collections.abc import Mapping
from typing import Any

from archiver.simulator.access import invalid, text_of
from archiver.simulator.entities import Flow, Json, Message, Thread
from archiver.simulator.sending import checked_tags, checked_text
from archiver.simulator.world import World

EVENTS = frozenset({"activity", "discussion"})


def integrate(world: World, flow: Flow, given: Mapping[str, Any]) -> Message:
    """Post what an integration sends with the flow's token; raise `Refused` when it is incomplete.

    ``external_thread_id`` names the thread, created if need be; ``thread`` sets its fields.
    """
    event = str(given.get("event") or "")
    if event == "message":
        return _push_chat(world, flow, given)
    if event not in EVENTS:
        raise invalid(event="is not included in the list")
    title, author, uuid = text_of(given, "title"), given.get("author"), text_of(given, "uuid")
    named = isinstance(author, dict) and bool(author.get("name"))
    if missing := [name for name, has in (("title", title), ("author", named)) if not has]:
        raise invalid(**dict.fromkeys(missing, "can't be blank"))
    tags = checked_tags(given.get("tags"))
    thread = _thread(world, flow, given)
    extra: Json = {
        "title": title,
        "body": given.get("body"),
        "author": author,
        "_application": 104,
        "_project": 220,
    }
    return world.post(
        flow,
        None,
        None,
        event=event,
        thread=thread,
        app="influx",
        uuid=uuid or None,
        tags=tags,
        extra=extra,
    )


def _push_chat(world: World, flow: Flow, given: Mapping[str, Any]) -> Message:
    content, name = checked_text(given.get("content")), text_of(given, "external_user_name")
    if not name:
        raise invalid(external_user_name="can't be blank")
    tags = checked_tags(given.get("tags"))
    uuid = text_of(given, "uuid") or None
    return world.post(flow, None, content, tags=tags, uuid=uuid, external_user_name=name)


def _thread(world: World, flow: Flow, given: Mapping[str, Any]) -> Thread:
    external = text_of(given, "external_thread_id")
    fields = given.get("thread")
    fields = fields if isinstance(fields, dict) else {}
    thread = flow.by_external_id.get(external)
    if thread is None:
        title = str(fields.get("title") or given["title"])
        initial = flow.timeline.head + 1
        thread = world.begin_thread(flow, title, sent=world.clock(), initial=initial)
        thread.source = _source(flow)
        if external:
            flow.by_external_id[external] = thread
    thread.title = str(fields.get("title") or thread.title)
    thread.body = fields.get("body", thread.body)
    thread.external_url = fields.get("external_url", thread.external_url)
    thread.status = fields.get("status", thread.status)
    thread.fields = fields.get("fields", thread.fields)
    thread.actions = fields.get("actions", thread.actions)
    thread.encoded = None
    return thread


def _source(flow: Flow) -> Json:
    return {
        "id": 104,
        "name": "Builds",
        "url": f"https://api.flowdock.com/flows/{flow.path}/sources/104",
        "application": {
            "id": 104,
            "name": "GitHub",
            "url": "https://github.com",
            "icon_url": "https://api.flowdock.com/icons/104.png",
        },
    }
