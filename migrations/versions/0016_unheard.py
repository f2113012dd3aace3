"""Show which flows no stream is open for at present, although a daemon captures them.

While no stream of a flow is open, edits there go unheard. So far that showed only once a stream was
opened again and, until then, in the daemon's own metrics.

Also say what a date of the ledger means, now that single messages can be doubted.

Only the catalogue changes, whatever the size of the archive.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

DAEMONS = """
    CREATE {how} VIEW archive.daemons AS
    SELECT name AS daemon, started_at, beat_at AS heard_at,
           beat_at + make_interval(secs => lease_seconds) AS lease_until,
           (SELECT count(*) FROM store.leases AS l WHERE l.daemon = d.daemon) AS captures,
           cardinality(sees)::bigint AS could_capture {unheard}
    FROM store.daemons AS d
"""
COMMENT = (
    "which of the flows that it captures it does not hear, as in leases.flow: no stream of them "
    "stands, so edits there show only when one is opened again, as doubts"
)
ASSURED = "since when it is without doubt, but of single messages; null if it is not"
ASSURED_BEFORE = "when the last doubt was gone; null while there is one"
COMMENTS = """
    SELECT coalesce('COLUMN archive.daemons.' || attname, 'VIEW archive.daemons'),
           quote_literal(description)
    FROM pg_description
    LEFT JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid AND objsubid > 0
    WHERE objoid = 'archive.daemons'::regclass AND attname IS DISTINCT FROM 'unheard'
"""


def upgrade() -> None:
    op.add_column(
        "daemons",
        sa.Column(
            "unheard",
            postgresql.ARRAY(sa.Text()),
            server_default="{}",
            nullable=False,
            comment="what it holds and does not hear: no stream of it stands",
        ),
        schema="store",
    )
    op.execute(DAEMONS.format(how="OR REPLACE", unheard=", unheard"))
    op.execute(sa.text(f"COMMENT ON COLUMN archive.daemons.unheard IS '{COMMENT}'"))
    op.execute(f"COMMENT ON COLUMN store.ledger.assured_at IS '{ASSURED}'")


def downgrade() -> None:
    told = op.get_bind().exec_driver_sql(COMMENTS).all()
    op.execute("DROP VIEW archive.daemons")
    op.execute(DAEMONS.format(how="", unheard=""))
    for subject, comment in told:
        op.get_bind().exec_driver_sql(f"COMMENT ON {subject} IS {comment}")
    op.drop_column("daemons", "unheard", schema="store")
    op.execute(f"COMMENT ON COLUMN store.ledger.assured_at IS '{ASSURED_BEFORE}'")
