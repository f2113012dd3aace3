"""Date changes that only a file showed by the newest message in the file.

Nobody knows when an official export was made. So ``messages_as_of`` took the tags and threads that
it showed to be as old as what was known before, or as the last edit. A message thus appeared at all
times with the tags that it had when the export was made. But an export was not made before the
newest message in it was sent.

Only the catalogue changes, whatever the size of the archive.
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# It uses only views, so that a reader may call it. It is one statement without SET, STRICT or
# SECURITY DEFINER, so that Postgres inlines it and pushes conditions down into it. The history of a
# message that never changed is not read, since it was always as it is now.
STEP = """
    SELECT * FROM archive.revisions r
    WHERE m.revisions > 0 AND r.flow = m.flow AND r.message_id = m.id
      AND coalesce({date}, (SELECT max(e.at) FROM archive.revisions e
                            WHERE e.flow = r.flow AND e.message_id = r.message_id
                              AND e.ordinal < r.ordinal), '-infinity') <= moment
    ORDER BY r.ordinal DESC LIMIT 1
"""
# The revision that a file showed has the id of the newest message in the file.
TOLD = """
    CASE WHEN r.kind IN ('listed', 'deleted') THEN (
        SELECT e.sent FROM archive.events e WHERE e.flow = r.flow AND e.id = r.revision
    ) END
"""
UNEDITED = "m.revisions = 0 OR wrote.edited_at IS NOT DISTINCT FROM m.edited_at"
AS_OF = f"""
    CREATE OR REPLACE FUNCTION archive.messages_as_of(moment timestamptz)
    RETURNS TABLE (
        flow text, id bigint, event text, user_id text, nick text, sent timestamptz, content text,
        tags text[], thread_id text, parent_id bigint, edited_at timestamptz, edits integer,
        deleted_at timestamptz, attachments jsonb, reactions jsonb, app text, uuid text,
        external_user_name text, detail jsonb
    ) LANGUAGE sql STABLE AS $$
    SELECT m.flow, m.id, coalesce(wrote.event, m.event), m.user_id, m.nick, m.sent,
           CASE WHEN m.revisions = 0 THEN m.content ELSE wrote.content END,
           CASE WHEN m.revisions = 0 THEN
               array(SELECT tag FROM unnest(m.tags) WITH ORDINALITY AS t(tag, n)
                     WHERE NOT starts_with(tag, '\\:unread\\:') ORDER BY n)
           ELSE marked.tags END,
           CASE WHEN m.revisions = 0 OR marked.event IS NULL THEN m.thread_id
                ELSE marked.thread_id END,
           m.parent_id, wrote.edited_at,
           CASE WHEN m.revisions = 0 THEN 0 ELSE wrote.edits END,
           CASE WHEN wrote.deleted_at <= moment THEN wrote.deleted_at END,
           CASE WHEN {UNEDITED} THEN m.attachments END,
           CASE WHEN NOT EXISTS (
               SELECT FROM archive.events e WHERE e.flow = m.flow AND e.target_id = m.id
                  AND e.event = 'emoji-reaction' AND e.sent > moment) THEN m.reactions END,
           m.app, m.uuid, m.external_user_name,
           CASE WHEN {UNEDITED} THEN m.detail END
    FROM archive.messages m
    LEFT JOIN LATERAL ({{wrote}}) AS wrote ON true
    LEFT JOIN LATERAL ({{marked}}) AS marked ON true
    WHERE m.sent <= moment AND (m.revisions = 0 OR wrote.ordinal IS NOT NULL)
    $$
"""  # noqa: S608
COMMENT = (
    "The messages as their flow showed them at a moment, in the columns of messages. Content, "
    "kind, edits and deletion are dated by the service. Tags and threads are dated by the event "
    "that changed them; a change of these that only a listing showed is dated by when it was "
    "listed, and may be older{files}. Tags are without read receipts. What a message said before "
    "an edit that nobody heard is null; what it was tagged before the archive first saw it is what "
    "it was tagged then. Attachments and detail are null where the message was edited since; "
    "reactions are null where one came or went since by an event, and as now where only a listing "
    "showed it. Nick, sender and app are those of now. Messages without a time of sending are left "
    "out. A change without a time counts as made together with the one before it."
)
FILES = (
    "; one that only an imported file showed is dated by the newest message in it, and may be "
    "older or newer"
)

COLUMNS = {
    "revisions.revision": (
        "the event that made it; of a listing, the newest id known at the time",
        "; of a file, the newest id in it",
    ),
    "revisions.at": (
        (
            "when, by the service''s clock; of a change that only a listing showed and that is no "
            "edit, when it was listed; null when the service does not tell"
        ),
        ", and of a change that only a file showed and that is no edit",
    ),
    "revisions.seen_at": (
        (
            "when a listing was asked for that showed the change, by the archiver''s clock; null "
            "when an event told of it"
        ),
        ", or only a file, which was made nobody knows when",
    ),
    "forms.as_of": (
        (
            "the id up to which it tells the state of the message: the event''s own, or for a "
            "listing the newest that the flow was known to have"
        ),
        ", or for a file the newest in it",
    ),
}
"""By column: its comment so far, and what is added to it about files."""


def upgrade() -> None:
    _dated(wrote=f"r.at, {TOLD}", marked=f"r.seen_at, {TOLD}, r.at", files=FILES)
    for column, (told, of_files) in COLUMNS.items():
        op.execute(f"COMMENT ON COLUMN archive.{column} IS '{told}{of_files}'")


def downgrade() -> None:
    _dated(wrote="r.at", marked="r.seen_at, r.at", files="")
    for column, (told, _) in COLUMNS.items():
        op.execute(f"COMMENT ON COLUMN archive.{column} IS '{told}'")


def _dated(*, wrote: str, marked: str, files: str) -> None:
    op.execute(AS_OF.format(wrote=STEP.format(date=wrote), marked=STEP.format(date=marked)))
    told = COMMENT.format(files=files)
    op.execute(f"COMMENT ON FUNCTION archive.messages_as_of IS '{told}'")
