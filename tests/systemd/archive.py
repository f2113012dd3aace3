"""The archive in a container's database, read as its owner."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg

from tests.oracle.load import is_settled
from tests.oracle.programs import Flowdock
from tests.truth import differences


class Archive:
    """The archive of *flowdock* that the service keeps on the machine whose files are in *root*."""

    def __init__(self, root: Path, flowdock: Flowdock) -> None:
        self._root = root
        self._flowdock = flowdock

    @property
    def url(self) -> str:
        """The URL of the database for its owner."""
        given = (self._root / "etc/credstore/archiver.owner-url").read_text().strip()
        return re.sub(r"@[^/]*/", "@127.0.0.1/", given.partition("?")[0])

    def is_settled(self) -> bool:
        """Tell whether each flow's newest message is proven and no gap or doubt is left."""
        return is_settled(self.url, self._flowdock)

    def differences(self) -> list[str]:
        """How the archive differs from what the simulator says is true."""
        return differences(self.url, self._flowdock.truth())

    def flow(self) -> str:
        """The path of any flow."""
        with psycopg.connect(self.url) as session:
            row = session.execute(
                "SELECT flow FROM archive.flows WHERE flow NOT LIKE 'private/%' ORDER BY 1 LIMIT 1"
            ).fetchone()
        assert row
        return str(row[0])

    def shares(self) -> list[int]:
        """How many flows each process captures, without processes that capture none."""
        with psycopg.connect(self.url) as session:
            rows = session.execute("SELECT count(*) FROM archive.leases GROUP BY daemon").fetchall()
        return [number for (number,) in rows]

    def sizes(self) -> Iterator[tuple[str, float]]:
        """Yield the number of events, and the bytes per event, in all and in the largest tables."""
        with psycopg.connect(self.url, autocommit=True) as session:
            session.execute("VACUUM ANALYZE")
            (events,) = session.execute("SELECT count(*) FROM archive.events").fetchone() or (0,)
            rows = session.execute(
                "SELECT relname, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class "
                "WHERE relnamespace = CAST('store' AS regnamespace) AND relkind = 'r' "
                "ORDER BY pg_total_relation_size(oid) DESC"
            ).fetchall()
        yield "events", events
        yield "bytes_an_event", sum(table + index for _, table, index in rows) / events
        for name, table, index in rows[:4]:
            yield f"bytes_an_event_{name}", table / events
            yield f"bytes_an_event_{name}_indexes", index / events
