"""What the archive does not know for sure: gaps, doubts, and flows whose newest id is unknown."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import text

from archiver.store.connection import Transaction

UNTOLD = "its newest message is not known"
"""What is said of a flow if the service does not tell its newest message."""

UNMEASURED = "its newest message was never requested"


class Gap(Struct, frozen=True, kw_only=True):
    """A range of ids that nothing proves."""

    flow: str
    from_id: int
    to_id: int
    found_at: datetime | None
    attempts: int
    """How many requests for it have failed."""
    last_error: str | None


class Doubt(Struct, frozen=True, kw_only=True):
    """A range of ids whose messages may have changed while nobody listened."""

    flow: str
    from_id: int
    to_id: int


class UnknownEnds(Struct, frozen=True):
    """Flows of which the newest id is not known, by path, with the reason."""

    untold: Mapping[str, str]
    """Flows in which there may be newer messages, since the service does not tell the newest."""
    unmeasured: Mapping[str, str]
    """Of the others, flows for which nobody has found out how far their ids go."""


async def gaps(tx: Transaction, flows: Sequence[str]) -> list[Gap]:
    """The gaps of these flows, the newest of each first."""
    rows = await tx.execute(_GAPS, {"flows": list(flows)})
    return [Gap(**row) for row in rows.mappings()]


async def doubts(tx: Transaction, flows: Sequence[str]) -> list[Doubt]:
    """The doubts of these flows, the newest of each first."""
    rows = await tx.execute(_DOUBTS, {"flows": list(flows)})
    return [Doubt(**row) for row in rows.mappings()]


async def untold(tx: Transaction, flow_keys: Collection[int]) -> dict[int, str]:
    """By flow key: why nobody knows what is new in it; other flows are left out."""
    rows = await tx.execute(_UNTOLD, {"keys": list(flow_keys)})
    return {row.flow_key: row.not_told for row in rows}


async def unmeasured(tx: Transaction, flow_keys: Collection[int]) -> dict[int, str]:
    """By flow key: why it is not known how far its ids go; other flows are left out.

    A flow of which nothing is kept is included if it was ever listed and nobody has found it empty.
    This may be one that was disabled or left before anybody asked, and holds years of messages.
    """
    rows = await tx.execute(_UNMEASURED, {"keys": list(flow_keys)})
    return {row.flow_key: _why_unmeasured(row.joined, row.disabled) for row in rows}


async def unknown_ends(tx: Transaction, paths: Mapping[int, str]) -> UnknownEnds:
    """Of the flows in *paths* (paths by key), those that may hold more than the ledger knows of."""
    no_news, no_measure = await untold(tx, paths), await unmeasured(tx, paths)
    return UnknownEnds(
        {path: no_news[key] for key, path in paths.items() if key in no_news},
        {
            path: no_measure[key]
            for key, path in paths.items()
            if key in no_measure.keys() - no_news.keys()
        },
    )


async def unread(tx: Transaction, flows: Collection[str]) -> dict[str, str]:
    """By path: why a flow is not read; flows that may be read are left out."""
    rows = await tx.execute(_STATES, {"flows": list(flows)})
    told = {row.path: why_unread(row.joined, row.disabled) for row in rows}
    return {path: reason for path, reason in told.items() if reason}


def why_unread(joined: bool | None, disabled: bool | None) -> str | None:
    """Why a flow that was listed with these properties is not read; None if it may be."""
    if disabled:
        return "the flow is disabled"
    return "no account can read it" if joined is False else None


def _why_unmeasured(joined: bool | None, disabled: bool | None) -> str:
    reason = why_unread(joined, disabled)
    return f"{UNMEASURED}, and {reason}" if reason else UNMEASURED


_GAPS = text("""
    SELECT flow, from_id, to_id, found_at, attempts, last_error FROM archive.gaps
    WHERE flow = ANY(:flows) ORDER BY flow, from_id DESC
""")

_DOUBTS = text("""
    SELECT flow, from_id, to_id FROM archive.doubts
    WHERE flow = ANY(:flows) ORDER BY flow, from_id DESC
""")

_STATES = text("""
    SELECT path, joined, disabled FROM store.flows WHERE path = ANY(:flows) ORDER BY path
""")

_UNTOLD = text("""
    SELECT flow_key, not_told FROM archive.flows
    WHERE flow_key = ANY(:keys) AND not_told IS NOT NULL
""")

FOUND_EMPTY = """
    EXISTS (
        SELECT FROM store.pages AS p
        WHERE p.flow_key = f.flow_key AND purpose = 'head' AND error IS NULL
    )
"""
"""The condition that a flow of which nothing is kept is empty: its newest message was requested,
and there was none."""

_UNMEASURED = text(f"""
    SELECT flow_key, joined, disabled
    FROM store.flows AS f LEFT JOIN store.ledger AS l USING (flow_key)
    WHERE flow_key = ANY(:keys) AND coalesce(due, 0) = 0
      AND (EXISTS (SELECT FROM store.journal AS j WHERE j.flow_key = f.flow_key)
           OR joined IS NOT NULL AND NOT {FOUND_EMPTY})
""")  # noqa: S608
