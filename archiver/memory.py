"""The memory of this process: when garbage is collected, and when free memory is returned."""

import gc
from contextlib import suppress
from ctypes import CDLL


def collect_rarely() -> None:
    """Have the cyclic garbage collector run less often, and skip what is permanent.

    A batch holds thousands of values, none of which is part of a cycle: scanning them again and
    again, along with all modules, takes a sixth of the time of ingest.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def give_back() -> None:
    """Return free memory to the system, as far as the C library can (glibc)."""
    gc.collect()
    with suppress(AttributeError, OSError):
        CDLL(None).malloc_trim(0)
