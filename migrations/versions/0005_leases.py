"""Record which daemon captures which flow, while several work on one archive."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

VIEWS = {
    "daemons": (
        "The daemons that work on this archive; one that ended unheard stays for some seconds.",
        {
            "daemon": "its name: the setting sharing.name, or host:process",
            "started_at": "when it was first heard of",
            "heard_at": "when it was last heard of",
            "lease_until": "from then on others take what it captures, if it is not heard of again",
            "captures": "how many flows, or private conversations of one person, it captures",
            "could_capture": "how many it could capture",
        },
        """
        SELECT name AS daemon, started_at, beat_at AS heard_at,
               beat_at + make_interval(secs => lease_seconds) AS lease_until,
               (SELECT count(*) FROM store.leases AS l WHERE l.daemon = d.daemon) AS captures,
               cardinality(sees)::bigint AS could_capture
        FROM store.daemons AS d
        """,
    ),
    "leases": (
        "Which daemon captures what.",
        {
            "flow": "organization/flow, or private/<me> for all conversations of one person",
            "daemon": "the name of the daemon",
            "taken_at": "since when",
        },
        """
        SELECT slot AS flow, d.name AS daemon, l.taken_at
        FROM store.leases AS l JOIN store.daemons AS d ON d.daemon = l.daemon
        """,
    ),
}


def upgrade() -> None:
    op.create_table(
        "daemons",
        sa.Column("daemon", postgresql.UUID(as_uuid=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "machine", sa.Text(), nullable=False, comment="the same where processes see each other"
        ),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column(
            "lease_seconds",
            sa.Double(),
            nullable=False,
            comment="who is not heard of for so long holds nothing any more",
        ),
        sa.Column(
            "sees",
            postgresql.ARRAY(sa.Text()),
            nullable=False,
            comment="what it could hold, as in leases.slot",
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("beat_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("daemon", name=op.f("daemons_pkey")),
        schema="store",
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "leases",
        sa.Column(
            "slot", sa.Text(), nullable=False, comment="the path of a flow, or private/<user>"
        ),
        sa.Column("daemon", postgresql.UUID(as_uuid=False), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("slot", name=op.f("leases_pkey")),
        schema="store",
    )
    for name, (told, columns, query) in VIEWS.items():
        op.execute(f"CREATE VIEW archive.{name} AS {query}")
        op.execute(f"COMMENT ON VIEW archive.{name} IS '{told}'")
        for column, meaning in columns.items():
            op.execute(f"COMMENT ON COLUMN archive.{name}.{column} IS '{meaning}'")


def downgrade() -> None:
    for name in VIEWS:
        op.execute(f"DROP VIEW archive.{name}")
    op.drop_table("leases", schema="store")
    op.drop_table("daemons", schema="store")
