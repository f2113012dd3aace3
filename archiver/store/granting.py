"""Two database roles that do not own the archive: one for the daemon, one for people who query.

The *writer* can do what the commands do and no more: it can add to the journal, but neither change
nor remove what is there, and it cannot create tables. The *reader* sees the views of ``archive``
and nothing else. Roles belong to the server, privileges to the database: several archives on one
server share the roles or name their own.

The user that runs the migrations owns everything. `renew` grants the privileges on what later
migrations create.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from archiver.errors import ArchiverError
from archiver.store.connection import Engine, Transaction
from archiver.store.engine import FORBIDDEN, first_line, sqlstate, transaction

WRITER = "archiver_writer"
READER = "archiver_reader"
ASKER = "archiver_asker"
"""The role with which the owner of a private server runs queries."""

WRITES: Mapping[str, str] = {
    "schema_version": "",
    # What cannot be recreated is never changed; a reject is removed once it has been placed.
    "journal": "INSERT",
    "sightings": "INSERT, UPDATE",
    "rejects": "INSERT, DELETE",
    "files": "INSERT",
    "file_parts": "INSERT",
    "attached": "INSERT, UPDATE",
    "signals": "INSERT, DELETE",
    "ledger": "INSERT, UPDATE",
    "pages": "INSERT, DELETE",
    "flows": "INSERT, UPDATE",
    "users": "INSERT, UPDATE",
    # The replay of the journal: a rebuild removes rows that nothing in it accounts for.
    "messages": "INSERT, UPDATE, DELETE",
    "revisions": "INSERT, DELETE",
    "threads": "INSERT, UPDATE, DELETE",
    # The search is derived from messages, and made again when words are split differently.
    "texts": "INSERT, UPDATE, DELETE",
    "changes": "INSERT, DELETE",
    "walks": "INSERT, UPDATE, DELETE",
    "lexicon": "INSERT, DELETE",
    # Which daemons work on which flows; nothing depends on it.
    "daemons": "INSERT, UPDATE, DELETE",
    "leases": "INSERT, UPDATE, DELETE",
}
"""By table of ``store``: the privileges of the writer, in addition to SELECT."""

READER_DEFAULTS: Mapping[str, str] = {
    "search_path": "archive",
    "default_transaction_read_only": "on",
    "statement_timeout": "60s",
    # An open transaction keeps VACUUM from removing dead rows.
    "idle_in_transaction_session_timeout": "10min",
}

IS_THERE = frozenset({"42710", "23505"})
LONGEST_NAME_BYTES = 63


class RolesRefused(ArchiverError):
    """The roles cannot be created, or not with these names; the message says what to do."""


class Granted(Struct, frozen=True, kw_only=True):
    """What `grant` has done, and what is left to do."""

    made: tuple[str, ...]
    """Roles that were created, since the server did not have them."""
    left: tuple[str, ...]
    """Statements that the user may not run; somebody else has to."""


async def grant(engine: Engine, *, writer: str = WRITER, reader: str = READER) -> Granted:
    """Create the roles, unless they exist, and grant their privileges; safe to repeat.

    The defaults for the reader's sessions are set only once, so changes to them are kept.

    Raises:
        RolesRefused: a name cannot be used, or the user may not create roles.
    """
    async with transaction(engine) as tx:
        await _check_names(tx, writer, reader)
        made = await _make(tx, [writer, reader])
        await _give(tx, writers=[writer], readers=[reader])
        await _spare_the_disk(tx)
        left = await _set_defaults(tx, reader)
    return Granted(made=made, left=left)


async def renew(tx: Transaction) -> None:
    """Grant the roles that have privileges on the archive those on all that is there now."""
    found = await tx.execute(_HOLDERS)
    writers, readers = found.one()
    await _give(tx, writers=writers or (), readers=readers or ())


async def admit_asker(engine: Engine) -> None:
    """Create the role with which the owner of a private server runs queries, unless it exists.

    It can read everything in the database, and nothing else on the machine.
    """
    async with transaction(engine) as tx:
        if await _make(tx, [ASKER]):
            await tx.exec_driver_sql(f"GRANT pg_read_all_data TO {quoted(ASKER)}")


async def _check_names(tx: Transaction, writer: str, reader: str) -> None:
    if writer == reader:
        raise RolesRefused(f"the writer and the reader must be two roles, not both {writer!r}")
    for name in (writer, reader):
        if not 0 < len(name.encode()) <= LONGEST_NAME_BYTES or "\0" in name:
            raise RolesRefused(f"a role cannot be called {name!r}: use 1 to 63 letters")
        if name.startswith("pg_") or name in {"public", "none"}:
            raise RolesRefused(f"a role cannot be called {name!r}: PostgreSQL reserves that name")
        mighty = (await tx.execute(_MIGHTY, {"name": name})).scalar()
        if mighty:
            raise RolesRefused(
                f"the role {name!r} {mighty}, so rights cannot restrict it; choose another "
                "with --writer and --reader"
            )


async def _make(tx: Transaction, names: Sequence[str]) -> tuple[str, ...]:
    """Create those of the roles that do not exist; returns them."""
    known = set((await tx.execute(text("SELECT rolname FROM pg_roles"))).scalars())
    missing = tuple(name for name in names if name not in known)
    # Without a password, so nobody can log in with one until an administrator has set it.
    statements = [f"CREATE ROLE {quoted(name)} LOGIN" for name in missing]
    refused = await _try_each(tx, statements)
    if refused:
        user = (await tx.execute(text("SELECT current_user"))).scalar()
        told = "".join(f"\n  {statement};" for statement in refused)
        raise RolesRefused(
            f"the user {user!r} may not create roles: have a user who may run{told}\n"
            "in any database of the server, and then repeat: archiver migrate --roles"
        )
    return missing


async def _try_each(tx: Transaction, statements: Iterable[str]) -> tuple[str, ...]:
    """Run *statements*, each in a savepoint; returns those that the user may not run."""
    refused = []
    for statement in statements:
        try:
            async with tx.begin_nested():
                await tx.exec_driver_sql(statement)
        except DBAPIError as error:
            state = sqlstate(error)
            if state == FORBIDDEN:
                refused.append(statement)
            elif state not in IS_THERE:  # somebody else created the role meanwhile
                raise RolesRefused(f"{first_line(error)}: {statement}") from error
    return tuple(refused)


async def _give(tx: Transaction, *, writers: Sequence[str], readers: Sequence[str]) -> None:
    """Grant the roles exactly their privileges on all that is there, and on future views."""
    everybody = ", ".join(map(quoted, [*writers, *readers]))
    if not everybody:
        return
    statements = [
        f"GRANT USAGE ON SCHEMA archive TO {everybody}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA archive TO {everybody}",
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA archive TO {everybody}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA archive GRANT SELECT ON TABLES TO {everybody}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA archive GRANT EXECUTE ON FUNCTIONS TO {everybody}",
    ]
    if await _may_admit(tx):
        statements.append(f"GRANT CONNECT ON DATABASE {await _database(tx)} TO {everybody}")
    if writers:
        daemon = ", ".join(map(quoted, writers))
        statements += [
            f"GRANT USAGE ON SCHEMA store TO {daemon}",
            f"REVOKE ALL ON ALL TABLES IN SCHEMA store FROM {daemon}",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA store TO {daemon}",
        ]
        statements += [
            f"GRANT {rights} ON store.{table} TO {daemon}"
            for table, rights in WRITES.items()
            if rights
        ]
    for statement in statements:
        await tx.exec_driver_sql(statement)


async def _spare_the_disk(tx: Transaction) -> None:
    """Let only the owner create temporary tables; in a new database everybody may, of any size."""
    if await _may_admit(tx):
        database = await _database(tx)
        await tx.exec_driver_sql(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")


async def _may_admit(tx: Transaction) -> bool:
    return bool((await tx.execute(_MAY_ADMIT)).scalar_one())


async def _database(tx: Transaction) -> str:
    return quoted((await tx.execute(text("SELECT current_database()"))).scalar_one())


async def _set_defaults(tx: Transaction, reader: str) -> tuple[str, ...]:
    """Set the defaults for the reader's sessions, if it has none here.

    Returns the statements that the user may not run.
    """
    if (await tx.execute(_HAS_DEFAULTS, {"name": reader})).scalar():
        return ()
    database = await _database(tx)
    return await _try_each(
        tx,
        [
            f"ALTER ROLE {quoted(reader)} IN DATABASE {database} SET {name} = '{value}'"
            for name, value in READER_DEFAULTS.items()
        ],
    )


def quoted(name: str) -> str:
    """*name* as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


_MIGHTY = text("""
    SELECT CASE WHEN rolsuper THEN 'is a superuser'
                WHEN rolname = current_user THEN 'owns the archive' END
    FROM pg_roles WHERE rolname = :name
""")

_MAY_ADMIT = text("SELECT has_database_privilege(current_database(), 'CONNECT WITH GRANT OPTION')")

_HAS_DEFAULTS = text("""
    SELECT true FROM pg_db_role_setting AS s
    JOIN pg_roles AS r ON r.oid = s.setrole JOIN pg_database AS d ON d.oid = s.setdatabase
    WHERE rolname = :name AND datname = current_database()
""")

# A writer is a role that may INSERT into the journal. A reader is any other role that may use the
# schema of the views.
_HOLDERS = text("""
    WITH granted AS (
        SELECT rolname, privilege_type = 'INSERT' AS is_writer
        FROM (
            SELECT (aclexplode(relacl)).* FROM pg_class
            WHERE oid = CAST('store.journal' AS regclass)
            UNION ALL
            SELECT (aclexplode(nspacl)).* FROM pg_namespace WHERE nspname = 'archive'
        ) AS acl
        JOIN pg_roles AS r ON r.oid = grantee
        WHERE privilege_type IN ('INSERT', 'USAGE') AND rolname <> current_user AND NOT rolsuper
          AND grantee <> (SELECT relowner FROM pg_class
                          WHERE oid = CAST('store.journal' AS regclass))
    ), holders AS (
        SELECT rolname, bool_or(is_writer) AS is_writer FROM granted GROUP BY rolname
    )
    SELECT array_agg(rolname ORDER BY rolname) FILTER (WHERE is_writer),
           array_agg(rolname ORDER BY rolname) FILTER (WHERE NOT is_writer)
    FROM holders
""")
