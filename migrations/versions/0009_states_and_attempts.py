"""Say in the contract which state of a thread is shown, and which requests count as attempts.

The newest event decided about a thread, although listings show the present state of a thread on old
messages too. Of requests that failed long ago, only the last for each range is kept.

Only comments change, whatever the size of the archive.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COMMENTS = {
    "VIEW archive.threads": (
        "Threads, as the newest event that showed them said.",
        "Threads, in the state that the service dates last.",
    ),
    "COLUMN archive.gaps.attempts": (
        "how many requests for it have failed",
        "how many requests for it have failed; of those of 90 days ago, the last for each range",
    ),
}


def upgrade() -> None:
    for subject, (_, comment) in COMMENTS.items():
        op.execute(f"COMMENT ON {subject} IS '{comment}'")


def downgrade() -> None:
    for subject, (comment, _) in COMMENTS.items():
        op.execute(f"COMMENT ON {subject} IS '{comment}'")
