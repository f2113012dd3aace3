"""The limit of all writing: the rows of an archive, copied by ``psql`` into an empty one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench.lab import Archive, Lab

TABLES = ("journal", "messages", "revisions", "threads", "ledger")
"""What an event is written into; not what is made for the search."""


def copy_again(lab: Lab, archive: Archive, *groups: Sequence[str]) -> list[float]:
    """Copy groups of tables of *archive* into an empty one; returns the seconds of each group."""
    tables = [table for group in groups for table in group]
    with dumped(lab, archive, tables) as (columns, files), lab.archive() as empty:
        return [
            lab.psql(
                empty,
                "".join(
                    f"\\copy store.{table} ({columns[table]}) from '{files[table]}'\n"
                    for table in group
                ),
            )
            for group in groups
        ]


@contextmanager
def dumped(
    lab: Lab, archive: Archive, tables: Sequence[str]
) -> Iterator[tuple[dict[str, str], dict[str, Path]]]:
    """The rows of *tables* of *archive*, each in a file, and the names of their columns."""
    columns = {
        table: archive.value(
            "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute"
            f" WHERE attrelid = 'store.{table}'::regclass AND attnum > 0 AND NOT attisdropped"
            " AND attgenerated = ''"
        )
        for table in tables
    }
    files = {table: lab.home / f"{table}.copy" for table in tables}
    commands = "".join(
        f"\\copy store.{table} ({columns[table]}) to '{file}'\n" for table, file in files.items()
    )
    lab.psql(archive, commands)
    try:
        yield columns, files
    finally:
        for file in files.values():
            file.unlink()
