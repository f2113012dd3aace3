"""What was asked for on the command line."""

from msgspec import Struct


class Options(Struct, frozen=True, kw_only=True):
    """How much is measured."""

    quick: bool = False
    full: bool = False

    def runs(self, wanted: int) -> int:
        """How often something is measured that is worth *wanted* runs."""
        return 1 if self.quick else wanted

    def amount(self, usual: int, *, quick: int, full: int | None = None) -> int:
        """How much of something is measured; with --full as usual, if *full* says nothing else."""
        if self.quick:
            return quick
        return full if self.full and full is not None else usual
