"""Leases: which daemon captures which flow, while several work on one archive.

They only save work: nothing breaks if two daemons capture the same flow. So no lock is needed. A
lease passes from one holder to the next by a statement that names both, and is valid as long as its
holder keeps reporting, by the server's clock.
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
    """Its name for people."""
    machine: str
    """Identifies where its process runs: the same for processes that can see each other."""
    pid: int
    lease_seconds: float


class Known(Struct, frozen=True, kw_only=True):
    """What the archive knows of a daemon."""

    key: str
    name: str
    machine: str
    pid: int
    sees: frozenset[str]
    """What it could capture: paths of flows, and ``private/<user>`` for private conversations."""
    is_heard: bool
    """Whether it reported within its lease."""


class Report(Struct, frozen=True, kw_only=True):
    """What a daemon does, for people."""

    daemon: str
    started_at: datetime
    heard_at: datetime
    is_heard: bool
    """Whether it reported within its lease, and so keeps what it holds."""
    captures: list[str]
    """Paths of flows, and ``private/<user>`` for private conversations."""
    could_capture: int
    unheard: list[str]
    """What it captures, but has no open stream for."""


async def reports(tx: Transaction) -> list[Report]:
    """What each daemon does, including those that stopped reporting a moment ago."""
    rows = await tx.execute(_REPORTS)
    return [Report(**row) for row in rows.mappings()]


def is_silent(daemons: Iterable[Report]) -> bool:
    """Tell whether no daemon has reported within its lease."""
    return not any(one.is_heard for one in daemons)


def unheard(daemons: Iterable[Report]) -> set[str]:
    """What daemons that report capture, but have no open stream for at present."""
    return {slot for one in daemons if one.is_heard for slot in one.unheard}


def unheard_among(flows: Iterable[str], daemons: Iterable[Report]) -> list[str]:
    """Those of *flows* that a daemon captures, but has no open stream for."""
    slots = unheard(daemons)
    return [flow for flow in flows if slot_of(flow) in slots]


async def beat(
    tx: Transaction, me: Sharer, sees: Collection[str], *, unheard: Collection[str]
) -> None:
    """Report that *me* is at work, what it could capture, and for what of it no stream is open."""
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
    """All daemons that have not left, whether they report or not."""
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
    """Free all that these daemons hold, and forget them until they report again.

    Their sessions are ended first: a process that is suspended inside a transaction keeps its flows
    locked, and whoever takes these over would have to wait.
    """
    await tx.execute(_END_SESSIONS, {"names": [f"{APPLICATION} {key}" for key in keys]})
    await leave(tx, keys)


async def leave(tx: Transaction, keys: Collection[str]) -> None:
    """Free all that these daemons hold, and forget them."""
    await tx.execute(_LEAVE, {"keys": sorted(keys)})


async def take(tx: Transaction, key: str, wanted: Mapping[str, str | None]) -> None:
    """Give the daemon *key* the slots *wanted*; each must still have the holder given, or none.

    A slot that another daemon has taken meanwhile stays with that one.
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

# A list that has not changed is not written again, since with many flows it is long.
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

# A report dated more than a lease ahead, hence abs(), was dated by the clock of another server.
_KNOWN = text("""
    SELECT daemon::text AS key, name, machine, pid, sees,
           abs(extract(epoch FROM clock_timestamp() - beat_at)) <= lease_seconds AS is_heard
    FROM store.daemons ORDER BY daemon
""")

# Only sessions of our own role: others may belong to other programs, and we may not end them.
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
