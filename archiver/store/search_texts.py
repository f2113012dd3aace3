"""Filling `texts`: the texts of messages and the marks by which filters find them."""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from msgspec import Struct
from sqlalchemy import text

from archiver.domain.query_text import LONGEST_TEXT
from archiver.store import schema
from archiver.store.bulk import (
    Key,
    bigint,
    integer,
    keys_of,
    moment,
    moments,
    numbers,
    texts,
    tsvector,
    tsvectors,
)
from archiver.store.connection import Transaction
from archiver.store.fetching import Query, fetch
from archiver.store.rows import Rows, add_rows

MOST_EARLIER_LETTERS = 1_000_000
"""How much of a message's earlier texts is searched, the oldest first. Later ones can be found only
while they are the present text."""
LAST_HOUR = 2**27 - 1
EPOCH = datetime.fromtimestamp(0, UTC)
"""The time of messages without one, which are in no span of time. A message that was really sent at
this time is put just after it."""
_EPOCH_AT = moment(EPOCH) or 0
_HOUR = 3_600_000_000


class Said(Struct, frozen=True):
    """What matters of a stored message for the search; the fields are the columns of `_SAID`."""

    flow_key: int
    id: int
    event: str
    user_id: str | None
    sent_at: datetime | None
    content: str
    tags: Sequence[str]
    thread_id: str | None
    is_edited: bool
    is_deleted: bool
    file_names: Sequence[str]
    has_files: bool
    has_reactions: bool
    external_user_name: str | None
    earlier: Sequence[str]
    """Texts that it had, each once, the oldest first; as many as are searched."""
    last: str
    """The last text of a deleted message; empty for others."""
    is_searched: bool | None
    """Whether `texts` has rows of it; None if not."""


class Searched(NamedTuple):
    """One row of `texts`, with values in the form that COPY takes."""

    flow_key: int
    message_id: int
    ordinal: int
    hour: int
    said_at: int
    spaced: str
    lexemes: bytes

    @property
    def key(self) -> Key:
        """The key of its message."""
        return self.flow_key, self.message_id


def searched(message: Said, ordinal: int, spaced: str, found: Collection[bytes]) -> Searched:
    """The row for a text of *message*: *spaced* is the text, *found* the lexemes that find it.

    Raises:
        psycopg.DataError: the lexemes are more than Postgres allows.
    """
    at = moment(message.sent_at or EPOCH) or 0
    if message.sent_at == EPOCH:
        at += 1
    hour = min(max((at - _EPOCH_AT) // _HOUR, 0), LAST_HOUR)
    return Searched(message.flow_key, message.id, ordinal, hour, at, spaced, tsvector(found))


async def size_bytes(tx: Transaction, keys: Iterable[Key]) -> int:
    """The total size of the texts, with earlier ones, of the stored messages among *keys*."""
    ((size,),) = await fetch(tx, _SIZE, keys_of(keys))
    return int(size)


async def said(tx: Transaction, keys: Iterable[Key]) -> list[Said]:
    """The stored messages among *keys*, with as much of their texts as is searched."""
    asked = {
        **keys_of(keys),
        "longest": integer(LONGEST_TEXT),
        "most": bigint(MOST_EARLIER_LETTERS),
    }
    return [Said(*row) for row in await fetch(tx, _SAID, asked)]


async def stems(tx: Transaction, words: Sequence[str], *, language: str) -> list[Sequence[str]]:
    """The lexemes that Postgres makes of each of *words*, in the same order."""
    # Its parser ends a word at every space, so the lexemes of a text are those of its words.
    found = await fetch(tx, _STEMS, {"words": texts(words), "language": language.encode()})
    return [its for (its,) in found]


async def add(tx: Transaction, rows: Sequence[Searched]) -> None:
    """Insert *rows* of messages that have none in `texts` yet."""
    await add_rows(tx, Rows(schema.texts, Searched._fields, rows))


async def replace(tx: Transaction, keys: Iterable[Key], rows: Sequence[Searched]) -> None:
    """Replace the rows of the messages *keys* by *rows*; rows that stay the same are left alone."""
    columns = {
        "its_flows": numbers([row.flow_key for row in rows], bits=32),
        "its_ids": numbers([row.message_id for row in rows], bits=64),
        "its_ordinals": numbers([row.ordinal for row in rows], bits=32),
    }
    await tx.execute(_REMOVE, {**keys_of(keys), **columns})
    columns |= {
        "hours": numbers([row.hour for row in rows], bits=32),
        "times": moments([row.said_at for row in rows]),
        "texts": texts([row.spaced for row in rows]),
        "lexemes": tsvectors([row.lexemes for row in rows]),
    }
    if rows:
        await tx.execute(_PUT, columns)


# Postgres knows the length of a text that it stores out of line (TOAST) without reading it.
_SIZE = Query.of("""
    SELECT CAST(coalesce(sum(octet_length(m.content) + CASE WHEN m.revisions = 0 THEN 0 ELSE
               (SELECT coalesce(sum(octet_length(r.content)), 0) FROM store.revisions AS r
                WHERE r.flow_key = m.flow_key AND r.message_id = m.id)
           END), 0) AS bigint)
    FROM unnest(CAST(%(flow_keys)s AS integer[]), CAST(%(ids)s AS bigint[])) AS asked (flow_key, id)
    CROSS JOIN LATERAL (
        SELECT flow_key, id, content, revisions FROM store.messages AS its
        WHERE its.flow_key = asked.flow_key AND its.id = asked.id OFFSET 0
    ) AS m
""")

_SAID = Query.of("""
    SELECT m.flow_key, m.id, m.event, m.user_id, m.sent_at,
           left(m.content, CAST(%(longest)s AS integer)) AS content, m.tags, m.thread_id,
           m.edits > 0 AS is_edited, m.deleted_at IS NOT NULL AS is_deleted,
           CASE WHEN m.attachments IS NULL THEN '{}' ELSE
               array(SELECT file ->> 'file_name' FROM jsonb_array_elements(m.attachments) AS file
                     WHERE file ->> 'file_name' <> '')
           END AS file_names,
           m.attachments IS NOT NULL AS has_files, m.reactions IS NOT NULL AS has_reactions,
           m.external_user_name,
           CASE WHEN m.revisions = 0 THEN '{}' ELSE
               array(SELECT said FROM (
                         SELECT said, first, sum(length(said)) OVER (ORDER BY first) AS so_far
                         FROM (SELECT left(content, CAST(%(longest)s AS integer)) AS said,
                                      min(ordinal) AS first
                               FROM store.revisions AS r
                               WHERE r.flow_key = m.flow_key AND r.message_id = m.id
                                 AND content <> '' GROUP BY said) AS alike
                     ) AS its WHERE so_far <= CAST(%(most)s AS bigint) ORDER BY first)
           END AS earlier,
           CASE WHEN m.revisions = 0 OR m.deleted_at IS NULL THEN '' ELSE
               coalesce((SELECT left(content, CAST(%(longest)s AS integer))
                         FROM store.revisions AS r
                         WHERE r.flow_key = m.flow_key AND r.message_id = m.id AND content <> ''
                         ORDER BY ordinal DESC LIMIT 1), '')
           END AS last,
           (SELECT true FROM store.texts AS t
            WHERE t.flow_key = m.flow_key AND t.message_id = m.id LIMIT 1) AS is_searched
    FROM unnest(CAST(%(flow_keys)s AS integer[]), CAST(%(ids)s AS bigint[])) AS asked (flow_key, id)
    CROSS JOIN LATERAL (
        SELECT * FROM store.messages AS its
        WHERE its.flow_key = asked.flow_key AND its.id = asked.id OFFSET 0
    ) AS m
""")

_REMOVE = text("""
    DELETE FROM store.texts AS t
    USING unnest(CAST(:flow_keys AS integer[]), CAST(:ids AS bigint[])) AS asked (flow_key, id)
    WHERE t.flow_key = asked.flow_key AND t.message_id = asked.id
      AND NOT EXISTS (
          SELECT FROM unnest(CAST(:its_flows AS integer[]), CAST(:its_ids AS bigint[]),
                             CAST(:its_ordinals AS integer[])) AS kept (flow_key, id, ordinal)
          WHERE kept.flow_key = t.flow_key AND kept.id = t.message_id
            AND kept.ordinal = t.ordinal)
""")

_PUT = text("""
    INSERT INTO store.texts AS t
        (flow_key, message_id, ordinal, hour, said_at, spaced, lexemes)
    SELECT * FROM unnest(
        CAST(:its_flows AS integer[]), CAST(:its_ids AS bigint[]), CAST(:its_ordinals AS integer[]),
        CAST(:hours AS integer[]), CAST(:times AS timestamptz[]), CAST(:texts AS text[]),
        CAST(:lexemes AS tsvector[]))
    ON CONFLICT (flow_key, message_id, ordinal) DO UPDATE
    SET hour = excluded.hour, said_at = excluded.said_at,
        spaced = excluded.spaced, lexemes = excluded.lexemes
    WHERE (t.said_at, t.spaced, t.lexemes)
          IS DISTINCT FROM (excluded.said_at, excluded.spaced, excluded.lexemes)
""")

_STEMS = Query.of("""
    SELECT tsvector_to_array(to_tsvector(CAST(CAST(%(language)s AS text) AS regconfig), word))
    FROM unnest(CAST(%(words)s AS text[])) WITH ORDINALITY AS asked (word, n) ORDER BY n
""")
