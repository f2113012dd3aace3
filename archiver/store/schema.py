"""The tables, declared once; a test checks that the migrations produce exactly these.

- `journal` (each form in which an event was received, verbatim), `sightings` (when listings first
  and last showed a form that the journal already had) and `rejects` cannot be recreated.
- Neither can `files` and `file_parts`, once the service is gone. `attached` records which of the
  files that messages name are kept, and what became of the others.
- `messages`, `revisions` and `threads` are the replay of the journal; they can be dropped and
  rebuilt.
- `ledger` and `pages` hold what is proven.
- `texts` is what searches read. It is built from `messages` and `revisions` in the background;
  `changes` and `walks` record what is still to be added, and `lexicon` how it was built. (The
  arrays in `changes` are stored uncompressed, which cannot be declared here.)
- `daemons` and `leases` describe the present only: who works on the archive, and on which flows.

A flow is part of every key, so a small number stands for it in all tables.

A transaction that writes events of a flow first locks the flow's row in `ledger`. So what it reads
of the flow stays true until it commits, and rows can be copied in without another check for
conflicts.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import (
    ARRAY,
    INT8MULTIRANGE,
    INT8RANGE,
    JSONB,
    TSVECTOR,
    UUID,
)
from sqlalchemy.types import TypeEngine

SCHEMA = "store"

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s",
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
    },
)


def _time(name: str, *, optional: bool = False, comment: str | None = None) -> Column[datetime]:
    return Column(name, DateTime(timezone=True), nullable=optional, comment=comment)


def _optional(name: str, type_: type[TypeEngine[Any]]) -> Column[Any]:
    return Column(name, type_, nullable=True)


def _flow_key(*, primary_key: bool = False) -> Column[int]:
    # No foreign key: its trigger costs more than the row, and rows of `flows` are never deleted.
    return Column("flow_key", Integer, primary_key=primary_key, nullable=False, autoincrement=False)


flows = Table(
    "flows",
    metadata,
    Column("flow_key", Integer, Identity(always=True), primary_key=True),
    Column("flow_id", Text, nullable=False, unique=True, comment="Flowdock's id"),
    Column("path", Text, nullable=False, comment="organization/flow, or private/<me>/<other>"),
    _optional("organization", Text),
    _optional("name", Text),
    _optional("access_mode", Text),
    _optional("joined", Boolean),
    _optional("disabled", Boolean),
    _time("first_seen_at"),
    _time("last_seen_at", optional=True),
    Index("flows_path", "path"),
)

users = Table(
    "users",
    metadata,
    Column("user_id", Text, primary_key=True),
    _optional("nick", Text),
    _optional("name", Text),
    _optional("email", Text),
    _optional("disabled", Boolean),
    _time("first_seen_at"),
    _time("last_seen_at"),
)

journal = Table(
    "journal",
    metadata,
    _flow_key(primary_key=True),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column(
        "form",
        SmallInteger,
        primary_key=True,
        autoincrement=False,
        comment="0 for the first form in which the event was received, then counted up",
    ),
    Column("digest", UUID(as_uuid=False), nullable=False, comment="BLAKE2b of the payload"),
    Column("witness", Text, nullable=False, comment="stream, list, show or import"),
    Column("event", Text, nullable=False),
    _optional("user_id", Text),
    _time("sent_at", optional=True),
    Column("target_id", BigInteger, nullable=True, comment="the message that the event changes"),
    _time("received_at"),
    Column(
        "as_of",
        BigInteger,
        nullable=False,
        comment="up to which id it tells the state: the event's own, or a listing's head",
    ),
    Column("payload", JSON, nullable=False, comment="verbatim"),
    Index(
        "journal_target",
        "flow_key",
        "target_id",
        postgresql_where=text("target_id IS NOT NULL"),
    ),
)

sightings = Table(
    "sightings",
    metadata,
    _flow_key(primary_key=True),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("form", SmallInteger, primary_key=True, autoincrement=False),
    Column("as_of", BigInteger, nullable=False),
    _time("shown_at"),
    _optional("first_as_of", BigInteger),
    Column(
        "first_shown_at",
        DateTime(timezone=True),
        nullable=True,
        comment="null: of what an older release kept; the form was first listed as the journal "
        "tells, or nobody knows when",
    ),
)

messages = Table(
    "messages",
    metadata,
    _flow_key(primary_key=True),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("event", Text, nullable=False),
    _optional("user_id", Text),
    _time("sent_at", optional=True),
    Column("content", Text, nullable=False),
    Column("tags", ARRAY(Text), nullable=False),
    _optional("thread_id", Text),
    _optional("parent_id", BigInteger),
    _time("edited_at", optional=True),
    Column("edits", Integer, nullable=False),
    _time("deleted_at", optional=True),
    Column("removed", Boolean, nullable=False),
    Column("attachments", JSONB, nullable=True, comment="null when there are none"),
    Column("reactions", JSONB, nullable=True, comment="null when there are none"),
    _optional("app", Text),
    _optional("uuid", Text),
    _optional("external_user_name", Text),
    _optional("detail", JSONB),
    Column("as_of", BigInteger, nullable=False, comment="the newest id that this row reflects"),
    Column(
        "revisions",
        Integer,
        nullable=False,
        comment="rows in revisions; 0 while the message is as it was created",
    ),
    # The ways in which people look up messages; each index makes writing slower.
    Index("messages_sent", "flow_key", "sent_at"),
    Index("messages_user", "user_id", "sent_at"),
    Index("messages_thread", "thread_id", postgresql_where=text("thread_id IS NOT NULL")),
    Index("messages_tags", "tags", postgresql_using="gin"),
    Index("messages_files", "flow_key", "id", postgresql_where=text("attachments IS NOT NULL")),
    postgresql_with={"fillfactor": "90"},
)

revisions = Table(
    "revisions",
    metadata,
    _flow_key(primary_key=True),
    Column("message_id", BigInteger, primary_key=True, autoincrement=False),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    _time("at", optional=True),
    _optional("user_id", Text),
    _optional("content", Text),
    Column("tags", ARRAY(Text), nullable=False),
    Column("event", Text, nullable=True, comment="null: not rebuilt since it was first kept here"),
    _optional("thread_id", Text),
    _time("edited_at", optional=True),
    _optional("edits", Integer),
    _time("deleted_at", optional=True),
    _time("seen_at", optional=True),
)

files = Table(
    "files",
    metadata,
    Column("sha256", Text, primary_key=True, comment="of the bytes, in hexadecimal"),
    Column("size_bytes", BigInteger, nullable=False),
    Column("kept_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

file_parts = Table(
    "file_parts",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("bytes", LargeBinary, nullable=False),
)

attached = Table(
    "attached",
    metadata,
    _flow_key(primary_key=True),
    Column("path", Text, primary_key=True),
    Column("size_bytes", BigInteger, nullable=True, comment="as the service tells"),
    Column("sha256", Text, nullable=True, comment="null until it is kept"),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column(
        "due_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=func.now(),
        comment="when it is to be asked for next",
    ),
    _optional("error", Text),
    Index("attached_due", "due_at", postgresql_where=text("sha256 IS NULL")),
)

threads = Table(
    "threads",
    metadata,
    _flow_key(primary_key=True),
    Column("thread_id", Text, primary_key=True),
    _optional("title", Text),
    _optional("status", Text),
    _optional("external_url", Text),
    _optional("application", Text),
    _optional("activities", Integer),
    _optional("internal_comments", Integer),
    _optional("external_comments", Integer),
    _time("updated_at", optional=True),
    _optional("detail", JSONB),
    Column("as_of", BigInteger, nullable=False, comment="the event that showed it so"),
    _time("told_at", optional=True, comment="when that was sent; null where updated_at counts"),
)

signals = Table(
    "signals",
    metadata,
    Column("signal_key", BigInteger, Identity(always=True), primary_key=True),
    _optional("flow_key", Integer),
    Column("event", Text, nullable=False),
    _optional("user_id", Text),
    _time("at"),
    Column("payload", JSON, nullable=False),
    Index("signals_at", "at"),
)

rejects = Table(
    "rejects",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _time("received_at"),
    Column("origin", Text, nullable=False, comment="which stream, page or file it came by"),
    Column("reason", Text, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("digest", UUID(as_uuid=False), nullable=False, comment="BLAKE2b of origin and raw"),
    Index("rejects_digest", "digest", unique=True),
)

ledger = Table(
    "ledger",
    metadata,
    _flow_key(primary_key=True),
    Column("streamed", INT8MULTIRANGE, nullable=False, server_default=text("'{}'")),
    Column("listed", INT8MULTIRANGE, nullable=False, server_default=text("'{}'")),
    Column(
        "due",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="up to here the settling time is over: what is not proven is a gap",
    ),
    _time("due_at", optional=True),
    Column(
        "epoch",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="how often a stream of the flow was opened",
    ),
    Column(
        "doubted",
        INT8MULTIRANGE,
        nullable=False,
        server_default=text("'{}'"),
        comment="not listed since then: may have changed while nobody listened",
    ),
    Column(
        "assured_at",
        DateTime(timezone=True),
        nullable=True,
        comment="since when it is without doubt, but of single messages; null if it is not",
    ),
    postgresql_with={"fillfactor": "50"},
)

pages = Table(
    "pages",
    metadata,
    Column("page_key", BigInteger, Identity(always=True), primary_key=True),
    _flow_key(),
    Column("run", UUID(as_uuid=False), nullable=False),
    Column("purpose", Text, nullable=False, comment="backfill, audit, verify or head"),
    Column("asked", INT8RANGE, nullable=False),
    Column("proven", INT8RANGE, nullable=True, comment="null when the request failed"),
    Column("messages", Integer, nullable=False),
    Column("as_of", BigInteger, nullable=False),
    _time("requested_at"),
    Column("answered_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    _optional("error", Text),
    Index("pages_flow", "flow_key", "requested_at"),
    Index("pages_failed", "flow_key", postgresql_where=text("error IS NOT NULL")),
    Index("pages_heads", "flow_key", "page_key", postgresql_where=text("purpose = 'head'")),
)

texts = Table(
    "texts",
    metadata,
    _flow_key(primary_key=True),
    Column("message_id", BigInteger, primary_key=True, autoincrement=False),
    Column(
        "ordinal",
        Integer,
        primary_key=True,
        autoincrement=False,
        comment="0 for what the message says now, else of an earlier text, counted from 1",
    ),
    Column("hour", Integer, nullable=False, comment="of said_at, since 1970"),
    Column(
        "said_at",
        DateTime(timezone=True),
        nullable=False,
        comment="when the message was sent; 1970 when that is not known",
    ),
    Column("spaced", Text, nullable=False, comment="the text without case and accents"),
    Column("lexemes", TSVECTOR, nullable=False, comment="its words, and marks of the message"),
    Index("texts_hour", "hour"),
    Index("texts_lexemes", "lexemes", text("store.cells(hour)"), postgresql_using="gin"),
    # Exists only where the database has pg_trgm.
    Index(
        "texts_parts",
        "spaced",
        text("store.cells(hour)"),
        postgresql_using="gin",
        postgresql_ops={"spaced": "gin_trgm_ops"},
    ),
)

changes = Table(
    "changes",
    metadata,
    Column("change_key", BigInteger, Identity(always=True), primary_key=True),
    Column("flow_keys", ARRAY(Integer), nullable=False),
    Column(
        "ids",
        ARRAY(BigInteger),
        nullable=False,
        comment="messages that were written and are not in texts as they are now",
    ),
    Column("changed_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

walks = Table(
    "walks",
    metadata,
    _flow_key(primary_key=True),
    Column(
        "below",
        BigInteger,
        nullable=False,
        comment="messages with smaller ids are not in texts yet; 0 when all are",
    ),
)

lexicon = Table(
    "lexicon",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("language", Text, nullable=False, comment="the text search configuration of stems"),
)

daemons = Table(
    "daemons",
    metadata,
    Column("daemon", UUID(as_uuid=False), primary_key=True),
    Column("name", Text, nullable=False),
    Column("machine", Text, nullable=False, comment="the same where processes see each other"),
    Column("pid", Integer, nullable=False),
    Column(
        "lease_seconds",
        Double,
        nullable=False,
        comment="who is not heard of for so long holds nothing any more",
    ),
    Column("sees", ARRAY(Text), nullable=False, comment="what it could hold, as in leases.slot"),
    _time("started_at"),
    _time("beat_at"),
    Column(
        "unheard",
        ARRAY(Text),
        nullable=False,
        server_default="{}",
        comment="what it holds and does not hear: no stream of it stands",
    ),
    postgresql_with={"fillfactor": "50"},
)

leases = Table(
    "leases",
    metadata,
    Column("slot", Text, primary_key=True, comment="the path of a flow, or private/<user>"),
    Column("daemon", UUID(as_uuid=False), nullable=False),
    _time("taken_at"),
)
