"""Creating the index for parts of words, which needs the extension pg_trgm.

The migration that creates the table of texts also creates this index, if it can. A server may get
the extension later.
"""

import logging

from sqlalchemy import text

from archiver.store.connection import Transaction
from archiver.store.engine import LOCK_NOT_AVAILABLE, DatabaseError, first_line, sqlstate

log = logging.getLogger(__name__)


async def is_missing(tx: Transaction) -> bool:
    """Tell whether the index is missing although the server has the extension."""
    return bool((await tx.execute(_IS_WANTING)).scalar_one())


async def make(tx: Transaction) -> None:
    """Create the index, unless the server refuses. Without it, parts of words are found slowly.

    New texts wait to become searchable meanwhile.

    Raises:
        DBAPIError: others are using the table.
    """
    place = (await tx.execute(_PLACE)).scalar_one()
    try:
        async with tx.begin_nested():
            await tx.execute(text(f"CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA {place}"))
            of = f"spaced {place}.gin_trgm_ops, store.cells(hour)"
            index = f"CREATE INDEX texts_parts ON store.texts USING gin ({of})"
            await tx.execute(text(f"{index} WITH (gin_pending_list_limit = 1024)"))
    except DatabaseError as error:
        if sqlstate(error) == LOCK_NOT_AVAILABLE:
            raise
        log.warning(
            "cannot create the index for parts of words", extra={"reason": first_line(error)}
        )
    else:
        log.info("created the index for parts of words")


_IS_WANTING = text("""
    SELECT to_regclass('store.texts') IS NOT NULL AND to_regclass('store.texts_parts') IS NULL
           AND EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm')
""")
# The schema of the extension, or the one in which to create it.
_PLACE = text("""
    SELECT coalesce(
        (SELECT quote_ident(nspname) FROM pg_extension AS extension
         JOIN pg_namespace AS schema ON schema.oid = extnamespace WHERE extname = 'pg_trgm'),
        (SELECT nspname FROM pg_namespace WHERE nspname = 'public'), 'store')
""")
