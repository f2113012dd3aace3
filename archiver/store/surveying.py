"""How complete the archive is, flow by flow, in figures for monitoring.

Read every few seconds while the daemon runs, so only the ledger and the ends of indexes are used.
"""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct
from sqlalchemy import text

from archiver.store import files
from archiver.store.connection import Transaction

LAGGING_SECONDS = 60.0
"""A flow with more lag than this is behind. A busy flow always has some lag, at least the settling
time."""


class FlowSurvey(Struct, frozen=True, kw_only=True):
    """How complete one flow is."""

    flow: str
    lag_seconds: float
    """For how long the first id above all that is proven has been known; 0 if all is proven."""
    gaps: int
    unverified_ids: int
    """How many ids are old enough to be proven, and are not."""
    doubted_ids: int
    """How many ids have messages that may have changed while nobody listened."""
    oldest_gap_seconds: float
    """How long ago the oldest gap was found; 0 if there is none."""


class Survey(Struct, frozen=True, kw_only=True):
    """How complete the archive is."""

    flows: list[FlowSurvey]
    """The flows that are read; the one with the most lag first."""
    lost: list[str]
    """The paths of flows that no account can read any more, though they are not disabled."""
    files_missing: int
    """How many files messages name that are not in the archive."""
    database_bytes: int


async def survey(tx: Transaction, *, now: datetime) -> Survey:
    """Survey every flow that is read: all but those known to be left or disabled."""
    rows = await tx.execute(_FLOWS, {"now": now})
    lost = await tx.execute(_LOST)
    size = await tx.execute(text("SELECT pg_database_size(current_database())"))
    return Survey(
        flows=[FlowSurvey(**row) for row in rows.mappings()],
        lost=list(lost.scalars()),
        files_missing=await files.missing_count(tx),
        database_bytes=int(size.scalar_one()),
    )


async def events_beyond(tx: Transaction, heads: Mapping[str, int]) -> dict[str, int]:
    """By path of a flow: how many events have ids above the one that *heads* gives for it."""
    asked = {"paths": list(heads), "ids": list(heads.values())}
    rows = await tx.execute(_BEYOND, asked)
    return {row.path: row.events for row in rows}


_BEYOND = text("""
    SELECT path, count(*) AS events
    FROM unnest(CAST(:paths AS text[]), CAST(:ids AS bigint[])) AS asked(path, head)
    JOIN store.flows AS f USING (path)
    JOIN store.journal AS j ON j.flow_key = f.flow_key AND j.id > head AND j.form = 0
    GROUP BY path
""")

PROOF = """
    CROSS JOIN LATERAL (
        SELECT coalesce(greatest(upper(streamed), upper(listed)) - 1, 0) AS proven_to
    ) AS proof
    LEFT JOIN LATERAL (
        SELECT received_at AS known_at FROM store.journal AS j
        WHERE j.flow_key = f.flow_key AND id > proven_to ORDER BY id, form LIMIT 1
    ) AS unproven ON true
"""
"""Joins for a flow ``f`` with its ledger: the last id that is proven by anything, and the time
since when the first event above that has been known."""

LAG = """
    CASE WHEN proven_to >= greatest(due, newest_id, 0) THEN 0
         ELSE extract(epoch FROM CAST(:now AS timestamptz) - coalesce(known_at, due_at))
    END
"""
"""The lag in seconds, from `PROOF` and ``newest_id``, the newest id in the journal; it is below 0
if a clock was put back."""

_LOST = text("SELECT path FROM store.flows WHERE joined IS false AND disabled IS NOT true")

_FLOWS = text(f"""
    SELECT path AS flow, gaps, unverified_ids, doubted_ids,
           greatest(0, coalesce(extract(epoch FROM CAST(:now AS timestamptz) - found_at), 0))
               ::float8 AS oldest_gap_seconds,
           greatest(0, {LAG})::float8 AS lag_seconds
    FROM store.flows AS f
    JOIN store.ledger AS l USING (flow_key)
    {PROOF}
    LEFT JOIN LATERAL (
        SELECT max(id) AS newest_id FROM store.journal AS j WHERE j.flow_key = f.flow_key
    ) AS newest ON true
    CROSS JOIN LATERAL (
        SELECT count(*) AS gaps,
               coalesce(sum(upper(gap) - lower(gap)), 0)::bigint AS unverified_ids,
               min(coalesce((SELECT j.received_at FROM store.journal AS j
                             WHERE j.flow_key = f.flow_key AND j.id >= upper(gap)
                             ORDER BY j.id, j.form LIMIT 1), due_at)) AS found_at
        FROM unnest(int8multirange(int8range(1, due + 1)) - listed - streamed) AS gap
    ) AS missing
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(upper(range) - lower(range)), 0)::bigint AS doubted_ids
        FROM unnest(doubted) AS range
    ) AS doubt
    WHERE joined IS NOT false AND disabled IS NOT true
    ORDER BY lag_seconds DESC, unverified_ids DESC, path
""")  # noqa: S608
