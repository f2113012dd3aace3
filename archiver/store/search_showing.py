"""Search results as they are shown: messages with flow and sender, and the messages around them.

A search finds rows of `texts`. By the time the message is read here, it may have changed, or be
gone.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import text

from archiver.domain.query_text import LONGEST_TEXT
from archiver.store.bulk import Key, keys_of
from archiver.store.connection import Transaction
from archiver.store.search import Hit

NEIGHBOUR_LETTERS = 500
"""How much is shown of a message that is only near one that was found."""


class Found(Struct, frozen=True, kw_only=True):
    """A message that was found."""

    flow_key: int
    id: int
    flow: str
    event: str
    user_id: str | None
    nick: str | None
    """The sender's nick, or the name under which an integration sent the message."""
    sent_at: datetime | None
    content: str
    """Its present text; empty if it is chat that was deleted."""
    tags: Sequence[str]
    thread_id: str | None
    edited_at: datetime | None
    deleted_at: datetime | None
    file_names: Sequence[str]
    said: str = ""
    """The text that was found: the present one or an earlier one."""

    @property
    def says_other(self) -> bool:
        """Tell whether its present text differs from the one that was found."""
        return self.said != self.content


class Neighbour(Struct, frozen=True, kw_only=True):
    """A message of the same flow, right before or after one that was found."""

    id: int
    nick: str | None
    sent_at: datetime | None
    content: str | None
    """The start of its text; None if what it said at the requested moment is not known."""
    is_deleted: bool


async def read(tx: Transaction, hits: Sequence[Hit]) -> list[Found]:
    """The messages of *hits*, in the same order; those that are gone are left out."""
    asked = keys_of((hit.flow_key, hit.message_id) for hit in hits)
    rows = (await tx.execute(_FOUND, asked)).mappings()
    found = {(row["flow_key"], row["id"]): Found(**row, said=row["content"]) for row in rows}
    past = await _past(tx, [key for key, one in found.items() if one.edited_at or one.deleted_at])
    return [
        replace(one, said=_said(one, hit.ordinal, past.get(key, [])))
        for hit in hits
        if (one := found.get(key := (hit.flow_key, hit.message_id)))
    ]


def _said(one: Found, ordinal: int, past: Sequence[str]) -> str:
    """The text that has the number *ordinal* in `texts`; for a deleted message, its last one."""
    # Texts that are equal as far as they are searched are one row there.
    alike: dict[str, str] = {}
    for text_ in past:
        alike.setdefault(text_[:LONGEST_TEXT], text_)
    alike.pop(one.content[:LONGEST_TEXT], None)
    earlier = list(alike.values())
    if 0 < ordinal <= len(earlier):
        return earlier[ordinal - 1]
    return past[-1] if past and one.deleted_at and not one.content else one.content


async def _past(tx: Transaction, keys: Iterable[Key]) -> dict[Key, list[str]]:
    rows = await tx.execute(_PAST, keys_of(keys))
    return {(row.flow_key, row.id): row.texts for row in rows}


async def around(tx: Transaction, keys: Iterable[Key], *, count: int) -> dict[Key, list[Neighbour]]:
    """Up to *count* messages on either side of each of *keys*, by id, in the same flow."""
    found: dict[Key, list[Neighbour]] = {}
    asked = {**keys_of(keys), "count": count, "letters": NEIGHBOUR_LETTERS}
    for row in map(dict, (await tx.execute(_AROUND, asked)).mappings()):
        key = (row.pop("flow_key"), row.pop("near"))
        found.setdefault(key, []).append(Neighbour(**row))
    return found


_FOUND = text("""
    SELECT m.flow_key, m.id, f.path AS flow, m.event, m.user_id,
           coalesce(nullif(u.nick, ''), m.external_user_name) AS nick, m.sent_at, m.content,
           array(SELECT tag FROM unnest(m.tags) WITH ORDINALITY AS t (tag, n)
                 WHERE NOT starts_with(tag, '\\:unread\\:') ORDER BY n) AS tags,
           m.thread_id, m.edited_at, m.deleted_at,
           array(SELECT file ->> 'file_name'
                 FROM jsonb_array_elements(coalesce(m.attachments, '[]')) AS file
                 WHERE file ->> 'file_name' <> '') AS file_names
    FROM unnest(CAST(:flow_keys AS integer[]), CAST(:ids AS bigint[])) AS asked (flow_key, id)
    JOIN store.messages AS m USING (flow_key, id)
    JOIN store.flows AS f USING (flow_key)
    LEFT JOIN store.users AS u USING (user_id)
""")

_PAST = text("""
    SELECT r.flow_key, r.message_id AS id, array_agg(r.content ORDER BY r.ordinal) AS texts
    FROM unnest(CAST(:flow_keys AS integer[]), CAST(:ids AS bigint[])) AS asked (flow_key, id)
    JOIN store.revisions AS r ON r.flow_key = asked.flow_key AND r.message_id = asked.id
    WHERE r.content <> '' GROUP BY r.flow_key, r.message_id
""")

_AROUND = text("""
    SELECT asked.flow_key, asked.id AS near, n.id,
           coalesce(nullif(u.nick, ''), n.external_user_name) AS nick, n.sent_at,
           left(n.content, :letters) AS content, n.deleted_at IS NOT NULL AS is_deleted
    FROM unnest(CAST(:flow_keys AS integer[]), CAST(:ids AS bigint[])) AS asked (flow_key, id)
    CROSS JOIN LATERAL (
        (SELECT * FROM store.messages AS m
         WHERE m.flow_key = asked.flow_key AND m.id < asked.id ORDER BY m.id DESC LIMIT :count)
        UNION ALL
        (SELECT * FROM store.messages AS m
         WHERE m.flow_key = asked.flow_key AND m.id > asked.id ORDER BY m.id LIMIT :count)
    ) AS n
    LEFT JOIN store.users AS u USING (user_id)
    ORDER BY asked.flow_key, asked.id, n.id
""")
