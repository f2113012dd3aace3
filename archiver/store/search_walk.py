"""How a search walks through time: from the newest message backwards, in windows of hours.

Finding the newest messages with a frequent word must not require reading all of them; finding those
with a rare word must not require many queries. So the first window is small, and each further one
is many times as long as the one before. If nothing has been found yet, the next window is all the
rest, unless that is very much. A window that turns out to hold too many hits is cut. In the index,
a window is a few cells of time (the SQL function ``store.cells``): eight cells of one level form
one cell of the next.
"""

from collections.abc import Sequence

from msgspec import Struct

FIRST_ROWS = 4_000
"""How many rows, hits or not, the first window should hold."""
GROWTH = 16
CUT = 8
MOST_ROWS = 1_000_000
"""If there are more rows than this, the rest is never searched at once, however rare the hits."""

CELL_LEVELS = 6
CELL_BITS = 3
LEVEL_SHIFT = 27
MOST_CELLS = 8


class Extent(Struct, frozen=True):
    """What is to be walked through: the hours, and roughly how many rows they hold."""

    rows: float
    first_hour: int
    last_hour: int


class Window(Struct, frozen=True):
    """The hours from *begin* up to, but not including, *end*."""

    begin: int
    end: int

    @property
    def hours(self) -> int:
        """Its length."""
        return self.end - self.begin


def whole(extent: Extent) -> Window | None:
    """All of *extent* as one window; None if it has no hours."""
    window = Window(extent.first_hour, extent.last_hour + 1)
    return window if window.hours > 0 else None


def first_window(extent: Extent) -> Window | None:
    """The newest window; None if *extent* has no hours."""
    hours = extent.last_hour - extent.first_hour + 1
    return _before(extent, extent.last_hour + 1, int(hours * FIRST_ROWS / max(extent.rows, 1)))


def next_window(extent: Extent, window: Window, *, is_rare: bool = False) -> Window | None:
    """The window before *window*, which is longer; None if nothing is left.

    If *is_rare*, since nothing was found so far, it is all that is left, unless that is very much.
    """
    if is_rare and extent.rows <= MOST_ROWS:
        return _before(extent, window.begin, window.begin - extent.first_hour)
    return _before(extent, window.begin, window.hours * GROWTH)


def cut(window: Window) -> Window:
    """The newest part of *window*."""
    return Window(window.end - max(1, window.hours // CUT), window.end)


def _before(extent: Extent, end: int, hours: int) -> Window | None:
    if end <= extent.first_hour:
        return None
    return Window(max(extent.first_hour, end - max(1, hours)), end)


def cells(window: Window) -> Sequence[int]:
    """The cells that cover *window*; together they may be somewhat larger."""
    level = 0
    while level < CELL_LEVELS - 1 and window.hours >> (CELL_BITS * level) > MOST_CELLS:
        level += 1
    shift = CELL_BITS * level
    numbers = range(window.begin >> shift, (window.end - 1 >> shift) + 1)
    return [level << LEVEL_SHIFT | number for number in numbers]
