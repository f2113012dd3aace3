"""What a verification needs to know of messages: how they stand, and what was heard of them."""

from collections.abc import Collection
from datetime import datetime

from msgspec import Struct
from sqlalchemy import text

from archiver.store.connection import Transaction

TOLD_LETTERS = 80


class Seen(Struct, frozen=True, kw_only=True):
    """A message as it is stored, as far as people would see a difference."""

    content: str
    """Its start."""
    text_digest: str
    """MD5 of the content, in hexadecimal."""
    digest: str
    """Of the content, what belongs to it, and when it was edited."""
    event: str
    user_id: str | None
    sent_at: datetime | None
    external_user_name: str | None
    tags: tuple[str, ...]
    """Without read receipts; in the order of the alphabet, since the service's own varies."""
    thread_id: str | None
    reactions: str
    is_deleted: bool
    as_of: int
    """The newest id that it reflects; no difference by itself."""


async def seen(tx: Transaction, flow_key: int, first: int, last: int) -> dict[int, Seen]:
    """The stored messages from *first* to *last*."""
    asked = {"flow_key": flow_key, "first": first, "last": last, "letters": TOLD_LETTERS}
    rows = await tx.execute(_SEEN, asked)
    return {
        row.pop("id"): Seen(**(row | {"tags": tuple(row["tags"])}))
        for row in map(dict, rows.mappings())
    }


async def nth(tx: Transaction, flow_key: int, first: int, last: int, *, number: int) -> int:
    """The id of the *number*-th message from *first* on that is there; *last* if there is none."""
    asked = {"flow_key": flow_key, "first": first, "last": last, "before": number - 1}
    found: int | None = (await tx.execute(_NTH, asked)).scalar()
    return last if found is None else found


async def first_since(tx: Transaction, flow_key: int, since: datetime) -> int:
    """The id after that of the last message before all that may have been sent since then.

    When a message was sent is what its sender says: one that is back-dated hides none before it.
    """
    asked = {"flow_key": flow_key, "since": since}
    before: int | None = (await tx.execute(_LAST_BEFORE, asked)).scalar()
    return (before or 0) + 1


async def heard_of(
    tx: Transaction, flow_key: int, ids: Collection[int]
) -> dict[int, dict[str, int]]:
    """Of each of these messages that a stream told to change: the newest event of each kind."""
    heard: dict[int, dict[str, int]] = {}
    for row in await tx.execute(_HEARD_OF, {"flow_key": flow_key, "ids": list(ids)}):
        heard.setdefault(row.target_id, {})[row.event] = row.newest
    return heard


async def shown(
    tx: Transaction, flow_key: int, ids: Collection[int], *, since: datetime
) -> set[int]:
    """Those messages that the service has shown since then, in a listing or by themselves."""
    asked = {"flow_key": flow_key, "ids": list(ids), "since": since}
    return set((await tx.execute(_SHOWN, asked)).scalars())


_SEEN = text("""
    SELECT id, left(content, :letters) AS content, md5(content) AS text_digest,
           event, user_id, sent_at, external_user_name, thread_id,
           md5(concat_ws('|', md5(content), detail, attachments, edited_at)) AS digest,
           ARRAY(SELECT tag FROM unnest(tags) AS tag
                 WHERE NOT starts_with(tag, ':unread:') ORDER BY lower(tag)) AS tags,
           coalesce(CAST(reactions AS text), '') AS reactions,
           deleted_at IS NOT NULL AS is_deleted, as_of
    FROM store.messages
    WHERE flow_key = :flow_key AND id BETWEEN :first AND :last
""")

_NTH = text("""
    SELECT id FROM store.messages
    WHERE flow_key = :flow_key AND id BETWEEN :first AND :last AND deleted_at IS NULL
    ORDER BY id OFFSET :before LIMIT 1
""")

# OFFSET 0 keeps the planner from walking up from the oldest id: an index leads to the times.
_LAST_BEFORE = text("""
    SELECT max(id) FROM store.messages
    WHERE flow_key = :flow_key AND id < coalesce(least(
        (SELECT min(id) FROM (
            SELECT id FROM store.messages
            WHERE flow_key = :flow_key AND sent_at >= :since OFFSET 0) AS recent),
        (SELECT min(id) FROM (
            SELECT id FROM store.messages
            WHERE flow_key = :flow_key AND sent_at IS NULL OFFSET 0) AS of_unknown_time)
    ), 9223372036854775807)
""")

_HEARD_OF = text("""
    SELECT target_id, event, max(id) AS newest FROM store.journal
    WHERE flow_key = :flow_key AND target_id = ANY(:ids) AND witness = 'stream'
    GROUP BY target_id, event
""")

_SHOWN = text("""
    SELECT DISTINCT id FROM store.journal LEFT JOIN store.sightings USING (flow_key, id, form)
    WHERE flow_key = :flow_key AND id = ANY(:ids) AND witness <> 'show'
      AND coalesce(shown_at, CASE WHEN witness = 'list' THEN received_at END) >= :since
""")
