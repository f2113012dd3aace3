"""After an erasure: what is left in dead rows and in statistics, and whether anything is.

A row that was changed or removed stays on the disk until VACUUM, and the statistics of a table
quote rows until ANALYZE.
"""

from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import TextClause, text

from archiver.store.connection import Engine, Transaction
from archiver.store.erasure import CASES
from archiver.store.schema import SCHEMA

TABLES = (
    "journal", "sightings", "messages", "revisions", "threads", "texts", "changes", "rejects",
    "signals", "attached", "files", "file_parts",
)  # fmt: skip
"""The tables from which an erasure removes something."""
UNREAD = frozenset({"file_parts"})
"""Tables of contents of files, which are not searched for words."""


STATISTICS = "pg_stats of "


class Left(Struct, frozen=True, kw_only=True):
    """A place where a phrase still is."""

    place: str
    """A table and a column, or ``pg_stats`` and the column that it describes."""
    rows: int
    flows: Sequence[str] = ()
    """The paths of the flows of these rows, where they have any."""

    @property
    def is_statistics(self) -> bool:
        """Tell whether it is in the statistics of a table, and not in a table."""
        return self.place.startswith(STATISTICS)


async def vacuum(engine: Engine) -> None:
    """Remove dead rows from the tables concerned, and make their statistics again."""
    alone = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with alone.connect() as tx:
        for table in TABLES:
            await tx.execute(text(f"VACUUM (ANALYZE) {SCHEMA}.{table}"))


async def forget_statistics(engine: Engine, places: Sequence[Left]) -> None:
    """Remove the statistics of *places*: those of an empty table are not made again.

    Only PostgreSQL 18 and newer let the owner do so; of an older one, they stay.
    """
    async with engine.begin() as tx:
        if not (await tx.execute(_MAY_FORGET)).scalar_one():
            return
        for one in places:
            if one.is_statistics:
                table, _, name = one.place.removeprefix(STATISTICS).partition(".")
                await tx.execute(_FORGET, {"table": table, "name": name})


async def what_is_left(tx: Transaction, spellings: Sequence[str]) -> list[Left]:
    """Where any of *spellings* still is, in any case of its letters."""
    if not spellings:
        return []
    asked = {"words": list(spellings), **_cases("".join(spellings))}
    found = []
    for table, column, is_bytes, has_flows in await tx.execute(_COLUMNS):
        if table not in UNREAD:
            counted = _count(table, column, is_bytes=is_bytes, has_flows=has_flows)
            row = (await tx.execute(counted, asked)).one()
            if row.many:
                found.append(Left(place=f"{table}.{column}", rows=row.many, flows=row.flows))
    places = (await tx.execute(_STATISTICS, asked)).scalars()
    return [*found, *(Left(place=f"{STATISTICS}{place}", rows=1) for place in places)]


def _count(table: str, column: str, *, is_bytes: bool, has_flows: bool) -> TextClause:
    kept, word = f"CAST(t.{column} AS text)", "word"
    if is_bytes:
        kept, word = f"encode(t.{column}, 'escape')", "encode(convert_to(word, 'UTF8'), 'escape')"
    paths = "array_agg(DISTINCT f.path) FILTER (WHERE f.path IS NOT NULL)" if has_flows else "NULL"
    joined = "LEFT JOIN store.flows AS f USING (flow_key)" if has_flows else ""
    return text(f"""
        SELECT count(*) AS many, coalesce({paths}, CAST('{{}}' AS text[])) AS flows
        FROM {SCHEMA}.{table} AS t {joined} WHERE {_holds(kept, word)}
    """)  # noqa: S608


def _cases(letters: str) -> dict[str, str]:
    """The capitals of *letters* and what these are small: not every database can tell."""
    pairs = {one.upper(): one.lower() for one in letters if not one.isascii()}
    known = {capital: small for capital, small in pairs.items() if len(capital) == len(small) == 1}
    known |= CASES
    return {"capitals": "".join(known), "small": "".join(known.values())}


def _holds(kept: str, word: str = "word") -> str:
    # The words are made small once: for each row, that would take longer than looking at it.
    words = f"SELECT DISTINCT {_small(word)} AS sought FROM unnest(CAST(:words AS text[])) AS word"  # noqa: S608
    return f"EXISTS (SELECT FROM ({words}) AS asked WHERE strpos({_small(kept)}, sought) > 0)"


def _small(words: str) -> str:
    return f'translate(lower({words} COLLATE "C"), :capitals, :small)'


_COLUMNS = text("""
    SELECT relname, quote_ident(attname), atttypid = CAST('bytea' AS regtype),
           relname <> 'flows' AND EXISTS (
               SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'flow_key')
    FROM pg_class AS c JOIN pg_attribute ON attrelid = c.oid
    WHERE relnamespace = CAST('store' AS regnamespace) AND relkind = 'r' AND attnum > 0
      AND NOT attisdropped AND atttypid <> CAST('uuid' AS regtype)
    ORDER BY relname, attnum
""")
_VALUES = "concat_ws(' ', most_common_vals, histogram_bounds, most_common_elems)"
_STATISTICS = text(f"""
    SELECT tablename || '.' || attname FROM pg_stats
    WHERE schemaname = 'store' AND {_holds(_VALUES)}
    ORDER BY 1
""")  # noqa: S608
_MAY_FORGET = text("SELECT to_regproc('pg_clear_attribute_stats') IS NOT NULL")
_FORGET = text("SELECT pg_clear_attribute_stats('store', :table, :name, false)")
