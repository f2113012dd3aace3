"""What a verification reads: messages as they are stored, and the events that changed them."""

from collections.abc import Collection
from datetime import datetime

from msgspec import Struct
from sqlalchemy import text

from archiver.store.connection import Transaction

TOLD_LETTERS = 80


class Seen(Struct, frozen=True, kw_only=True):
    """A stored message, with all that would make a difference to people."""

    content: str
    """The start of the text."""
    text_digest: str
    """MD5 of the content, in hexadecimal."""
    digest: str
    """A digest of the content, detail, attachments and time of the last edit."""
    event: str
    user_id: str | None
    sent_at: datetime | None
    external_user_name: str | None
    tags: tuple[str, ...]
    """The tags without read receipts; sorted, since the service's own order varies."""
    thread_id: str | None
    reactions: str
    is_deleted: bool
    as_of: int
    """The newest id that it reflects; does not count as a difference."""


async def seen(tx: Transaction, flow_key: int, first: int, last: int) -> dict[int, Seen]:
    """The stored messages from *first* to *last*."""
    asked = {"flow_key": flow_key, "first": first, "last": last, "letters": TOLD_LETTERS}
    rows = await tx.execute(_SEEN, asked)
    return {
        row.pop("id"): Seen(**(row | {"tags": tuple(row["tags"])}))
        for row in map(dict, rows.mappings())
    }


async def nth(tx: Transaction, flow_key: int, first: int, last: int, *, number: int) -> int:
    """The id of the *number*-th message from *first* on that is not deleted; *last* if none is."""
    asked = {"flow_key": flow_key, "first": first, "last": last, "before": number - 1}
    found: int | None = (await tx.execute(_NTH, asked)).scalar()
    return last if found is None else found


async def first_since(tx: Transaction, flow_key: int, since: datetime) -> int:
    """The first id from which on messages may have been sent *since* that time.

    Senders may back-date messages, so the times need not be in the order of ids: no message with a
    smaller id was sent since then, or at an unknown time.
    """
    asked = {"flow_key": flow_key, "since": since}
    before: int | None = (await tx.execute(_LAST_BEFORE, asked)).scalar()
    return (before or 0) + 1


async def changes_heard(
    tx: Transaction, flow_key: int, ids: Collection[int]
) -> dict[int, dict[str, int]]:
    """By message: the newest event of each kind by which a stream reported a change of it."""
    heard: dict[int, dict[str, int]] = {}
    for row in await tx.execute(_HEARD_OF, {"flow_key": flow_key, "ids": list(ids)}):
        heard.setdefault(row.target_id, {})[row.event] = row.newest
    return heard


async def shown(
    tx: Transaction, flow_key: int, ids: Collection[int], *, since: datetime
) -> set[int]:
    """Those of the messages *ids* that the service has shown since then, listed or individually.

    The witness ``show`` does not count: it records that a request found no such message.
    """
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

# OFFSET 0 keeps the planner from scanning up from the oldest id; there is an index by time.
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
