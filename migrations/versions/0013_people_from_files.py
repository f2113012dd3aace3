"""Say in the contract that people may come from a file, and which time a signal is given.

An imported list of users may name people whom the service never listed. Signals are dropped by
their time; so if that is off by a day or more, the time when the signal was received is used.

Only comments change, whatever the size of the archive.
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

COMMENTS = {
    "VIEW archive.users": (
        "The people and integrations that the service has listed, as it showed them last.",
        (
            "The people and integrations that the service has listed, as it showed them last, and "
            "those whom only an imported list of users names."
        ),
    ),
    "COLUMN archive.users.first_seen_at": (
        "when the service first listed them, by the archiver''s clock",
        "when the archive first heard of them, by the archiver''s clock",
    ),
    "COLUMN archive.users.last_seen_at": (
        "when the service last listed them, by the archiver''s clock",
        (
            "when the service last listed them, by the archiver''s clock; of those whom it never "
            "did, when a list that names them was first imported"
        ),
    ),
    "COLUMN archive.signals.at": (
        "when it happened by the service''s clock, or was received if it does not tell",
        (
            "when it happened by the service''s clock; when it was received, if the service does "
            "not tell or is more than a day off"
        ),
    ),
}


def upgrade() -> None:
    for subject, (_, comment) in COMMENTS.items():
        op.execute(f"COMMENT ON {subject} IS '{comment}'")


def downgrade() -> None:
    for subject, (comment, _) in COMMENTS.items():
        op.execute(f"COMMENT ON {subject} IS '{comment}'")
