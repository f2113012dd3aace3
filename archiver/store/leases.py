"""Leases: which daemon captures which flow, while several work on one archive.

They save work, and nothing rests on them: a daemon that captures what another one holds does no
harm. So there is no lock to hold. A lease goes from one holder to the next by a statement that
names both, and is good as long as its holder is heard of, by the server's clock.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from msgspec import Struct
from sqlalchemy import text

from archiver.domain.sharing import slot_of
from archiver.store.connection import Transaction
from archiver.store.sessions import APPLICATION


class Sharer(Struct, frozen=True, kw_only=True):
    """A daemon that works on the archive."""

    key: str
    name: str
    """For people."""
    machine: str
    """Where its process is: the same for processes that can tell of each other."""
    pid: int
    lease_seconds: float


class Known(Struct, frozen=True, kw_only=True):
    """What the archive tells of a daemon."""

    key: str
    name: str
    machine: str
    pid: int
    sees: frozenset[str]
    """What it could capture: paths of flows, and ``private/<user>`` for private conversations."""
    is_heard: bool
    """Whether it was heard of within its lease."""


class Report(Struct, frozen=True, kw_only=True):
    """What a daemon does, for people."""

    daemon: str
    started_at: datetime
    heard_at: datetime
    is_heard: bool
    """Whether what it holds stays its own."""
    captures: list[str]
    """Flows, and ``private/<user>`` for private conversations."""
    could_capture: int
    unheard: list[str]
    """Of what it captures: that of which no stream stands."""


async def reports(tx: Transaction) -> list[Report]:
    """What each daemon does that works here, or ended unheard a moment ago."""
    rows = await tx.execute(_REPORTS)
    return [Report(**row) for row in rows.mappings()]


def is_silent(daemons: Iterable[Report]) -> bool:
    """Tell whether no daemon is heard of."""
    return not any(one.is_heard for one in daemons)


def unheard(daemons: Iterable[Report]) -> set[str]:
    """What is captured and not heard at present, by daemons that are heard of."""
    return {slot for one in daemons if one.is_heard for slot in one.unheard}


def unheard_among(flows: Iterable[str], daemons: Iterable[Report]) -> list[str]:
    """Those of *flows* that a daemon captures, and no stream of them stands."""
    slots = unheard(daemons)
    return [flow for flow in flows if slot_of(flow) in slots]


async def beat(
    tx: Transaction, me: Sharer, sees: Collection[str], *, unheard: Collection[str]
) -> None:
    """Let all know that *me* is at work, what it could capture, and what it does not hear of it."""
    await tx.execute(
        _BEAT,
        {
            "key": me.key,
            "name": me.name,
            "machine": me.machine,
            "pid": me.pid,
            "lease_seconds": me.lease_seconds,
            "sees": sorted(sees),
            "unheard": sorted(unheard),
        },
    )


async def known(tx: Transaction) -> list[Known]:
    """All daemons that have not left, heard of or not."""
    rows = await tx.execute(_KNOWN)
    return [
        Known(
            key=row.key,
            name=row.name,
            machine=row.machine,
            pid=row.pid,
            sees=frozenset(row.sees),
            is_heard=row.is_heard,
        )
        for row in rows
    ]


async def held(tx: Transaction) -> dict[str, str]:
    """By slot: the key of the daemon that holds it."""
    rows = await tx.execute(text("SELECT slot, daemon::text FROM store.leases"))
    return {slot: daemon for slot, daemon in rows}  # noqa: C416 - rows are no pairs to mypy


async def bury(tx: Transaction, keys: Collection[str]) -> None:
    """Free all that these daemons hold, and forget them until they are heard of again.

    Their sessions are ended first: a process that stands still in the midst of a transaction keeps
    flows locked, and who takes them over would wait for it.
    """
    await tx.execute(_END_SESSIONS, {"names": [f"{APPLICATION} {key}" for key in keys]})
    await leave(tx, keys)


async def leave(tx: Transaction, keys: Collection[str]) -> None:
    """Free all that these daemons hold, and forget them."""
    await tx.execute(_LEAVE, {"keys": sorted(keys)})


async def take(tx: Transaction, key: str, wanted: Mapping[str, str | None]) -> None:
    """Give the daemon *key* the slots *wanted*, each from the holder that is told, or from nobody.

    What somebody else has taken meanwhile stays with them.
    """
    slots = sorted(wanted)
    holders = [wanted[slot] for slot in slots]
    await tx.execute(_TAKE, {"key": key, "slots": slots, "holders": holders})


async def drop(tx: Transaction, key: str, slots: Collection[str]) -> None:
    """Free *slots*, as far as the daemon *key* holds them."""
    await tx.execute(_DROP, {"key": key, "slots": sorted(slots)})


_REPORTS = text("""
    SELECT name AS daemon, started_at, beat_at AS heard_at, cardinality(sees) AS could_capture,
           abs(extract(epoch FROM clock_timestamp() - beat_at)) <= lease_seconds AS is_heard,
           ARRAY(SELECT slot FROM store.leases AS l WHERE l.daemon = d.daemon ORDER BY slot)
               AS captures,
           unheard
    FROM store.daemons AS d ORDER BY name, daemon
""")

# A list that is as it was is not written again: where flows are many, it is long.
_BEAT = text("""
    INSERT INTO store.daemons AS known
        (daemon, name, machine, pid, lease_seconds, sees, started_at, beat_at, unheard)
    VALUES (CAST(:key AS uuid), :name, :machine, :pid, :lease_seconds, CAST(:sees AS text[]),
            clock_timestamp(), clock_timestamp(), CAST(:unheard AS text[]))
    ON CONFLICT (daemon) DO UPDATE SET
        beat_at = excluded.beat_at,
        unheard = CASE WHEN known.unheard = excluded.unheard
            THEN known.unheard ELSE excluded.unheard END,
        sees = CASE WHEN known.sees = excluded.sees THEN known.sees ELSE excluded.sees END
""")

# A beat that lies ahead by more than a lease was dated by the clock of another server.
_KNOWN = text("""
    SELECT daemon::text AS key, name, machine, pid, sees,
           abs(extract(epoch FROM clock_timestamp() - beat_at)) <= lease_seconds AS is_heard
    FROM store.daemons ORDER BY daemon
""")

# Only those of our own role: others may be none of our business, and are not ours to end.
_END_SESSIONS = text("""
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = ANY (CAST(:names AS text[])) AND usename = current_user
      AND pid <> pg_backend_pid()
""")

_LEAVE = text("""
    WITH gone AS (
        DELETE FROM store.daemons WHERE daemon = ANY (CAST(:keys AS uuid[]))
    )
    DELETE FROM store.leases WHERE daemon = ANY (CAST(:keys AS uuid[]))
""")

_TAKE = text("""
    WITH wanted AS (
        SELECT slot, holder
        FROM unnest(CAST(:slots AS text[]), CAST(:holders AS uuid[])) AS one (slot, holder)
    ), taken_over AS (
        UPDATE store.leases AS lease
        SET daemon = CAST(:key AS uuid), taken_at = clock_timestamp()
        FROM wanted WHERE lease.slot = wanted.slot AND lease.daemon = wanted.holder
    )
    INSERT INTO store.leases (slot, daemon, taken_at)
    SELECT slot, CAST(:key AS uuid), clock_timestamp() FROM wanted WHERE holder IS NULL
    ON CONFLICT (slot) DO NOTHING
""")

_DROP = text("""
    DELETE FROM store.leases
    WHERE daemon = CAST(:key AS uuid) AND slot = ANY (CAST(:slots AS text[]))
""")
