"""Find requests for the newest message of a flow by an index of their own.

Whether nobody knows what is new in a flow was found by reading all pages since such a request last
failed. Of a flow that failed and was then closed, these are the pages of years: with a million
pages, each such flow took 0.3 s in `archive.flows`, `archiver status` and `archiver gaps`.

The index is created with ``CONCURRENTLY``, as in 0003, and is small: only such requests are in it.

Three comments of columns are more exact than before.
"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

INVALID = """
    SELECT FROM pg_index
    WHERE indexrelid = to_regclass('store.pages_heads') AND NOT indisvalid
"""


COMMENTS = {
    "archive.flows.last_seen_at": (
        "when the service last listed it, to the hour while nothing else changes; null until then"
    ),
    "archive.users.last_seen_at": (
        "when the service last listed this user, by the archiver's clock, to the hour while "
        "nothing else changes; if it never did, when a list that names the user was first imported"
    ),
    "archive.messages.revisions": (
        "number of its rows in revisions; 0, in place of 1, while it is as it was created"
    ),
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # This waits for all transactions that began before, however long, but blocks nobody.
        patience = op.get_bind().exec_driver_sql("SHOW lock_timeout").scalar_one()
        op.execute("SET lock_timeout = 0")
        if op.get_bind().exec_driver_sql(INVALID).all():
            op.execute("DROP INDEX CONCURRENTLY store.pages_heads")
        op.execute(
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS pages_heads"
            " ON store.pages (flow_key, page_key) WHERE purpose = 'head'"
        )
        op.execute(f"SET lock_timeout = '{patience}'")
    for column, comment in COMMENTS.items():
        quoted = comment.replace("'", "''")
        op.get_bind().exec_driver_sql(f"COMMENT ON COLUMN {column} IS '{quoted}'")


def downgrade() -> None:
    op.execute("DROP INDEX IF EXISTS store.pages_heads")
