"""Everything that is known about one id of a flow."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import text

from archiver.domain.facts import BEFORE_ALL
from archiver.store.connection import Transaction

Fields = Mapping[str, Any]


class PageTold(Struct, frozen=True, kw_only=True):
    """A request for a page."""

    page: int
    purpose: str
    run: str
    asked: tuple[int, int]
    proven: tuple[int, int] | None
    """The first and the last id; if there is an error, not all ids between them."""
    messages: int
    requested_at: datetime
    error: str | None


class Form(Struct, frozen=True, kw_only=True):
    """A form in which the event was received."""

    form: int
    witness: str
    event: str
    user_id: str | None
    received_at: datetime
    as_of: int
    seen_again_at: datetime | None
    """When a listing last showed the same form again; None if none did, or only an imported file,
    whose time is not known."""
    seen_again_as_of: int | None
    """The position of that listing or file; None if nothing showed the form again."""
    payload: str
    page: PageTold | None
    """The page that brought it, if known."""


class Targeting(Struct, frozen=True, kw_only=True):
    """An event that changes the message."""

    id: int
    event: str
    user_id: str | None
    sent_at: datetime | None
    witness: str
    received_at: datetime


class Proof(Struct, frozen=True, kw_only=True):
    """What the ledger says about the id."""

    streamed: bool
    listed: bool
    doubted: bool
    due: int
    newest_id: int
    """The newest known id of the flow."""
    failures: int
    """How many requests for it have failed."""
    last_error: str | None
    page: PageTold | None
    """The last page that proved it. A page with an error is given only if no other is known, and it
    may not have proven this id."""


async def forms(tx: Transaction, flow_key: int, id_: int) -> list[Form]:
    """The forms in which the event *id_* was received."""
    rows = await tx.execute(_FORMS, {"flow_key": flow_key, "id": id_, "before_all": BEFORE_ALL})
    return [
        Form(**row, page=await _page_of(tx, flow_key, id_, row))
        for row in map(dict, rows.mappings().all())
    ]


async def targeting(tx: Transaction, flow_key: int, id_: int) -> list[Targeting]:
    """The events that change the message *id_*, in the order of their ids."""
    rows = await tx.execute(_TARGETING, {"flow_key": flow_key, "id": id_})
    return [Targeting(**row) for row in rows.mappings()]


async def proof(tx: Transaction, flow_key: int, id_: int) -> Proof:
    """What the ledger says about the id."""
    asked = {"flow_key": flow_key, "id": id_}
    row = (await tx.execute(_PROOF, asked)).mappings().one()
    page = (await tx.execute(_LAST_PROOF, asked)).mappings().first()
    return Proof(**row, page=_page(page) if page else None)


async def message(tx: Transaction, flow: str, id_: int) -> Fields | None:
    """The message's row in ``archive.messages``."""
    return await _first(tx, _MESSAGE, {"flow": flow, "id": id_})


async def thread(tx: Transaction, flow: str, thread_id: str) -> Fields | None:
    """The thread's row in ``archive.threads``."""
    return await _first(tx, _THREAD, {"flow": flow, "id": thread_id})


async def revisions(tx: Transaction, flow: str, id_: int) -> Sequence[Fields]:
    """The message's rows in ``archive.revisions``."""
    rows = await tx.execute(_REVISIONS, {"flow": flow, "id": id_})
    return [dict(row) for row in rows.mappings()]


async def _first(tx: Transaction, statement: Any, asked: Mapping[str, Any]) -> Fields | None:
    row = (await tx.execute(statement, asked)).mappings().first()
    return dict(row) if row else None


async def _page_of(
    tx: Transaction, flow_key: int, id_: int, form: Mapping[str, Any]
) -> PageTold | None:
    if form["witness"] != "list":
        return None
    asked = {
        "flow_key": flow_key,
        "id": id_,
        "at": form["received_at"],
        "as_of": form["as_of"],
    }
    row = (await tx.execute(_PAGE, asked)).mappings().first()
    return _page(row) if row else None


def _page(row: Any) -> PageTold:
    proven = None if row["proven_from"] is None else (row["proven_from"], row["proven_to"])
    return PageTold(
        page=row["page_key"],
        purpose=row["purpose"],
        run=row["run"],
        asked=(row["asked_from"], row["asked_to"]),
        proven=proven,
        messages=row["messages"],
        requested_at=row["requested_at"],
        error=row["error"],
    )


_FORMS = text("""
    SELECT form, witness, event, user_id, received_at, j.as_of, CAST(payload AS text) AS payload,
           CASE WHEN s.shown_at > :before_all THEN s.shown_at END AS seen_again_at,
           s.as_of AS seen_again_as_of
    FROM store.journal AS j LEFT JOIN store.sightings AS s USING (flow_key, id, form)
    WHERE flow_key = :flow_key AND id = :id ORDER BY form
""")

_TARGETING = text("""
    SELECT id, event, user_id, sent_at, witness, received_at FROM store.journal
    WHERE flow_key = :flow_key AND target_id = :id ORDER BY id, form
""")

_PROOF = text("""
    SELECT streamed @> CAST(:id AS bigint) AS streamed, listed @> CAST(:id AS bigint) AS listed,
           doubted @> CAST(:id AS bigint) AS doubted, due,
           greatest(due, (SELECT id FROM store.journal AS j WHERE j.flow_key = l.flow_key
                          ORDER BY id DESC LIMIT 1)) AS newest_id,
           failures, last_error
    FROM store.ledger AS l
    CROSS JOIN LATERAL (
        SELECT count(*) AS failures,
               (array_agg(error ORDER BY page_key DESC))[1] AS last_error
        FROM store.pages AS p
        WHERE p.flow_key = l.flow_key AND error IS NOT NULL AND asked @> CAST(:id AS bigint)
    ) AS failed
    WHERE l.flow_key = :flow_key
""")

_PAGE_FIELDS = """
    SELECT page_key, purpose, CAST(run AS text) AS run, lower(asked) AS asked_from,
           upper(asked) - 1 AS asked_to, lower(proven) AS proven_from,
           upper(proven) - 1 AS proven_to, messages, requested_at, error
    FROM store.pages WHERE flow_key = :flow_key
"""

# The position must match too: if the clock was put back, another page may have the same time.
_PAGE = text(f"""
    {_PAGE_FIELDS} AND asked @> CAST(:id AS bigint) AND messages > 0 AND requested_at <= :at
    AND greatest(as_of, CAST(:id AS bigint)) = :as_of
    ORDER BY requested_at DESC LIMIT 1
""")

_IS_LISTED = (
    "SELECT FROM store.ledger AS l WHERE l.flow_key = :flow_key AND listed @> CAST(:id AS bigint)"
)
_LAST_PROOF = text(f"""
    {_PAGE_FIELDS} AND proven @> CAST(:id AS bigint) AND EXISTS ({_IS_LISTED})
    ORDER BY error IS NOT NULL, page_key DESC LIMIT 1
""")

_MESSAGE = text("SELECT * FROM archive.messages WHERE flow = :flow AND id = :id")
_THREAD = text("SELECT * FROM archive.threads WHERE flow = :flow AND thread_id = :id")
_REVISIONS = text("""
    SELECT revision, kind, at, user_id, content, tags FROM archive.revisions
    WHERE flow = :flow AND message_id = :id ORDER BY ordinal
""")
