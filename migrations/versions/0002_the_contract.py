"""Complete the contract of ``archive``: the state at each revision, the past, and better comments.

Safe while the daemon runs, at any size: columns are added without a default, which rewrites no row,
and views and comments change only the catalogue. ``ALTER TABLE`` waits for whoever is reading
``revisions`` at that moment; a daemon that waits behind it buffers and goes on. Revisions that were
stored before have null in the new columns until ``archiver rebuild`` computes them again; until
then, ``messages_as_of`` uses the present state of the message.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATE: Mapping[str, TypeEngine[Any]] = {
    "event": sa.Text(),
    "thread_id": sa.Text(),
    "edited_at": sa.DateTime(timezone=True),
    "edits": sa.Integer(),
    "deleted_at": sa.DateTime(timezone=True),
    "seen_at": sa.DateTime(timezone=True),
}
UNREBUILT = "null: not rebuilt since it was first kept here"


def upgrade() -> None:
    # A query locks a view before its tables. In the opposite order, this migration and a query
    # could deadlock, so it locks the views first, by a change without effect.
    for view in ("messages", "revisions", "attachments"):
        op.execute(f"ALTER VIEW archive.{view} RESET (security_barrier)")
    for name, type_ in STATE.items():
        comment = UNREBUILT if name == "event" else None
        op.add_column("revisions", sa.Column(name, type_, comment=comment), schema="store")
    op.execute(MESSAGES.replace("--more", ", m.revisions AS revisions"))
    op.execute(REVISIONS)
    op.execute(ATTACHMENTS.replace("--more", "WHERE m.attachments IS NOT NULL"))
    op.execute(SCHEMA_VERSION)
    op.execute(AS_OF)
    for view, (meaning, columns) in COMMENTS.items():
        _comment(f"VIEW archive.{view}", meaning)
        for column, text in columns.items():
            _comment(f"COLUMN archive.{view}.{column}", text)
    _comment("FUNCTION archive.messages_as_of", AS_OF_COMMENT)


def downgrade() -> None:
    op.execute("DROP FUNCTION archive.messages_as_of")
    for view in ("schema_version", "attachments", "revisions", "messages"):
        op.execute(f"DROP VIEW archive.{view}")
    op.execute(MESSAGES)
    op.execute(REVISIONS_BEFORE)
    op.execute(ATTACHMENTS)
    for name in STATE:
        op.drop_column("revisions", name, schema="store")


def _comment(subject: str, text: str) -> None:
    op.execute(sa.text(f"COMMENT ON {subject} IS {_quoted(text)}"))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''").replace(":", "\\:") + "'"


MESSAGES = """
    CREATE OR REPLACE VIEW archive.messages AS
    SELECT f.path AS flow, m.id, m.event, m.user_id, u.nick, m.sent_at AS sent, m.content, m.tags,
           m.thread_id, m.parent_id, m.edited_at, m.edits, m.deleted_at,
           coalesce(m.attachments, '[]') AS attachments, coalesce(m.reactions, '{}') AS reactions,
           m.app, m.uuid, m.external_user_name, m.detail --more
    FROM store.messages m JOIN store.flows f USING (flow_key)
    LEFT JOIN store.users u USING (user_id)
"""

_VISIBLE = """
    array(SELECT tag FROM unnest(m.tags) WITH ORDINALITY AS t(tag, n)
          WHERE NOT starts_with(tag, '\\:unread\\:') ORDER BY n)
"""

REVISIONS = f"""
    CREATE OR REPLACE VIEW archive.revisions AS
    SELECT f.path AS flow, r.message_id, r.revision, r.at, r.user_id, r.kind, r.content, r.tags,
           r.ordinal, u.nick, r.event, r.thread_id, r.edited_at, r.edits, r.deleted_at, r.seen_at
    FROM store.revisions r JOIN store.flows f USING (flow_key)
    LEFT JOIN store.users u USING (user_id)
    UNION ALL
    SELECT f.path, m.id, m.id, m.sent_at, m.user_id, 'created', m.content, {_VISIBLE},
           0, u.nick, m.event, m.thread_id, NULL, 0, NULL, NULL
    FROM store.messages m JOIN store.flows f USING (flow_key)
    LEFT JOIN store.users u USING (user_id) WHERE m.revisions = 0
"""  # noqa: S608

REVISIONS_BEFORE = f"""
    CREATE VIEW archive.revisions AS
    SELECT f.path AS flow, r.message_id, r.revision, r.at, r.user_id, r.kind, r.content, r.tags
    FROM store.revisions r JOIN store.flows f USING (flow_key)
    UNION ALL
    SELECT f.path, m.id, m.id, m.sent_at, m.user_id, 'created', m.content, {_VISIBLE}
    FROM store.messages m JOIN store.flows f USING (flow_key) WHERE m.revisions = 0
"""  # noqa: S608

# The condition lets Postgres use the index of the messages with files.
ATTACHMENTS = """
    CREATE OR REPLACE VIEW archive.attachments AS
    SELECT f.path AS flow, m.id AS message_id, a.n\\:\\:int AS position,
           a.file ->> 'file_name' AS file_name, a.file ->> 'content_type' AS content_type,
           (a.file ->> 'size_bytes')\\:\\:bigint AS file_size, a.file ->> 'path' AS path,
           NULL\\:\\:text AS sha256
    FROM store.messages m JOIN store.flows f USING (flow_key)
    CROSS JOIN jsonb_array_elements(m.attachments) WITH ORDINALITY AS a(file, n) --more
"""

# For users who have no access to the schema ``store``.
SCHEMA_VERSION = """
    CREATE VIEW archive.schema_version AS SELECT version_num AS version FROM store.schema_version
"""

# It uses only views, so that a reader may call it. It is one statement without SET, STRICT or
# SECURITY DEFINER, so that Postgres inlines it and pushes conditions down into it. The history of a
# message that never changed is not read, since it was always as it is now.
_STEP = """
    SELECT * FROM archive.revisions r
    WHERE m.revisions > 0 AND r.flow = m.flow AND r.message_id = m.id
      AND coalesce({date}, (SELECT max(e.at) FROM archive.revisions e
                            WHERE e.flow = r.flow AND e.message_id = r.message_id
                              AND e.ordinal < r.ordinal), '-infinity') <= moment
    ORDER BY r.ordinal DESC LIMIT 1
"""
_THEN = "CASE WHEN m.revisions = 0 THEN {now} ELSE {then} END"
_AS_NOW = (
    "CASE WHEN m.revisions = 0 OR wrote.edited_at IS NOT DISTINCT FROM m.edited_at THEN {} END"
)
AS_OF = f"""
    CREATE FUNCTION archive.messages_as_of(moment timestamptz)
    RETURNS TABLE (
        flow text, id bigint, event text, user_id text, nick text, sent timestamptz, content text,
        tags text[], thread_id text, parent_id bigint, edited_at timestamptz, edits integer,
        deleted_at timestamptz, attachments jsonb, reactions jsonb, app text, uuid text,
        external_user_name text, detail jsonb
    ) LANGUAGE sql STABLE AS $$
    SELECT m.flow, m.id,
           coalesce(wrote.event, m.event),
           m.user_id, m.nick, m.sent,
           {_THEN.format(now="m.content", then="wrote.content")},
           {_THEN.format(now=_VISIBLE, then="marked.tags")},
           {
    _THEN.format(
        now="m.thread_id",
        then='''
               CASE WHEN marked.event IS NULL THEN m.thread_id ELSE marked.thread_id END''',
    )
},
           m.parent_id, wrote.edited_at,
           {_THEN.format(now="0", then="wrote.edits")},
           CASE WHEN wrote.deleted_at <= moment THEN wrote.deleted_at END,
           {_AS_NOW.format("m.attachments")},
           CASE WHEN NOT EXISTS (
               SELECT FROM archive.events e WHERE e.flow = m.flow AND e.target_id = m.id
                  AND e.event = 'emoji-reaction' AND e.sent > moment) THEN m.reactions END,
           m.app, m.uuid, m.external_user_name,
           {_AS_NOW.format("m.detail")}
    FROM archive.messages m
    LEFT JOIN LATERAL ({_STEP.format(date="r.at")}) AS wrote ON true
    LEFT JOIN LATERAL ({_STEP.format(date="r.seen_at, r.at")}) AS marked ON true
    WHERE m.sent <= moment AND (m.revisions = 0 OR wrote.ordinal IS NOT NULL)
    $$
"""  # noqa: S608

AS_OF_COMMENT = (
    "The messages as their flow showed them at a moment, in the columns of messages. Content, "
    "kind, edits and deletion are dated by the service. Tags and threads are dated by the event "
    "that changed them; a change of these that only a listing showed is dated by when it was "
    "listed, and may be older. Tags are without read receipts. What a message said before an edit "
    "that nobody heard is null; what it was tagged before the archive first saw it is what it was "
    "tagged then. Attachments and detail are null where the message was edited since; reactions "
    "are null where one came or went since by an event, and as now where only a listing showed it. "
    "Nick, sender and app are those of now. Messages without a time of sending are left out. A "
    "change without a time counts as made together with the one before it."
)

FLOW = "the flow: organization/name, or private/<me>/<other> for a private conversation"
PAYLOAD = "JSON as received, byte for byte"
SENDER = "Flowdock's id of who sent it, as text; 0 or null for integrations and anonymous senders"

COMMENTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "flows": (
        "Every flow and private conversation that the archive ever heard of.",
        {
            "flow": FLOW,
            "flow_id": "the id that Flowdock gives it; the path for a private conversation",
            "organization": "its organization, as URLs name it; null for a private conversation, "
            "and until the service has listed the flow",
            "name": "its name for people; null until the service has listed it",
            "access_mode": "who may join: invitation, link or organization; null for a private "
            "conversation, and until the service has listed it",
            "joined": "whether an account of the archiver can read it now; null until listed",
            "disabled": "whether it was put away at the service; null until listed",
            "first_seen_at": "when the archive first heard of it, by the archiver's clock",
            "last_seen_at": "when the service last listed it; null until it has",
        },
    ),
    "users": (
        "The people and integrations that the service has listed, as it showed them last.",
        {
            "user_id": "Flowdock's id, numeric text; 0 stands for integrations and anonymous "
            "senders and is not listed",
            "nick": "the name in chat, without @; null when the service does not tell",
            "name": "the full name; null when the service does not tell",
            "email": "the e-mail address; null when the service does not tell",
            "disabled": "whether the account is closed; null when the service does not tell",
            "first_seen_at": "when the service first listed them, by the archiver's clock",
            "last_seen_at": "when the service last listed them, by the archiver's clock",
        },
    ),
    "events": (
        (
            "Every event, once, in the form in which it was first received: messages, and what "
            "changes them."
        ),
        {
            "flow": FLOW,
            "id": "grows within the flow, with holes; unique only there",
            "event": "Flowdock's name of its kind: message, message-edit, tag-change, ...",
            "user_id": "Flowdock's id of who did it, as text; 0 or null for integrations",
            "sent": "when it happened, by the service's clock; null when it does not tell",
            "received_at": "when the archive received it, by the archiver's clock",
            "witness": "how it came: stream (live), list (a page), show or import",
            "target_id": "the message that it changes; null for what changes none",
            "payload": PAYLOAD,
        },
    ),
    "forms": (
        "Every form in which events were received: the stream's, and what listings showed later.",
        {
            "flow": FLOW,
            "id": "the event",
            "form": "0 for the first, then counted up",
            "witness": "how it came: stream, list, show (404: the message is gone) or import",
            "received_at": "when it was first received so, by the archiver's clock",
            "as_of": "the id up to which it tells the state of the message: the event's own, or "
            "for a listing the newest that the flow was known to have",
            "payload": PAYLOAD,
        },
    ),
    "signals": (
        (
            "What the service sends and never stores: presence, typing, receipts. Kept for a while "
            "only (signals.retention_days)."
        ),
        {
            "flow": FLOW + "; null when it is about none",
            "event": "Flowdock's name of its kind: activity.user, message-receive, ...",
            "user_id": "Flowdock's id of whom it is about, as text; null when it does not tell",
            "at": "when it happened by the service's clock, or was received if it does not tell",
            "payload": PAYLOAD,
        },
    ),
    "rejects": (
        "Input that could not be placed: not JSON, no id, refused by Postgres.",
        {
            "id": "a number of the archive's own",
            "received_at": "when it was first received, by the archiver's clock",
            "origin": "the stream, page or file it came by",
            "reason": "why it could not be placed, in the archiver's words",
            "raw": "its bytes, all of them",
        },
    ),
    "messages": (
        "Every message as the flow would show it now; a deleted one stays, with deleted_at.",
        {
            "flow": FLOW,
            "id": "grows within the flow; comments, files and items count too; unique only there",
            "event": "its kind: message, comment, status, line, file, activity, ...",
            "user_id": SENDER,
            "nick": "the sender's nick now; null when the service never listed the sender",
            "sent": "when it was sent, by the service's clock; null when it does not tell",
            "content": "the text; of a file its name, of other items what is readable of them; "
            "empty once a chat message is deleted",
            "tags": "without #, in the service's spelling and order; those that begin with a colon "
            "are its own marks, as :user:2 (mentions user 2), :unread:2, :url, :file",
            "thread_id": "the thread it belongs to; null when it belongs to none",
            "parent_id": "the message that a comment is about; null for what is no comment",
            "edited_at": "when it was last edited or emptied, by the service's clock; null: never",
            "edits": "how many edits are known; deletions do not count",
            "deleted_at": "when it was deleted, by the service's clock; of a deletion that nobody "
            "heard, when it was found; null while it is there",
            "attachments": "the files on it, a JSON list of objects; the view attachments has each "
            "as a row",
            "reactions": "a JSON object: emoji to a list of user ids",
            "app": "chat or influx (the inbox), as the service says; null when it does not",
            "uuid": "what the sending client called it; not unique; null when it did not",
            "external_user_name": "the name shown for an anonymous sender; null for others",
            "detail": "JSON of what is not plain text: the content of files, activities and items; "
            "null for plain text",
            "revisions": "how many rows of revisions were kept of it; 0 while it is as created",
        },
    ),
    "revisions": (
        (
            "The history of every message: what changed, when, by whom, and what the message then "
            "was. Read receipts and reactions are no revisions: they are in events."
        ),
        {
            "flow": FLOW,
            "message_id": "the message",
            "revision": "the event that made it; of a listing, the newest id known at the time",
            "at": "when, by the service's clock; of a change that only a listing showed and that "
            "is no edit, when it was listed; null when the service does not tell",
            "user_id": "Flowdock's id of who made the change, as text; null when only a listing "
            "showed it, or the service does not tell",
            "kind": "created, edited, tagged, moved (to another thread), deleted, or listed: "
            "a change whose event never came and that a listing showed",
            "content": "the text from then on; null when it was changed before the archive saw it",
            "tags": "the tags from then on, without read receipts",
            "ordinal": "its place in the message's history, from 0",
            "nick": "the nick now of who made the change; null when that is not known",
            "event": "the message's kind from then on; null in what an older release kept, until "
            "archiver rebuild; then the columns below are null as well",
            "thread_id": "the thread from then on; null when it belonged to none",
            "edited_at": "when it had last been edited; null if it had not been",
            "edits": "how many edits were known by then",
            "deleted_at": "when it had been deleted; null while it was there",
            "seen_at": "when a listing was asked for that showed the change, by the archiver's "
            "clock; null when an event told of it",
        },
    ),
    "threads": (
        "Threads, as the newest event that showed them said.",
        {
            "flow": FLOW,
            "thread_id": "the id that messages name; unique within the flow",
            "title": "its title; null when none was told",
            "status": "the state of what it stands for, in the integration's words; null for none",
            "external_url": "where what it stands for lives; null for a chat thread",
            "application": "the integration that made it; null for a chat thread",
            "activities": "how many activities it has, as the service counts; null when untold",
            "internal_comments": "how many comments were made in the flow, as the service counts; "
            "null when untold",
            "external_comments": "how many comments were made elsewhere, as the service counts; "
            "null when untold",
            "updated_at": "when it last changed, by the service's clock; null when untold",
            "detail": "JSON of all that was said of it; null when nothing was",
        },
    ),
    "attachments": (
        "The files that hang on messages: what is said of them, not their bytes.",
        {
            "flow": FLOW,
            "message_id": "the message",
            "position": "counted from 1",
            "file_name": "its name; null when the service does not tell",
            "content_type": "its media type, as the sender said; null when untold",
            "file_size": "its size in bytes, as the service said; null when untold",
            "path": "where the service serves it, below the base URL of the API; null when untold",
            "sha256": "the digest of its bytes; null when they are not in the archive",
        },
    ),
    "coverage": (
        "The ranges of ids of which it is proven that the archive has all there is.",
        {
            "flow": FLOW,
            "witness": "stream: unbroken on one connection; list: a page of List Messages",
            "from_id": "the first id of the range",
            "to_id": "the last id of the range, which belongs to it",
        },
    ),
    "gaps": (
        "The ranges of ids that nothing proves yet; the archiver asks for them until it is done.",
        {
            "flow": FLOW,
            "from_id": "the first id of the range",
            "to_id": "the last id of the range, which belongs to it",
            "found_at": "when the flow was seen to have gone on beyond it, by the archiver's clock",
            "attempts": "how many requests for it have failed",
            "last_error": "why the last of them failed; null when none has",
        },
    ),
    "doubts": (
        (
            "The ranges of ids whose messages may have changed while nobody listened, and that "
            "were not listed since; the archiver lists them again, the newest first."
        ),
        {
            "flow": FLOW,
            "from_id": "the first id of the range",
            "to_id": "the last id of the range, which belongs to it",
        },
    ),
    "schema_version": (
        "Which schema the database is at, in one row.",
        {"version": "the name of the newest migration; a release works with just one"},
    ),
}
