"""Keep the contents of files, in addition to what messages say of them.

Each file that a message names is recorded when the message is written and, for messages that are
stored already, by this migration. `archive.attachments` shows which files are kept, and why others
are not.

Also say in the contract when a comment names no message.

It takes a moment for each hundred thousand files that are named.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

# The condition lets Postgres use the index of the messages with files.
ATTACHMENTS = """
    CREATE {how} VIEW archive.attachments AS
    SELECT f.path AS flow, m.id AS message_id, a.n\\:\\:int AS position,
           a.file ->> 'file_name' AS file_name, a.file ->> 'content_type' AS content_type,
           (a.file ->> 'size_bytes')\\:\\:bigint AS file_size, a.file ->> 'path' AS path,
           {kept}
    FROM store.messages m JOIN store.flows f USING (flow_key)
    CROSS JOIN jsonb_array_elements(m.attachments) WITH ORDINALITY AS a(file, n)
    {joined}
    WHERE m.attachments IS NOT NULL
"""
KEPT = """
           k.sha256, CASE WHEN k.sha256 IS NULL THEN k.attempts END AS attempts,
           CASE WHEN k.sha256 IS NULL THEN k.error END AS last_error
"""
JOINED = """
    LEFT JOIN store.attached k ON k.flow_key = m.flow_key AND k.path = a.file ->> 'path'
"""
FILES = """
    CREATE VIEW archive.files AS SELECT sha256, size_bytes AS file_size, kept_at FROM store.files
"""
FILE_PARTS = """
    CREATE VIEW archive.file_parts AS SELECT sha256, part, bytes FROM store.file_parts
"""
NOTE_ALL = """
    INSERT INTO store.attached (flow_key, path, size_bytes)
    SELECT DISTINCT ON (m.flow_key, a.file ->> 'path')
           m.flow_key, a.file ->> 'path', (a.file ->> 'size_bytes')\\:\\:bigint
    FROM store.messages m CROSS JOIN jsonb_path_query(m.attachments, '$[*]') AS a(file)
    WHERE m.attachments IS NOT NULL AND octet_length(a.file ->> 'path') <= 1000
    ORDER BY m.flow_key, a.file ->> 'path', m.id DESC
"""
COMMENTS = {
    "VIEW archive.attachments": (
        "The files that hang on messages: what is said of them, and whether the archive has them."
    ),
    "VIEW archive.files": "What files hold, each once however many messages name it.",
    "COLUMN archive.files.sha256": "the digest of its bytes, in hexadecimal, as in attachments",
    "COLUMN archive.files.file_size": "bytes",
    "COLUMN archive.files.kept_at": "when the archive got it",
    "VIEW archive.file_parts": "The bytes of files, in parts: all of them, in order, are the file.",
    "COLUMN archive.file_parts.sha256": "which file, as in files",
    "COLUMN archive.file_parts.part": "counted from 0",
    "COLUMN archive.file_parts.bytes": "a megabyte, and of the last part what is left",
    "COLUMN archive.attachments.sha256": (
        "the digest of its bytes, which files and file_parts hold; null when they are not in "
        "the archive"
    ),
    "COLUMN archive.attachments.attempts": (
        "how often it was asked for in vain; null when it is in the archive, or nothing asks for it"
    ),
    "COLUMN archive.attachments.last_error": (
        "why it was not given when last it was asked for; null when it was never, or is in the "
        "archive"
    ),
    "COLUMN archive.messages.parent_id": (
        "the message that a comment is about, as its tag influx:ID tells; null for what is no "
        "comment, and for a comment without that tag"
    ),
}
COMMENTS_BEFORE = {
    "VIEW archive.attachments": (
        "The files that hang on messages: what is said of them, not their bytes."
    ),
    "COLUMN archive.messages.parent_id": (
        "the message that a comment is about; null for what is no comment"
    ),
}
TOLD = """
    SELECT coalesce('COLUMN archive.attachments.' || attname, 'VIEW archive.attachments'),
           quote_literal(description)
    FROM pg_description
    LEFT JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid AND objsubid > 0
    WHERE objoid = 'archive.attachments'::regclass
      AND attname IS DISTINCT FROM 'attempts' AND attname IS DISTINCT FROM 'last_error'
      AND attname IS DISTINCT FROM 'sha256'
"""
DIGEST_BEFORE = "the digest of its bytes; null when they are not in the archive"


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("sha256", sa.Text(), nullable=False, comment="of the bytes, in hexadecimal"),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column(
            "kept_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.PrimaryKeyConstraint("sha256", name="files_pkey"),
        schema="store",
    )
    op.create_table(
        "file_parts",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("part", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("bytes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", "part", name="file_parts_pkey"),
        schema="store",
    )
    # Nearly all files are compressed already.
    op.execute("ALTER TABLE store.file_parts ALTER COLUMN bytes SET STORAGE EXTERNAL")
    op.create_table(
        "attached",
        sa.Column("flow_key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True, comment="as the service tells"),
        sa.Column("sha256", sa.Text(), nullable=True, comment="null until it is kept"),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "due_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
            comment="when it is to be asked for next",
        ),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("flow_key", "path", name="attached_pkey"),
        schema="store",
    )
    op.create_index(
        "attached_due",
        "attached",
        ["due_at"],
        schema="store",
        postgresql_where=sa.text("sha256 IS NULL"),
    )
    op.execute(sa.text(NOTE_ALL))
    op.execute(sa.text(ATTACHMENTS.format(how="OR REPLACE", kept=KEPT, joined=JOINED)))
    op.execute(FILES)
    op.execute(FILE_PARTS)
    for subject, comment in COMMENTS.items():
        op.execute(sa.text(f"COMMENT ON {subject} IS '{comment}'"))


def downgrade() -> None:
    told = op.get_bind().exec_driver_sql(TOLD).all()
    op.execute("DROP VIEW archive.attachments, archive.files, archive.file_parts")
    before = ATTACHMENTS.format(how="", kept="NULL\\:\\:text AS sha256", joined="")
    op.execute(sa.text(before))
    for subject, comment in told:
        op.get_bind().exec_driver_sql(f"COMMENT ON {subject} IS {comment}")
    op.execute(f"COMMENT ON COLUMN archive.attachments.sha256 IS '{DIGEST_BEFORE}'")
    for subject, comment in COMMENTS_BEFORE.items():
        op.execute(f"COMMENT ON {subject} IS '{comment}'")
    for table in ("attached", "file_parts", "files"):
        op.drop_table(table, schema="store")
