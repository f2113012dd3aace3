"""Show in the contract for which flows nobody knows what is new.

If the service does not tell the newest message of a flow, no gap can be shown either: nobody knows
whether something is missing. So far, only commands said so.

Only the catalogue changes, whatever the size of the archive.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

FLOWS = """
    CREATE {how} VIEW archive.flows AS
    SELECT path AS flow, flow_id, organization, name, access_mode, joined, disabled, first_seen_at,
           last_seen_at, flow_key {told}
    FROM store.flows f
"""
# Few requests fail, and these have an index of their own.
NOT_TOLD = """, (
    SELECT p.error FROM store.pages p
    WHERE p.flow_key = f.flow_key AND p.purpose = 'head' AND p.error IS NOT NULL AND NOT EXISTS (
        SELECT FROM store.pages later
        WHERE later.flow_key = p.flow_key AND later.purpose = 'head'
          AND (later.requested_at, later.page_key) > (p.requested_at, p.page_key)
    )
) AS not_told
"""
COMMENT = (
    "why nobody knows what is new in the flow, as the service does not tell it: then gaps do not "
    "tell what may be missing there; null when it does"
)
COMMENTS = """
    SELECT coalesce('COLUMN archive.flows.' || attname, 'VIEW archive.flows'),
           quote_literal(description)
    FROM pg_description
    LEFT JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid AND objsubid > 0
    WHERE objoid = 'archive.flows'::regclass AND attname IS DISTINCT FROM 'not_told'
"""


def upgrade() -> None:
    op.execute(FLOWS.format(how="OR REPLACE", told=NOT_TOLD))
    op.execute(sa.text(f"COMMENT ON COLUMN archive.flows.not_told IS '{COMMENT}'"))


def downgrade() -> None:
    told = op.get_bind().exec_driver_sql(COMMENTS).all()
    op.execute("DROP VIEW archive.flows")
    op.execute(FLOWS.format(how="", told=""))
    for subject, comment in told:
        op.get_bind().exec_driver_sql(f"COMMENT ON {subject} IS {comment}")
