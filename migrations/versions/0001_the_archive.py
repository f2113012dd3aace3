"""The archive: tables in ``store``, and the views in ``archive`` that people query."""

from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_tables()
    _create_views()


def _create_tables() -> None:
    op.create_table(
        "flows",
        sa.Column("flow_key", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("flow_id", sa.Text(), nullable=False, comment="Flowdock's id"),
        sa.Column(
            "path", sa.Text(), nullable=False, comment="organization/flow, or private/<me>/<other>"
        ),
        sa.Column("organization", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("access_mode", sa.Text(), nullable=True),
        sa.Column("joined", sa.Boolean(), nullable=True),
        sa.Column("disabled", sa.Boolean(), nullable=True),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("flow_key", name=op.f("flows_pkey")),
        sa.UniqueConstraint("flow_id", name=op.f("flows_flow_id_key")),
        schema="store",
    )
    op.create_index("flows_path", "flows", ["path"], unique=False, schema="store")
    op.create_table(
        "journal",
        sa.Column("flow_key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "form",
            sa.SmallInteger(),
            autoincrement=False,
            nullable=False,
            comment="0 for the first form in which the event was received, then counted up",
        ),
        sa.Column(
            "digest", sa.UUID(as_uuid=False), nullable=False, comment="BLAKE2b of the payload"
        ),
        sa.Column("witness", sa.Text(), nullable=False, comment="stream, list, show or import"),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "target_id",
            sa.BigInteger(),
            nullable=True,
            comment="the message that the event changes",
        ),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "as_of",
            sa.BigInteger(),
            nullable=False,
            comment="up to which id it tells the state: the event's own, or a listing's head",
        ),
        sa.Column("payload", sa.JSON(), nullable=False, comment="verbatim"),
        sa.PrimaryKeyConstraint("flow_key", "id", "form", name=op.f("journal_pkey")),
        schema="store",
    )
    op.create_index(
        "journal_target",
        "journal",
        ["flow_key", "target_id"],
        unique=False,
        schema="store",
        postgresql_where=sa.text("target_id IS NOT NULL"),
    )
    op.create_table(
        "ledger",
        sa.Column("flow_key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "streamed", postgresql.INT8MULTIRANGE(), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column(
            "listed", postgresql.INT8MULTIRANGE(), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column(
            "due",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="up to here the settling time is over: what is not proven is a gap",
        ),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "epoch",
            sa.Integer(),
            server_default=sa.text("0"),
            nullable=False,
            comment="how often a stream of the flow was opened",
        ),
        sa.Column(
            "doubted",
            postgresql.INT8MULTIRANGE(),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="not listed since then: may have changed while nobody listened",
        ),
        sa.Column(
            "assured_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when the last doubt was gone; null while there is one",
        ),
        sa.PrimaryKeyConstraint("flow_key", name=op.f("ledger_pkey")),
        schema="store",
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "messages",
        sa.Column("flow_key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("thread_id", sa.Text(), nullable=True),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("edited_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("edits", sa.Integer(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("removed", sa.Boolean(), nullable=False),
        sa.Column(
            "attachments",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="null when there are none",
        ),
        sa.Column(
            "reactions",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="null when there are none",
        ),
        sa.Column("app", sa.Text(), nullable=True),
        sa.Column("uuid", sa.Text(), nullable=True),
        sa.Column("external_user_name", sa.Text(), nullable=True),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column(
            "as_of", sa.BigInteger(), nullable=False, comment="the newest id that this row reflects"
        ),
        sa.Column(
            "revisions",
            sa.Integer(),
            nullable=False,
            comment="rows in revisions; 0 while the message is as it was created",
        ),
        sa.PrimaryKeyConstraint("flow_key", "id", name=op.f("messages_pkey")),
        schema="store",
        postgresql_with={"fillfactor": "90"},
    )
    op.create_table(
        "pages",
        sa.Column("page_key", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("flow_key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("run", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False, comment="backfill, audit, verify or head"),
        sa.Column("asked", postgresql.INT8RANGE(), nullable=False),
        sa.Column(
            "proven", postgresql.INT8RANGE(), nullable=True, comment="null when the request failed"
        ),
        sa.Column("messages", sa.Integer(), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "answered_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("page_key", name=op.f("pages_pkey")),
        schema="store",
    )
    op.create_index(
        "pages_failed",
        "pages",
        ["flow_key"],
        unique=False,
        schema="store",
        postgresql_where=sa.text("error IS NOT NULL"),
    )
    op.create_index(
        "pages_flow", "pages", ["flow_key", "requested_at"], unique=False, schema="store"
    )
    op.create_table(
        "rejects",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "origin", sa.Text(), nullable=False, comment="which stream, page or file it came by"
        ),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column(
            "digest", sa.UUID(as_uuid=False), nullable=False, comment="BLAKE2b of origin and raw"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("rejects_pkey")),
        schema="store",
    )
    op.create_index("rejects_digest", "rejects", ["digest"], unique=True, schema="store")
    op.create_table(
        "revisions",
        sa.Column("flow_key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("message_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("content", sa.Text(), nullable=True),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("flow_key", "message_id", "ordinal", name=op.f("revisions_pkey")),
        schema="store",
    )
    op.create_table(
        "sightings",
        sa.Column("flow_key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("form", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
        sa.Column("shown_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("flow_key", "id", "form", name=op.f("sightings_pkey")),
        schema="store",
    )
    op.create_table(
        "signals",
        sa.Column("signal_key", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("flow_key", sa.Integer(), nullable=True),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("signal_key", name=op.f("signals_pkey")),
        schema="store",
    )
    op.create_index("signals_at", "signals", ["at"], unique=False, schema="store")
    op.create_table(
        "threads",
        sa.Column("flow_key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("thread_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("external_url", sa.Text(), nullable=True),
        sa.Column("application", sa.Text(), nullable=True),
        sa.Column("activities", sa.Integer(), nullable=True),
        sa.Column("internal_comments", sa.Integer(), nullable=True),
        sa.Column("external_comments", sa.Integer(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("as_of", sa.BigInteger(), nullable=False, comment="the event that showed it so"),
        sa.PrimaryKeyConstraint("flow_key", "thread_id", name=op.f("threads_pkey")),
        schema="store",
    )
    op.create_table(
        "users",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("nick", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("disabled", sa.Boolean(), nullable=True),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("users_pkey")),
        schema="store",
    )


def _create_view(name: str, comment: str, columns: Mapping[str, str], query: str) -> None:
    """Create a view of the contract, with a comment on each column that says what it means."""
    op.execute(f"CREATE VIEW archive.{name} ({', '.join(columns)}) AS {query}")
    op.execute(f"COMMENT ON VIEW archive.{name} IS {_quoted(comment)}")
    for column, meaning in columns.items():
        op.execute(f"COMMENT ON COLUMN archive.{name}.{column} IS {_quoted(meaning)}")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''").replace(":", "\\:") + "'"


FLOW = "the flow: organization/name, or private/<me>/<other>"


def _create_views() -> None:
    op.execute("CREATE SCHEMA archive")
    op.execute(
        "COMMENT ON SCHEMA archive IS 'What people query; stable across releases. "
        "Tables of the schema store may change with any migration.'"
    )
    _directory_views()
    _event_views()
    _aside_views()
    _message_view()
    _history_views()
    _attachment_view()
    _ledger_views()


def _directory_views() -> None:
    _create_view(
        "flows",
        "Every flow and private conversation that the archive ever heard of.",
        {
            "flow": FLOW,
            "flow_id": "the id that Flowdock gives it; the path for a private conversation",
            "organization": "its organization, as the URL names it",
            "name": "its name for people; null until the service has listed it",
            "access_mode": "invitation, link or organization",
            "joined": "whether an account of the archiver can read it now",
            "disabled": "whether it was put away at the service",
            "first_seen_at": "when the archive first heard of it",
            "last_seen_at": "when the service last listed it",
        },
        """
        SELECT path, flow_id, organization, name, access_mode, joined, disabled,
               first_seen_at, last_seen_at
        FROM store.flows
        """,
    )
    _create_view(
        "users",
        "The people and integrations that the service has listed.",
        {
            "user_id": "numeric text; 0 stands for integrations and anonymous senders",
            "nick": "the name in chat",
            "name": "the full name",
            "email": "the e-mail address, where the service tells it",
            "disabled": "whether the account is closed",
            "first_seen_at": "when the service first listed it",
            "last_seen_at": "when the service last listed it",
        },
        "SELECT user_id, nick, name, email, disabled, first_seen_at, last_seen_at FROM store.users",
    )


def _event_views() -> None:
    _create_view(
        "events",
        "Every event, once, in the form in which it was first received.",
        {
            "flow": FLOW,
            "id": "grows within the flow, with holes",
            "event": "Flowdock's name of its kind",
            "user_id": "who did it; 0 or null for integrations",
            "sent": "when it happened, by the service's clock; null when it does not tell",
            "received_at": "when the archive received it",
            "witness": "how it came: stream, list or import",
            "target_id": "the message that it changes; null for what changes none",
            "payload": "as received, byte for byte",
        },
        """
        SELECT path, id, event, user_id, sent_at, received_at, witness, target_id, payload
        FROM store.journal JOIN store.flows USING (flow_key) WHERE form = 0
        """,
    )
    _create_view(
        "forms",
        "Every form in which events were received: the stream's, and what listings showed later.",
        {
            "flow": FLOW,
            "id": "the event",
            "form": "0 for the first, then counted up",
            "witness": "how it came: stream, list, show (404: the message is gone) or import",
            "received_at": "when it was first received so",
            "as_of": "the id up to which it tells the state of the message",
            "payload": "as received, byte for byte",
        },
        """
        SELECT path, id, form, witness, received_at, as_of, payload
        FROM store.journal JOIN store.flows USING (flow_key)
        """,
    )


def _aside_views() -> None:
    _create_view(
        "signals",
        "What the service sends and never stores (presence, typing, receipts); kept for a while.",
        {
            "flow": FLOW + "; null when it is about none",
            "event": "Flowdock's name of its kind",
            "user_id": "whom it is about",
            "at": "when it happened, or was received if it does not tell",
            "payload": "as received, byte for byte",
        },
        """
        SELECT path, event, user_id, at, payload
        FROM store.signals LEFT JOIN store.flows USING (flow_key)
        """,
    )
    _create_view(
        "rejects",
        "Input that could not be placed: not JSON, no id, refused by Postgres.",
        {
            "id": "a number of the archive's own",
            "received_at": "when it was first received",
            "origin": "the stream, page or file it came by",
            "reason": "why it could not be placed",
            "raw": "its bytes",
        },
        "SELECT id, received_at, origin, reason, raw FROM store.rejects",
    )


def _message_view() -> None:
    _create_view(
        "messages",
        "Every message as the flow would show it now.",
        {
            "flow": FLOW,
            "id": "grows within the flow; comments, files and items count too",
            "event": "its kind: message, comment, status, line, file, activity, ...",
            "user_id": "who sent it; 0 or null for integrations and anonymous senders",
            "nick": "the sender's nick now; null when the service never listed the sender",
            "sent": "when it was sent, by the service's clock",
            "content": "the text; of a file its name; empty once a chat message is deleted",
            "tags": "without #, in the service's order; those with a colon are its own marks",
            "thread_id": "the thread it belongs to",
            "parent_id": "the message that a comment is about",
            "edited_at": "when it was last edited or emptied; null if never",
            "edits": "how many edits are known",
            "deleted_at": "when it was deleted; null while it is there",
            "attachments": "the files on it, as a list of objects",
            "reactions": "emoji to a list of user ids",
            "app": "chat or influx, as the service says",
            "uuid": "what the sending client called it; not unique",
            "external_user_name": "the name shown for an anonymous sender",
            "detail": "what is not plain text: the content of files, activities and items",
        },
        """
        SELECT f.path, m.id, m.event, m.user_id, u.nick, m.sent_at, m.content, m.tags,
               m.thread_id, m.parent_id, m.edited_at, m.edits, m.deleted_at,
               coalesce(m.attachments, '[]'), coalesce(m.reactions, '{}'),
               m.app, m.uuid, m.external_user_name, m.detail
        FROM store.messages m JOIN store.flows f USING (flow_key)
        LEFT JOIN store.users u USING (user_id)
        """,
    )


def _history_views() -> None:
    _create_view(
        "revisions",
        "The history of every message: what changed, when, by whom.",
        {
            "flow": FLOW,
            "message_id": "the message",
            "revision": "the event that made it; of a listing, the newest id known at the time",
            "at": "when, by the service's clock",
            "user_id": "who; null when only a listing showed the change",
            "kind": "created, edited, tagged, moved, deleted, or listed: a change whose event "
            "never came and that a listing showed",
            "content": "the text from then on; null when it was changed before the archive saw it",
            "tags": "the tags from then on, without read receipts",
        },
        """
        SELECT f.path, r.message_id, r.revision, r.at, r.user_id, r.kind, r.content, r.tags
        FROM store.revisions r JOIN store.flows f USING (flow_key)
        UNION ALL
        SELECT f.path, m.id, m.id, m.sent_at, m.user_id, 'created', m.content,
               array(SELECT tag FROM unnest(m.tags) WITH ORDINALITY AS t(tag, n)
                     WHERE NOT starts_with(tag, ':unread:') ORDER BY n)
        FROM store.messages m JOIN store.flows f USING (flow_key) WHERE m.revisions = 0
        """,
    )
    _create_view(
        "threads",
        "Threads, as the newest event that showed them said.",
        {
            "flow": FLOW,
            "thread_id": "the id that messages name",
            "title": "its title",
            "status": "the state of what it stands for, in the integration's words",
            "external_url": "where what it stands for lives",
            "application": "the integration that made it; null for a chat thread",
            "activities": "how many activities it has",
            "internal_comments": "how many comments were made in the flow",
            "external_comments": "how many comments were made elsewhere",
            "updated_at": "when it last changed, as far as the service tells",
            "detail": "all that was said of it",
        },
        """
        SELECT path, thread_id, title, status, external_url, application, activities,
               internal_comments, external_comments, updated_at, detail
        FROM store.threads JOIN store.flows USING (flow_key)
        """,
    )


def _attachment_view() -> None:
    _create_view(
        "attachments",
        "The files that hang on messages.",
        {
            "flow": FLOW,
            "message_id": "the message",
            "position": "counted from 1",
            "file_name": "its name",
            "content_type": "its type, as the sender said",
            "file_size": "its size in bytes, as the service said",
            "path": "where the service serves it, below the base URL of the API",
            "sha256": "the digest of its bytes; null when they are not in the archive",
        },
        """
        SELECT f.path, m.id, a.n::int, a.file ->> 'file_name', a.file ->> 'content_type',
               (a.file ->> 'size_bytes')::bigint, a.file ->> 'path', NULL::text
        FROM store.messages m JOIN store.flows f USING (flow_key)
        CROSS JOIN jsonb_array_elements(m.attachments) WITH ORDINALITY AS a(file, n)
        """,
    )


def _ledger_views() -> None:
    _create_view(
        "coverage",
        "The ranges of ids of which it is proven that the archive has all there is.",
        {
            "flow": FLOW,
            "witness": "stream: unbroken on one connection; list: a page of List Messages",
            "from_id": "the first id of the range",
            "to_id": "the last id of the range",
        },
        """
        SELECT path, witness, lower(range), upper(range) - 1
        FROM store.ledger JOIN store.flows USING (flow_key)
        CROSS JOIN LATERAL (
            SELECT 'stream' AS witness, unnest(streamed) AS range
            UNION ALL SELECT 'list', unnest(listed)
        ) AS proven
        """,
    )
    _create_view(
        "gaps",
        "The ranges of ids that nothing proves yet; the archiver asks for them until it is done.",
        {
            "flow": FLOW,
            "from_id": "the first id of the range",
            "to_id": "the last id of the range",
            "found_at": "when the flow was seen to have gone on beyond it",
            "attempts": "how many requests for it have failed",
            "last_error": "why the last of them failed",
        },
        """
        SELECT path, lower(gap), upper(gap) - 1,
               coalesce((SELECT j.received_at FROM store.journal j
                         WHERE j.flow_key = l.flow_key AND j.id >= upper(gap)
                         ORDER BY j.id, j.form LIMIT 1), due_at),
               (SELECT count(*) FROM store.pages p
                WHERE p.flow_key = l.flow_key AND p.error IS NOT NULL AND p.asked && gap),
               (SELECT p.error FROM store.pages p
                WHERE p.flow_key = l.flow_key AND p.error IS NOT NULL AND p.asked && gap
                ORDER BY p.page_key DESC LIMIT 1)
        FROM store.ledger l JOIN store.flows USING (flow_key)
        CROSS JOIN LATERAL unnest(
            int8multirange(int8range(1, due, '[]')) - streamed - listed
        ) AS gap
        WHERE due > 0
        """,
    )
    _create_view(
        "doubts",
        "The ranges of ids whose messages may have changed while nobody listened, and that were "
        "not listed since; the archiver lists them again, the newest first.",
        {
            "flow": FLOW,
            "from_id": "the first id of the range",
            "to_id": "the last id of the range",
        },
        """
        SELECT path, lower(range), upper(range) - 1
        FROM store.ledger JOIN store.flows USING (flow_key)
        CROSS JOIN LATERAL unnest(doubted) AS range
        """,
    )


def downgrade() -> None:
    op.execute("DROP SCHEMA archive CASCADE")
    op.drop_table("users", schema="store")
    op.drop_table("threads", schema="store")
    op.drop_index("signals_at", table_name="signals", schema="store")
    op.drop_table("signals", schema="store")
    op.drop_table("sightings", schema="store")
    op.drop_table("revisions", schema="store")
    op.drop_index("rejects_digest", table_name="rejects", schema="store")
    op.drop_table("rejects", schema="store")
    op.drop_index("pages_flow", table_name="pages", schema="store")
    op.drop_index(
        "pages_failed",
        table_name="pages",
        schema="store",
        postgresql_where=sa.text("error IS NOT NULL"),
    )
    op.drop_table("pages", schema="store")
    op.drop_table("messages", schema="store")
    op.drop_table("ledger", schema="store")
    op.drop_index(
        "journal_target",
        table_name="journal",
        schema="store",
        postgresql_where=sa.text("target_id IS NOT NULL"),
    )
    op.drop_table("journal", schema="store")
    op.drop_index("flows_path", table_name="flows", schema="store")
    op.drop_table("flows", schema="store")
