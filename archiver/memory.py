"""The memory of this process: when garbage is looked for, and when free memory is given back."""

import gc
from contextlib import suppress
from ctypes import CDLL


def collect_rarely() -> None:
    """Have the collector of cyclic garbage look less often, and not at what is there for good.

    A batch holds thousands of values, none of which is part of a cycle: to go through them again
    and again, and through all modules with them, takes a sixth of the time of ingest.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def give_back() -> None:
    """Return free memory to the system, as far as the C library can (glibc)."""
    gc.collect()
    with suppress(AttributeError, OSError):
        CDLL(None).malloc_trim(0)
