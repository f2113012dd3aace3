"""Find the newest request about a flow by the order of requests, not by their dates.

A request that was dated while the clock was ahead counted as the newest until that time came. So
the view went on showing that nobody knew what was new in a flow or, worse, that somebody did.

Only the catalogue changes, whatever the size of the archive.
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

FLOWS = """
    CREATE OR REPLACE VIEW archive.flows AS
    SELECT path AS flow, flow_id, organization, name, access_mode, joined, disabled, first_seen_at,
           last_seen_at, flow_key, ({not_told}) AS not_told
    FROM store.flows f
"""
# Few requests fail, so they are found by their own index, not by the order of all pages.
BY_ORDER = """
    SELECT p.error FROM (
        SELECT max(page_key) AS page_key, (array_agg(error ORDER BY page_key DESC))[1] AS error
        FROM store.pages
        WHERE flow_key = f.flow_key AND purpose = 'head' AND error IS NOT NULL
    ) AS p
    WHERE NOT EXISTS (
        SELECT FROM store.pages later
        WHERE later.flow_key = f.flow_key AND later.purpose = 'head'
          AND later.page_key > p.page_key
    )
"""
BY_CLOCK = """
    SELECT p.error FROM store.pages p
    WHERE p.flow_key = f.flow_key AND p.purpose = 'head' AND p.error IS NOT NULL AND NOT EXISTS (
        SELECT FROM store.pages later
        WHERE later.flow_key = p.flow_key AND later.purpose = 'head'
          AND (later.requested_at, later.page_key) > (p.requested_at, p.page_key)
    )
"""


def upgrade() -> None:
    op.execute(FLOWS.format(not_told=BY_ORDER))


def downgrade() -> None:
    op.execute(FLOWS.format(not_told=BY_CLOCK))
