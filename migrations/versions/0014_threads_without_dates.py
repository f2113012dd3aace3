"""For threads that the service does not date, keep the time of the event that showed them.

An official export does not date threads, nor do some events of a stream. Whatever they showed, any
state with a date outweighed it for ever. Now such a state is as new as its event.

The column is added without a default, which rewrites no row, and in a transaction of its own, so
that nobody waits while the rows of threads without a date are then updated. For each of these, an
index finds the one event that is needed. Where exports were imported, these are all their threads.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

COMMENT = "when that was sent; null where updated_at counts"
FILL = """
    UPDATE store.threads AS t SET told_at = (
        SELECT max(j.sent_at) FROM store.journal AS j
        WHERE j.flow_key = t.flow_key AND j.id = t.as_of
          AND j.sent_at >= timestamptz '2000-01-01 00:00Z'
    ) WHERE updated_at IS NULL OR updated_at < timestamptz '2000-01-01 00:00Z'
"""
MEANING = "COMMENT ON VIEW archive.threads IS '{}'"
BEFORE = "Threads, as the newest event that showed them said."
AFTER = (
    "Threads, each in its newest state: by the date that the service gives it, or, where it gives "
    "none, by that of the event that showed it."
)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE store.threads ADD COLUMN IF NOT EXISTS told_at timestamptz")
    op.execute(f"COMMENT ON COLUMN store.threads.told_at IS '{COMMENT}'")
    op.execute(FILL)
    op.execute(MEANING.format(AFTER))


def downgrade() -> None:
    op.execute(MEANING.format(BEFORE))
    op.drop_column("threads", "told_at", schema="store")
