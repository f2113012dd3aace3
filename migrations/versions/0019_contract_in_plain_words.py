"""Say in plain words what each view and column of the contract means.

The comments were written by many migrations, and many had to be read twice. None of them means
anything else than before, so the way back leaves them as they are.

Only comments change, whatever the size of the archive.
"""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

COMMENTS = {
    "VIEW archive.attachments": (
        "Files attached to messages: what the message says of each, and whether the archive holds"
        " its contents."
    ),
    "COLUMN archive.attachments.position": "position in the message, from 1",
    "COLUMN archive.attachments.file_name": "file name; null when the service does not tell it",
    "COLUMN archive.attachments.content_type": (
        "media type, as the sender gave it; null when the service does not tell it"
    ),
    "COLUMN archive.attachments.file_size": (
        "size in bytes, as the service gave it; null when it does not tell it"
    ),
    "COLUMN archive.attachments.path": (
        "path at which the service serves the file, below the base URL of the API; null when it "
        "does not tell it"
    ),
    "COLUMN archive.attachments.sha256": (
        "SHA-256 of the contents, which files and file_parts hold; null when the archive does not"
        " have them"
    ),
    "COLUMN archive.attachments.attempts": (
        "number of failed requests for the contents; null when the archive has them, or nothing "
        "asks for them"
    ),
    "COLUMN archive.attachments.last_error": (
        "why the last request for the contents failed; null when none has failed, or the archive "
        "has them"
    ),
    "VIEW archive.coverage": "Ranges of ids of which the archive provably has everything.",
    "COLUMN archive.coverage.witness": (
        "what proves the range: stream (one connection, without interruption) or list (a page of "
        "List Messages)"
    ),
    "COLUMN archive.coverage.from_id": "first id of the range",
    "COLUMN archive.coverage.to_id": "last id of the range, inclusive",
    "VIEW archive.daemons": (
        "Daemons that work on this archive; one that ended without saying so stays for some "
        "seconds."
    ),
    "COLUMN archive.daemons.daemon": (
        "name of the daemon: the setting sharing.name, or host:process"
    ),
    "COLUMN archive.daemons.started_at": "when it first reported in",
    "COLUMN archive.daemons.heard_at": "when it last reported in",
    "COLUMN archive.daemons.lease_until": (
        "until when its leases hold, unless it reports in again; then others take over what it "
        "captures"
    ),
    "COLUMN archive.daemons.captures": (
        "number of flows, or of people with private conversations, that it captures"
    ),
    "COLUMN archive.daemons.could_capture": "number of these that it could capture",
    "COLUMN archive.daemons.unheard": (
        "those it captures whose stream is not open, named as in leases.flow: edits there show "
        "only when a stream is opened again, as doubts"
    ),
    "VIEW archive.doubts": (
        "Ranges of ids whose messages may have changed while nobody listened, and have not been "
        "listed since. The archiver lists them again, newest first."
    ),
    "COLUMN archive.doubts.from_id": "first id of the range",
    "COLUMN archive.doubts.to_id": "last id of the range, inclusive",
    "VIEW archive.events": (
        "Every event once, in the form in which it was first received: messages, and what changes"
        " them."
    ),
    "COLUMN archive.events.id": (
        "id of the event: grows within the flow, with holes, and is unique only there"
    ),
    "COLUMN archive.events.event": (
        "kind of event, as Flowdock names it: message, message-edit, tag-change, ..."
    ),
    "COLUMN archive.events.user_id": (
        "Flowdock's id of the user who did it, as text; 0 or null for integrations"
    ),
    "COLUMN archive.events.sent": (
        "when it happened, by the service's clock; null when the service does not tell it"
    ),
    "COLUMN archive.events.witness": (
        "how it came: stream (live), list (a page of List Messages), show (one message) or import"
    ),
    "COLUMN archive.events.target_id": (
        "id of the message that it changes; null when it changes none"
    ),
    "COLUMN archive.events.payload": "JSON, byte for byte as received",
    "VIEW archive.file_parts": (
        "Contents of files in parts; all parts of a file, in order, are the file."
    ),
    "COLUMN archive.file_parts.sha256": "the file, as in files",
    "COLUMN archive.file_parts.part": "number of the part, from 0",
    "COLUMN archive.file_parts.bytes": (
        "contents of the part: one megabyte (MiB), the last part the rest"
    ),
    "VIEW archive.files": "Contents of files, each once, however many messages name it.",
    "COLUMN archive.files.sha256": "SHA-256 of the contents in hexadecimal, as in attachments",
    "COLUMN archive.files.file_size": "size in bytes",
    "COLUMN archive.files.kept_at": "when the contents came into the archive",
    "VIEW archive.flows": "Every flow and private conversation that the archive knows of.",
    "COLUMN archive.flows.flow_id": (
        "the flow's id at Flowdock; for a private conversation, the path"
    ),
    "COLUMN archive.flows.organization": (
        "display name of its organization, which may differ from the one in flow; null for a "
        "private conversation, and until the service has listed the flow"
    ),
    "COLUMN archive.flows.name": "display name; null until the service has listed the flow",
    "COLUMN archive.flows.joined": (
        "whether an account of the archiver can read the flow now; null until the service has "
        "listed it"
    ),
    "COLUMN archive.flows.disabled": (
        "whether it was put away when the service last listed it; null until then. A flow that is"
        " put away may no longer be listed: then joined is false"
    ),
    "COLUMN archive.flows.first_seen_at": (
        "when the archive first learned of it, by the archiver's clock"
    ),
    "COLUMN archive.flows.last_seen_at": "when the service last listed it; null until then",
    "COLUMN archive.flows.flow_key": (
        "number of the flow in this archive, which stays when the flow is renamed: use it for "
        "joins, and to select large flows"
    ),
    "COLUMN archive.flows.not_told": (
        "why it is unknown what is new in the flow, because the service does not say it: then "
        "gaps cannot show what may be missing; null when the service says it"
    ),
    "VIEW archive.forms": (
        "Every form in which each event was received: from the stream, and as listings showed it "
        "later."
    ),
    "COLUMN archive.forms.id": "id of the event",
    "COLUMN archive.forms.form": "number of the form, from 0",
    "COLUMN archive.forms.witness": (
        "how it came: stream, list, show (404: the message is gone) or import"
    ),
    "COLUMN archive.forms.received_at": (
        "when this form was first received, by the archiver's clock"
    ),
    "COLUMN archive.forms.as_of": (
        "id up to which it reflects changes of the message: its own id; for a listing, the newest"
        " id known of the flow then; for a file, the newest id in it"
    ),
    "COLUMN archive.forms.payload": "JSON, byte for byte as received",
    "VIEW archive.gaps": (
        "Ranges of ids that nothing proves yet; the archiver asks for them until it succeeds."
    ),
    "COLUMN archive.gaps.from_id": "first id of the range",
    "COLUMN archive.gaps.to_id": "last id of the range, inclusive",
    "COLUMN archive.gaps.found_at": (
        "when the archiver learned that the flow goes on beyond the range, by the archiver's clock"
    ),
    "COLUMN archive.gaps.attempts": (
        "number of failed requests for it; of those older than 90 days, only the last of each "
        "range counts"
    ),
    "COLUMN archive.gaps.last_error": (
        "why the last of these requests failed; null when none has failed"
    ),
    "VIEW archive.leases": "Which daemon captures which flow.",
    "COLUMN archive.leases.daemon": "name of the daemon",
    "COLUMN archive.leases.taken_at": "when the daemon took it",
    "VIEW archive.messages": (
        "Every message as its flow would show it now; deleted messages stay, with deleted_at."
    ),
    "COLUMN archive.messages.id": (
        "id of the message: grows within the flow, where comments, files and items have ids too; "
        "unique only there"
    ),
    "COLUMN archive.messages.event": (
        "kind of message: message, comment, status, line, file, activity, ..."
    ),
    "COLUMN archive.messages.user_id": (
        "Flowdock's id of the sender, as text; 0 or null for integrations and anonymous senders"
    ),
    "COLUMN archive.messages.nick": (
        "present nick of the sender; null when the service never listed the sender"
    ),
    "COLUMN archive.messages.sent": (
        "when it was sent, by the service's clock; null when the service does not tell it"
    ),
    "COLUMN archive.messages.content": (
        "the text; for a file its name, for other items their readable part; empty once a chat "
        "message is deleted"
    ),
    "COLUMN archive.messages.tags": (
        "tags without #, in the service's spelling and order; those that begin with a colon are "
        "the service's own marks, such as :user:2 (mentions user 2), :unread:2, :url, :file"
    ),
    "COLUMN archive.messages.thread_id": "id of its thread; null when it has none",
    "COLUMN archive.messages.parent_id": (
        "id of the message that a comment is about, from its tag influx:ID; null for other "
        "messages, and for a comment without that tag"
    ),
    "COLUMN archive.messages.edited_at": (
        "when it was last edited or emptied, by the service's clock; null if never"
    ),
    "COLUMN archive.messages.edits": "number of known edits; deletions do not count",
    "COLUMN archive.messages.deleted_at": (
        "when it was deleted, by the service's clock; if no event reported the deletion, when it "
        "was noticed; null if it was not deleted"
    ),
    "COLUMN archive.messages.attachments": (
        "attached files, a JSON list of objects; the view attachments has one row for each"
    ),
    "COLUMN archive.messages.app": (
        "chat or influx (the inbox), as the service says; null when it does not tell it"
    ),
    "COLUMN archive.messages.uuid": (
        "id that the sending client gave it; not unique; null when it gave none"
    ),
    "COLUMN archive.messages.external_user_name": (
        "display name of an anonymous sender; null for others"
    ),
    "COLUMN archive.messages.detail": (
        "JSON of what is not plain text: the content of files, activities and items; null for "
        "plain text"
    ),
    "COLUMN archive.messages.revisions": (
        "number of its rows in revisions; 0 while it is as it was created"
    ),
    "COLUMN archive.messages.flow_key": (
        "number of the flow in this archive, which stays when the flow is renamed: use it for "
        "joins, and to select large flows"
    ),
    "COLUMN archive.rejects.id": "number of the reject in this archive",
    "COLUMN archive.rejects.origin": "the stream, page or file from which it came",
    "COLUMN archive.rejects.reason": "why the archiver could not place it",
    "COLUMN archive.rejects.raw": "the input, byte for byte",
    "VIEW archive.revisions": (
        "History of every message: what changed, when, by whom, and what the message was from "
        "then on. Read receipts and reactions are not revisions; they are in events."
    ),
    "COLUMN archive.revisions.message_id": "id of the message",
    "COLUMN archive.revisions.revision": (
        "id of the event that made the change; for a listing, the newest id known at the time; "
        "for a file, the newest id in it"
    ),
    "COLUMN archive.revisions.at": (
        "when, by the service's clock. A change that only a listing showed and that is no edit "
        "has the time of the listing. Null when the service does not tell it, and for a change "
        "that only a file showed and that is no edit"
    ),
    "COLUMN archive.revisions.user_id": (
        "Flowdock's id of the user who made the change, as text; null when only a listing showed "
        "it, or the service does not tell it"
    ),
    "COLUMN archive.revisions.kind": (
        "created, edited, tagged, moved (to another thread), deleted, or listed: a change that a "
        "listing showed and whose event never came"
    ),
    "COLUMN archive.revisions.ordinal": "number of the step in the message's history, from 0",
    "COLUMN archive.revisions.nick": (
        "present nick of the user who made the change; null when it is not known"
    ),
    "COLUMN archive.revisions.event": (
        "kind of message from then on; null in what an older release stored, until archiver "
        "rebuild: then the columns that follow are null as well"
    ),
    "COLUMN archive.revisions.thread_id": "id of its thread from then on; null if it had none",
    "COLUMN archive.revisions.edits": "number of edits known by then",
    "COLUMN archive.revisions.seen_at": (
        "when a listing that showed the change was asked for, by the archiver's clock; null when "
        "an event reported it, or only a file of unknown date shows it"
    ),
    "VIEW archive.schema_version": "The schema of this database, in one row.",
    "COLUMN archive.schema_version.version": (
        "name of the newest migration; each release works with exactly one"
    ),
    "VIEW archive.signals": (
        "What the service sends and does not store: presence, typing, receipts. Kept for "
        "signals.retention_days only."
    ),
    "COLUMN archive.signals.event": (
        "kind of signal, as Flowdock names it: activity.user, message-receive, ..."
    ),
    "COLUMN archive.signals.user_id": (
        "Flowdock's id of the user it is about, as text; null when the service does not tell it"
    ),
    "COLUMN archive.signals.at": (
        "when it happened, by the service's clock; if that is not told, or is more than a day "
        "off, when it was received"
    ),
    "COLUMN archive.signals.payload": "JSON, byte for byte as received",
    "VIEW archive.threads": (
        "Threads, each in its newest state: by the date that the service gives it, or else by "
        "that of the event that showed it."
    ),
    "COLUMN archive.threads.thread_id": (
        "id of the thread, as messages name it; unique within the flow"
    ),
    "COLUMN archive.threads.title": "title; null when the service does not tell it",
    "COLUMN archive.threads.status": (
        "state of what the thread stands for, in the integration's words; null for none"
    ),
    "COLUMN archive.threads.external_url": (
        "address of what the thread stands for; null for a chat thread"
    ),
    "COLUMN archive.threads.application": "the integration that created it; null for a chat thread",
    "COLUMN archive.threads.activities": (
        "number of its activities, as the service counts; null when it does not tell it"
    ),
    "COLUMN archive.threads.internal_comments": (
        "number of comments made in the flow, as the service counts; null when it does not tell it"
    ),
    "COLUMN archive.threads.external_comments": (
        "number of comments made elsewhere, as the service counts; null when it does not tell it"
    ),
    "COLUMN archive.threads.updated_at": (
        "when it last changed, by the service's clock; null when the service does not tell it"
    ),
    "COLUMN archive.threads.detail": "JSON of all that is known of it; null when nothing is",
    "VIEW archive.users": (
        "People and integrations as the service last listed them, and those that only an imported"
        " list of users names."
    ),
    "COLUMN archive.users.user_id": (
        "Flowdock's id, digits as text; 0 stands for integrations and anonymous senders, and is "
        "not listed here"
    ),
    "COLUMN archive.users.nick": "name in chat, without @; null when the service does not tell it",
    "COLUMN archive.users.name": "full name; null when the service does not tell it",
    "COLUMN archive.users.email": "e-mail address; null when the service does not tell it",
    "COLUMN archive.users.disabled": (
        "whether the account was closed when the service last listed it; null when it does not "
        "tell it. An account that is gone may no longer be listed: then last_seen_at stays behind"
    ),
    "COLUMN archive.users.first_seen_at": (
        "when the archive first learned of this user, by the archiver's clock"
    ),
    "COLUMN archive.users.last_seen_at": (
        "when the service last listed this user, by the archiver's clock; if it never did, when a"
        " list that names the user was first imported"
    ),
    "FUNCTION archive.newest_messages": (
        "The newest messages of each flow, at most per_flow of each, with the columns of "
        "messages, in no particular order. Messages without a time of sending are left out. Fast "
        "however large the flows are: use it instead of ORDER BY sent DESC LIMIT on messages."
    ),
    "FUNCTION archive.messages_as_of": (
        "Messages as their flow showed them at a moment, with the columns of messages. Content, "
        "kind, edits and deletion are dated by the service. Tags and threads are dated by the "
        "event that changed them; if only a listing showed the change, by the time of the "
        "listing, so it may be older; if only an imported file showed it, by the newest message "
        "in the file, so it may be older or newer. Tags are without read receipts. What a message"
        " said before an edit that nobody heard is null; its tags from before the archive first "
        "saw it are those it had then. Attachments and detail are null if the message was edited "
        "since; reactions are null if an event has added or removed one since, and otherwise the "
        "present ones. Nick, sender and app are the present ones. Messages without a time of "
        "sending are left out. A change without a time counts as made together with the one "
        "before it."
    ),
}


def upgrade() -> None:
    for subject, comment in COMMENTS.items():
        quoted = comment.replace("'", "''")
        op.get_bind().exec_driver_sql(f"COMMENT ON {subject} IS '{quoted}'")


def downgrade() -> None:
    """The comments are as true of the schema before."""
