"""What a format is given: the rows of one snapshot, and a tally to report progress to."""

from collections.abc import Callable

from msgspec import Struct

from archiver.export.files import Found
from archiver.store.connection import Transaction
from archiver.store.exporting_choice import Part, Selection

TOLD_ROWS = 5_000
TOLD_BYTES = 8_000_000


class Progress(Struct, frozen=True, kw_only=True):
    """How far an export has come."""

    rows: int
    total: int
    where: str
    kept: int = 0
    """How many of the rows an interrupted run had written."""
    bytes: int = 0
    """Bytes of the contents of files, which are written after the rows."""
    total_bytes: int = 0


Tell = Callable[[Progress], None]


class Tally:
    """Counts the rows, and the bytes of files, of all concurrent writers, and reports progress."""

    def __init__(self, total: int, tell: Tell, *, total_bytes: int = 0) -> None:
        self._total = total
        self._total_bytes = total_bytes
        self._tell = tell
        self._rows = 0
        self._kept = 0
        self._told = 0
        self._bytes = 0
        self._told_bytes = 0

    def keep(self, part: Part) -> None:
        """Count a part that an interrupted run has written."""
        self._rows += part.rows
        self._kept += part.rows
        self.tell(part)

    def count(self, rows: int, part: Part) -> None:
        """Count rows that were written."""
        self._rows += rows
        if self._rows - self._told >= TOLD_ROWS:
            self.tell(part)

    def tell(self, part: Part) -> None:
        """Report progress."""
        self._told = self._rows
        self._say(part.name)

    def count_bytes(self, size: int, where: str) -> None:
        """Count bytes of the contents of files that were written."""
        self._bytes += size
        if self._bytes - self._told_bytes >= TOLD_BYTES or self._bytes == self._total_bytes:
            self._told_bytes = self._bytes
            self._say(where)

    def _say(self, where: str) -> None:
        self._tell(
            Progress(
                rows=self._rows,
                total=self._total,
                where=where,
                kept=self._kept,
                bytes=self._bytes,
                total_bytes=self._total_bytes,
            )
        )


class Reading:
    """What an export reads, and in which transaction."""

    def __init__(
        self,
        tx: Transaction,
        chosen: Selection,
        parts: list[Part],
        tally: Tally,
        files: Found | None = None,
    ) -> None:
        self.tx = tx
        self.chosen = chosen
        self.parts = parts
        self.tally = tally
        self.files = files
        """The files that messages name; None when their contents are not wanted."""

    def through(self, tx: Transaction) -> "Reading":
        """The same, but in another transaction, which has the same snapshot."""
        return Reading(tx, self.chosen, self.parts, self.tally, self.files)
