"""Is there room for the archive?"""

import os
import shutil
from collections.abc import Iterator

from archiver.cli.checks.result import Result, ok, warning, wrong
from archiver.cli.measures import format_bytes
from archiver.settings import Settings

LITTLE_BYTES = 2_000_000_000
NONE_BYTES = 200_000_000


def check_disk(settings: Settings) -> Iterator[Result]:
    """Check the disk of a private database; that of another server cannot be seen from here.

    A place that is not a directory gives no result: no database can be kept there anyway.
    """
    if settings.database.full_url:
        return
    place = settings.data_dir
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        return
    free = shutil.disk_usage(place).free
    about = f"{format_bytes(free)} free for {settings.data_dir}"
    mend = "free some space, or set ARCHIVER_DATA_DIR to a directory on another disk"
    if free < NONE_BYTES:
        yield wrong("disk", about, mend)
    elif free < LITTLE_BYTES:
        yield warning("disk", about, mend)
    else:
        yield ok("disk", about)
