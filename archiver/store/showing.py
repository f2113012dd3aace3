"""What the demo shows while an archive grows, and what it compares with the simulator."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import func, select, text

from archiver.domain.coverage import Ranges
from archiver.store.connection import Transaction
from archiver.store.coverage import Standing, standings
from archiver.store.schema import flows, journal, messages


class FlowShown(Struct, frozen=True, kw_only=True):
    """One flow or private conversation at one moment."""

    flow_key: int
    path: str
    events: int
    messages: int
    standing: Standing

    @property
    def gaps(self) -> Ranges:
        """The ids that are due and not proven."""
        due = self.standing.due
        return Ranges(((1, due),)) - self.standing.proven if due else Ranges()

    @property
    def proven(self) -> int:
        """How many of the ids that are due are proven."""
        return self.standing.due - self.gaps.size()


class Happening(Struct, frozen=True, kw_only=True):
    """An event that brought a message or changed one."""

    flow_key: int
    path: str
    id: int
    """The id of the event, which grows within the flow."""
    event: str
    message_id: int
    nick: str | None
    at: datetime | None
    kind: str
    """The kind of the message."""
    content: str
    """The present text of the message."""
    before: str | None
    """The text of the message before the event, if the event changed the message."""
    is_deleted: bool


async def flows_shown(tx: Transaction) -> list[FlowShown]:
    """Every flow of the archive, in the order in which it became known."""
    found = await standings(tx)
    events = dict(await _counts(tx, journal.c.flow_key, journal.c.form == 0))
    stored = dict(await _counts(tx, messages.c.flow_key))
    rows = await tx.execute(select(flows.c.flow_key, flows.c.path).order_by(flows.c.flow_key))
    return [
        FlowShown(
            flow_key=key,
            path=path,
            events=events.get(key, 0),
            messages=stored.get(key, 0),
            standing=found.get(key, Standing()),
        )
        for key, path in rows
    ]


async def _counts(tx: Transaction, key: Any, *conditions: Any) -> Sequence[tuple[int, int]]:
    rows = await tx.execute(select(key, func.count()).where(*conditions).group_by(key))
    return [(flow_key, count) for flow_key, count in rows]


# Reads the primary key from the newest id down, and nothing older than *after*.
_HAPPENINGS = text(
    """
    SELECT j.flow_key, f.path, j.id, j.event, m.id AS message_id, u.nick, j.sent_at AS at,
           m.event AS kind, m.content, before.content AS before,
           m.deleted_at IS NOT NULL AS is_deleted
    FROM unnest(CAST(:keys AS integer[]), CAST(:after AS bigint[])) AS since (flow_key, id)
    CROSS JOIN LATERAL (
        SELECT * FROM store.journal one
        WHERE one.flow_key = since.flow_key AND one.id > since.id AND one.form = 0
        ORDER BY one.flow_key DESC, one.id DESC LIMIT :most
    ) j
    JOIN store.flows f ON f.flow_key = j.flow_key
    JOIN store.messages m ON m.flow_key = j.flow_key AND m.id = coalesce(j.target_id, j.id)
    LEFT JOIN store.users u ON u.user_id = m.user_id
    LEFT JOIN LATERAL (
        SELECT r.content FROM store.revisions r
        WHERE r.flow_key = m.flow_key AND r.message_id = m.id AND r.revision < j.id
        ORDER BY r.ordinal DESC LIMIT 1
    ) before ON j.target_id IS NOT NULL
    ORDER BY j.received_at, j.id
    """
)


async def happenings(tx: Transaction, after: Mapping[int, int], *, most: int) -> list[Happening]:
    """The newest *most* events of each flow with ids above that in *after*, by flow key."""
    asked = {"keys": list(after), "after": list(after.values()), "most": most}
    rows = await tx.execute(_HAPPENINGS, asked)
    return [Happening(**row) for row in rows.mappings()]


async def messages_shown(tx: Transaction) -> Sequence[Mapping[Any, Any]]:
    """All rows of ``archive.messages``."""
    return list((await tx.execute(text("SELECT * FROM archive.messages"))).mappings())


async def attachments_shown(tx: Transaction) -> Sequence[Mapping[Any, Any]]:
    """All rows of ``archive.attachments``."""
    return list((await tx.execute(text("SELECT * FROM archive.attachments"))).mappings())


async def threads_shown(tx: Transaction) -> Sequence[Mapping[Any, Any]]:
    """All rows of ``archive.threads``."""
    return list((await tx.execute(text("SELECT * FROM archive.threads"))).mappings())
