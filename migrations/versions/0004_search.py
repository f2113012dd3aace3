"""The tables of the search, which are filled from the messages in the background."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "texts",
        sa.Column("flow_key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("message_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "ordinal",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="0 for what the message says now, else of an earlier text, counted from 1",
        ),
        sa.Column("hour", sa.Integer(), nullable=False, comment="of said_at, since 1970"),
        sa.Column(
            "said_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when the message was sent; 1970 when that is not known",
        ),
        sa.Column("spaced", sa.Text(), nullable=False, comment="the text without case and accents"),
        sa.Column(
            "lexemes",
            postgresql.TSVECTOR(),
            nullable=False,
            comment="its words, and marks of the message",
        ),
        sa.PrimaryKeyConstraint("flow_key", "message_id", "ordinal", name=op.f("texts_pkey")),
        schema="store",
    )
    op.create_table(
        "changes",
        sa.Column("change_key", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("flow_keys", postgresql.ARRAY(sa.Integer()), nullable=False),
        sa.Column(
            "ids",
            postgresql.ARRAY(sa.BigInteger()),
            nullable=False,
            comment="messages that were written and are not in texts as they are now",
        ),
        sa.Column(
            "changed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("change_key", name=op.f("changes_pkey")),
        schema="store",
    )
    op.create_table(
        "walks",
        sa.Column("flow_key", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "below",
            sa.BigInteger(),
            nullable=False,
            comment="messages with smaller ids are not in texts yet; 0 when all are",
        ),
        sa.PrimaryKeyConstraint("flow_key", name=op.f("walks_pkey")),
        schema="store",
    )
    op.create_table(
        "lexicon",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "language",
            sa.Text(),
            nullable=False,
            comment="the text search configuration of stems",
        ),
        sa.PrimaryKeyConstraint("version", name=op.f("lexicon_pkey")),
        schema="store",
    )
    _create_indexes()


def _create_indexes() -> None:
    # Cells of time, each level eight times as wide as the one before, so that a search can walk
    # backwards from the newest inside the index, however frequent a word is.
    op.execute("""
        CREATE FUNCTION store.cells(hour integer) RETURNS integer[]
        LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN ARRAY[hour, (1 << 27) + (hour >> 3), (2 << 27) + (hour >> 6),
                     (3 << 27) + (hour >> 9), (4 << 27) + (hour >> 12), (5 << 27) + (hour >> 15)]
    """)
    op.create_index("texts_hour", "texts", ["hour"], schema="store")
    op.execute("""
        CREATE INDEX texts_lexemes ON store.texts USING gin (lexemes, store.cells(hour))
        WITH (gin_pending_list_limit = 1024)
    """)
    # If the extension is missing, or may not be created, only searches for parts of words are slow.
    # Names are qualified with its schema, since the search_path includes neither the one where
    # somebody may have installed it nor the one where it could be created.
    op.execute("""
        DO $$
        DECLARE place text := coalesce(
            (SELECT quote_ident(nspname) FROM pg_extension AS extension
             JOIN pg_namespace AS schema ON schema.oid = extnamespace WHERE extname = 'pg_trgm'),
            (SELECT nspname FROM pg_namespace WHERE nspname = 'public'), 'store');
        BEGIN
            EXECUTE concat('CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA ', place);
            EXECUTE concat('CREATE INDEX texts_parts ON store.texts USING gin (spaced ', place,
                '.gin_trgm_ops, store.cells(hour)) WITH (gin_pending_list_limit = 1024)');
        EXCEPTION WHEN OTHERS THEN
            RAISE NOTICE 'no index of parts of words: %', SQLERRM;
        END $$
    """)


def downgrade() -> None:
    op.drop_table("lexicon", schema="store")
    op.drop_table("walks", schema="store")
    op.drop_table("changes", schema="store")
    op.drop_table("texts", schema="store")
    op.execute("DROP FUNCTION store.cells")
