"""What a format writes of: the rows of one moment, and somebody to tell how far it is."""

from collections.abc import Callable

from msgspec import Struct

from archiver.store.engine import Transaction
from archiver.store.exporting_choice import Part, Selection

TOLD_ROWS = 5_000


class Progress(Struct, frozen=True, kw_only=True):
    """How far an export has come."""

    rows: int
    total: int
    where: str
    kept: int = 0
    """Of the rows, those that an interrupted run had written."""


Tell = Callable[[Progress], None]


class Tally:
    """How many rows are written, by all who write; now and then, it is told."""

    def __init__(self, total: int, tell: Tell) -> None:
        self._total = total
        self._tell = tell
        self._rows = 0
        self._kept = 0
        self._told = 0

    def keep(self, part: Part) -> None:
        """Count a part that is written already."""
        self._rows += part.rows
        self._kept += part.rows
        self.tell(part)

    def count(self, rows: int, part: Part) -> None:
        """Count rows that were written."""
        self._rows += rows
        if self._rows - self._told >= TOLD_ROWS:
            self.tell(part)

    def tell(self, part: Part) -> None:
        """Tell how far it has come."""
        self._told = self._rows
        where = part.name
        self._tell(Progress(rows=self._rows, total=self._total, where=where, kept=self._kept))


class Reading:
    """What is read, and in which transaction."""

    def __init__(self, tx: Transaction, chosen: Selection, parts: list[Part], tally: Tally) -> None:
        self.tx = tx
        self.chosen = chosen
        self.parts = parts
        self.tally = tally

    def through(self, tx: Transaction) -> "Reading":
        """The same, read in another transaction that sees the same moment."""
        return Reading(tx, self.chosen, self.parts, self.tally)
