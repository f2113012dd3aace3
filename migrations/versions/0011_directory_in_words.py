"""Say in the contract what the service tells about flows and people, and what it leaves out.

The comments promised the organization as it appears in URLs, and to show which flows and accounts
were closed. But the service lists the organization's name, and does not list what is closed.

Only comments change, whatever the size of the archive.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

COMMENTS = {
    "COLUMN archive.flows.organization": (
        (
            "its organization, as URLs name it; null for a private conversation, and until the "
            "service has listed the flow"
        ),
        (
            "the name of its organization for people, which may be another than the one in flow; "
            "null for a private conversation, and until the service has listed the flow"
        ),
    ),
    "COLUMN archive.flows.disabled": (
        "whether it was put away at the service; null until listed",
        (
            "whether it was put away when the service last listed it; null until listed. What is "
            "put away may not be listed any more: then joined is false"
        ),
    ),
    "COLUMN archive.users.disabled": (
        "whether the account is closed; null when the service does not tell",
        (
            "whether the account was closed when the service last listed it; null when it does not "
            "tell. Who is gone may not be listed any more: then last_seen_at stays behind"
        ),
    ),
}


def upgrade() -> None:
    for subject, (_, comment) in COMMENTS.items():
        op.execute(f"COMMENT ON {subject} IS '{comment}'")


def downgrade() -> None:
    for subject, (comment, _) in COMMENTS.items():
        op.execute(f"COMMENT ON {subject} IS '{comment}'")
