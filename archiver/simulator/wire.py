"""How things look on the wire: JSON bytes, times, and the objects of the documentation."""

import json
from datetime import UTC, datetime
from typing import Any

from archiver.simulator.entities import (
    Conversation,
    Flow,
    Json,
    Message,
    Organization,
    Thread,
    User,
)

API = "https://api.flowdock.com"
WEB = "https://www.flowdock.com"


def encode(value: Any) -> bytes:
    """Return *value* as JSON in UTF-8; if that is impossible (lone surrogates), in ASCII."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def iso(milliseconds: int) -> str:
    """Return a time as ``created_at`` shows it: ``2011-10-04T08:02:20.213Z``."""
    at = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"


def stream_message(message: Message) -> bytes:
    """Return a new message as the stream sends it: with its thread, without ``edited``."""
    return _with_thread(encode(_fields(message)), message.thread)


def listed_message(message: Message) -> bytes:
    """Return a message as List and Show Messages give it (docs/messages)."""
    if message.encoded is None:
        message.encoded = encode(_fields(message) | {"edited": message.edited})
    return _with_thread(message.encoded, message.thread)


def _with_thread(body: bytes, thread: Thread | None) -> bytes:
    # The page "Message types" promises the newest state of the thread in each message.
    return body if thread is None else body[:-1] + b',"thread":' + thread_bytes(thread) + b"}"


def _fields(message: Message) -> Json:
    place = {"flow": message.flow} if message.flow is not None else {"to": message.to}
    body: Json = {
        "app": message.app,
        "event": message.event,
        "tags": message.tags,
        "uuid": message.uuid,
        "id": message.id,
        **place,
        "content": message.content,
        "sent": message.sent,
        "attachments": message.attachments,
        "user": message.user,
        "created_at": iso(message.sent),
        **message.extra,
    }
    if message.reactions:
        body["emojiReactions"] = message.reactions
    if message.external_user_name is not None:
        body["external_user_name"] = message.external_user_name
    if message.thread is not None:
        body["thread_id"] = message.thread.id
    return body


def thread_bytes(thread: Thread) -> bytes:
    """Return a thread as messages and the threads resource show it."""
    if thread.encoded is None:
        thread.encoded = encode(thread_object(thread))
    return thread.encoded


def thread_object(thread: Thread) -> Json:
    """Return the JSON object of a thread."""
    return {
        "id": thread.id,
        "flow": thread.flow,
        "title": thread.title,
        "body": thread.body,
        "external_url": thread.external_url,
        "status": thread.status,
        "actions": thread.actions,
        "fields": thread.fields,
        "source": thread.source,
        "activities": thread.activities,
        "internal_comments": thread.internal_comments,
        "external_comments": thread.external_comments,
        "initial_message": thread.initial_message,
        "created_at": iso(thread.created_at),
        "updated_at": iso(thread.updated_at),
    }


def user_object(user: User) -> Json:
    """Return a user as ``GET /users/:id`` shows one."""
    return {
        "id": user.id,
        "nick": user.nick,
        "email": user.email,
        "avatar": f"{API}/avatars/{user.id:032x}/",
        "name": user.name,
        "website": user.website,
    }


def member_object(user: User, flow: Flow) -> Json:
    """Return a user as the ``users`` of a flow show one; its times are milliseconds."""
    return user_object(user) | {
        "status": user.status,
        "disabled": user.disabled,
        "in_flow": user.id in flow.members,
        "last_activity": user.last_activity or None,
        "last_ping": user.last_activity or None,
    }


def organization_object(organization: Organization) -> Json:
    """Return an organization as flows carry it."""
    return {
        "id": organization.id,
        "name": organization.name,
        "parameterized_name": organization.slug,
        "user_limit": 0,
        "user_count": sum(not user.disabled for user in organization.users.values()),
        "active": True,
        "url": f"{API}/organizations/{organization.slug}",
    }


def organization_in_full(organization: Organization) -> Json:
    """Return an organization as its own resource shows it, users and subscription included."""
    users = [user_object(user) | {"admin": user.admin} for user in organization.users.values()]
    return organization_object(organization) | {"subscription": {"trial": False}, "users": users}


def flow_object(flow: Flow, me: User, *, users: bool) -> Json:
    """Return a flow as *me* sees it, its secrets (``api_token``, ``join_url``) included."""
    newest = flow.timeline.nth_newest(0)
    body: Json = {
        "id": flow.id,
        "name": flow.name,
        "parameterized_name": flow.slug,
        "email": f"{flow.slug}@{flow.organization.slug}.flowdock.com",
        "description": flow.description,
        "organization": organization_object(flow.organization),
        "unread_mentions": 0,
        "open": flow.members.get(me.id, False),
        "joined": me.id in flow.members,
        "url": f"{API}/flows/{flow.path}",
        "web_url": f"{WEB}/app/{flow.path}",
        "access_mode": flow.access_mode,
        "flow_admin": me.admin,
        "team_notifications": True,
        "api_token": flow.api_token,
        "last_message_id": newest.id if newest else None,
        "last_message_at": iso(newest.sent) if newest else None,
    }
    # The page "Flows": present for these two access modes alone.
    if flow.access_mode in {"organization", "link"}:
        body["join_url"] = f"{WEB}/invitations/{flow.invitation}-{flow.slug}"
    if users:
        people = (flow.organization.users[id_] for id_ in flow.members)
        body["users"] = [member_object(user, flow) for user in people]
    return body


def conversation_object(conversation: Conversation, me: User) -> Json:
    """Return a private conversation as *me* sees it: its id is that of the other user."""
    other = conversation.other(me)
    return {
        "id": other.id,
        "url": f"{API}/private/{other.id}",
        "name": f"@{other.nick}",
        "open": me.id not in conversation.closed_by,
        "activity": {"inbox": False, "mentions": 0, "chat": False},
        "users": [user_object(user) for user in conversation.users],
    }
