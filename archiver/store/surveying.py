"""How complete the archive is, flow by flow, in figures for whoever watches over it.

Read every few seconds while the daemon works, so only the ledger and the ends of indexes are used.
"""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct
from sqlalchemy import text

from archiver.store import files
from archiver.store.connection import Transaction

LAGGING_SECONDS = 60.0
"""A flow with more lag than this is behind; where something is being said, there is always some,
the settling time at least."""


class FlowSurvey(Struct, frozen=True, kw_only=True):
    """How complete one flow is."""

    flow: str
    lag_seconds: float
    """0 when the newest id known is proven; else for how long the first of those above all that is
    proven has been known."""
    gaps: int
    unverified_ids: int
    """Ids that are old enough to be proven, and are not."""
    doubted_ids: int
    """Ids whose messages may have changed while nobody listened."""
    oldest_gap_seconds: float
    """How long ago the oldest gap was found; 0 when there is none."""


class Survey(Struct, frozen=True, kw_only=True):
    """How complete the archive is."""

    flows: list[FlowSurvey]
    """Those that are read; the furthest behind first."""
    files_missing: int
    """Files that messages name and that are not in the archive."""
    database_bytes: int


async def survey(tx: Transaction, *, now: datetime) -> Survey:
    """Look at every flow that is joined, or of which it is not known."""
    rows = await tx.execute(_FLOWS, {"now": now})
    size = await tx.execute(text("SELECT pg_database_size(current_database())"))
    return Survey(
        flows=[FlowSurvey(**row) for row in rows.mappings()],
        files_missing=await files.missing_count(tx),
        database_bytes=int(size.scalar_one()),
    )


async def events_beyond(tx: Transaction, heads: Mapping[str, int]) -> dict[str, int]:
    """By the path of a flow: how many events with ids above its one in *heads* there are."""
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
        SELECT coalesce(upper(streamed + listed) - 1, 0) AS proven_to
    ) AS proof
    LEFT JOIN LATERAL (
        SELECT received_at AS known_at FROM store.journal AS j
        WHERE j.flow_key = f.flow_key AND id > proven_to ORDER BY id, form LIMIT 1
    ) AS unproven ON true
"""
"""Of a flow ``f`` with its ledger: the last id that anything proves, and since when the first event
above that has been known."""

LAG = """
    CASE WHEN proven_to >= greatest(due, newest_id, 0) THEN 0
         ELSE extract(epoch FROM CAST(:now AS timestamptz) - coalesce(known_at, due_at))
    END
"""
"""The seconds of it, by `PROOF` and ``newest_id``, the newest in the journal; below 0 when a clock
went back."""

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
        FROM unnest(int8multirange(int8range(1, due + 1)) - streamed - listed) AS gap
    ) AS missing
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(upper(range) - lower(range)), 0)::bigint AS doubted_ids
        FROM unnest(doubted) AS range
    ) AS doubt
    WHERE joined IS NOT false AND disabled IS NOT true
    ORDER BY lag_seconds DESC, unverified_ids DESC, path
""")  # noqa: S608
