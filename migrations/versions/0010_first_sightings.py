"""Keep the first listing that showed a form, in addition to the newest.

A change that only a listing showed is dated by the listing. Only the newest listing was kept, so
each further one made the change appear newer. Rows that exist already have null, and count as first
seen when the form was journalled; ``archiver rebuild`` brings histories into line with that.

Columns are added without a default, which rewrites no row.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

UNKNOWN = (
    "null: of what an older release kept; the form was first listed as the journal tells, or "
    "nobody knows when"
)


def upgrade() -> None:
    op.add_column("sightings", sa.Column("first_as_of", sa.BigInteger()), schema="store")
    first_shown_at = sa.Column("first_shown_at", sa.DateTime(timezone=True), comment=UNKNOWN)
    op.add_column("sightings", first_shown_at, schema="store")


def downgrade() -> None:
    op.drop_column("sightings", "first_shown_at", schema="store")
    op.drop_column("sightings", "first_as_of", schema="store")
