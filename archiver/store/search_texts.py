"""Filling `texts`: what messages say, and what marks them."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from archiver.domain.query_text import LONGEST_TEXT
from archiver.store.bulk import Key, keys_of, moments, numbers, texts

LAST_HOUR = 2**27 - 1
EPOCH = datetime.fromtimestamp(0, UTC)
BETWEEN = "\x1f"


class Said(Struct, frozen=True):
    """A stored message, as far as it matters to whoever looks for it; the columns of `_SAID`."""

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
    """Texts that it had before; the oldest first."""


class Searched(Struct, frozen=True, kw_only=True):
    """One row of `texts`."""

    flow_key: int
    message_id: int
    ordinal: int
    said_at: datetime | None
    spaced: str
    words: str
    """What stems are made of."""
    lexemes: Iterable[str]


async def said(tx: AsyncConnection, keys: Iterable[Key]) -> list[Said]:
    """The stored messages among *keys*; of texts, as much as is searched."""
    asked = {**keys_of(keys), "longest": LONGEST_TEXT}
    return [Said(*row) for row in await tx.execute(_SAID, asked)]


async def put(
    tx: AsyncConnection, keys: Iterable[Key], rows: Sequence[Searched], *, language: str
) -> None:
    """Make *rows* all that is searched of the messages *keys*; what stays alike is not written."""
    columns: dict[str, Any] = {
        "its_flows": numbers([row.flow_key for row in rows], bits=32),
        "its_ids": numbers([row.message_id for row in rows], bits=64),
        "its_ordinals": numbers([row.ordinal for row in rows], bits=32),
    }
    await tx.execute(_REMOVE, {**keys_of(keys), **columns})
    columns |= {
        "times": moments(row.said_at or EPOCH for row in rows),
        "texts": texts([row.spaced for row in rows]),
        "words": texts([row.words for row in rows]),
        "lexemes": texts([BETWEEN.join(row.lexemes) for row in rows]),
        "language": language,
    }
    if rows:
        await tx.execute(_PUT, columns)


_SAID = text("""
    SELECT m.flow_key, m.id, m.event, m.user_id, m.sent_at,
           left(m.content, :longest) AS content, m.tags, m.thread_id,
           m.edits > 0 AS is_edited, m.deleted_at IS NOT NULL AS is_deleted,
           CASE WHEN m.attachments IS NULL THEN '{}' ELSE
               array(SELECT file ->> 'file_name' FROM jsonb_array_elements(m.attachments) AS file
                     WHERE file ->> 'file_name' <> '')
           END AS file_names,
           m.attachments IS NOT NULL AS has_files, m.reactions IS NOT NULL AS has_reactions,
           m.external_user_name,
           CASE WHEN m.revisions = 0 THEN '{}' ELSE
               array(SELECT left(content, :longest) FROM store.revisions AS r
                     WHERE r.flow_key = m.flow_key AND r.message_id = m.id AND content <> ''
                     ORDER BY ordinal)
           END AS earlier
    FROM unnest(CAST(:flow_keys AS integer[]), CAST(:ids AS bigint[])) AS asked (flow_key, id)
    JOIN store.messages AS m USING (flow_key, id)
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

_PUT = text(f"""
    INSERT INTO store.texts AS t
        (flow_key, message_id, ordinal, hour, said_at, spaced, lexemes)
    SELECT flow_key, id, ordinal,
           least(greatest(floor(extract(epoch FROM said_at) / 3600), 0), {LAST_HOUR}),
           said_at, spaced,
           array_to_tsvector(string_to_array(lexemes, '{BETWEEN}'))
           || strip(to_tsvector(CAST(CAST(:language AS text) AS regconfig), words))
    FROM (
        SELECT flow_key, id, ordinal, said_at, spaced, words, lexemes
        FROM unnest(CAST(:its_flows AS integer[]), CAST(:its_ids AS bigint[]),
                    CAST(:its_ordinals AS integer[]), CAST(:times AS timestamptz[]),
                    CAST(:texts AS text[]), CAST(:words AS text[]), CAST(:lexemes AS text[]))
             AS new (flow_key, id, ordinal, said_at, spaced, words, lexemes)
    ) AS made
    ON CONFLICT (flow_key, message_id, ordinal) DO UPDATE
    SET hour = excluded.hour, said_at = excluded.said_at,
        spaced = excluded.spaced, lexemes = excluded.lexemes
    WHERE (t.said_at, t.spaced, t.lexemes)
          IS DISTINCT FROM (excluded.said_at, excluded.spaced, excluded.lexemes)
""")  # noqa: S608
