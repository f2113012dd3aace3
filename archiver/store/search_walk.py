"""The way through time, from the newest message backwards, in windows of hours.

However frequent a word is, its newest messages must not cost a look at all of them; however rare it
is, they must not cost many looks. So the first window is small, and each is many times as long as
the one before; what is rare is then looked for in all the rest, unless that is very much. A window
that turns out to hold too much is cut. Inside the index, a window is a few cells of time (the SQL
function ``store.cells``): eight cells of one level are one of the next.
"""

from collections.abc import Sequence

from msgspec import Struct

FIRST_ROWS = 4_000
"""How many rows of all kinds the first window is to hold."""
GROWTH = 16
CUT = 8
MOST_ROWS = 1_000_000
"""In which to look at once for what is rare."""

CELL_LEVELS = 6
CELL_BITS = 3
LEVEL_SHIFT = 27
MOST_CELLS = 8


class Extent(Struct, frozen=True):
    """What is to be walked: about so many rows, and the hours that they lie in."""

    rows: float
    first_hour: int
    last_hour: int


class Window(Struct, frozen=True):
    """Hours from *begin* up to *end*, without it."""

    begin: int
    end: int

    @property
    def hours(self) -> int:
        """How long it is."""
        return self.end - self.begin


def whole(extent: Extent) -> Window | None:
    """All of it as one window; None when there are no hours."""
    window = Window(extent.first_hour, extent.last_hour + 1)
    return window if window.hours > 0 else None


def first_window(extent: Extent) -> Window | None:
    """The newest window; None when there are no hours."""
    hours = extent.last_hour - extent.first_hour + 1
    return _before(extent, extent.last_hour + 1, int(hours * FIRST_ROWS / max(extent.rows, 1)))


def next_window(extent: Extent, window: Window, *, is_rare: bool = False) -> Window | None:
    """The window before *window*, longer than it; None when there is none.

    If nothing was found so far, so that what is looked for *is_rare*, it may be all that is left.
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
    """The cells that cover *window*, and perhaps somewhat more."""
    level = 0
    while level < CELL_LEVELS - 1 and window.hours >> (CELL_BITS * level) > MOST_CELLS:
        level += 1
    shift = CELL_BITS * level
    numbers = range(window.begin >> shift, (window.end - 1 >> shift) + 1)
    return [level << LEVEL_SHIFT | number for number in numbers]
