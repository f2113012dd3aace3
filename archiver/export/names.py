"""What flows and files are called in an export: names that every file system takes.

Names are foreign: none leads out of the folder, or to what is there already.
"""

import re
from hashlib import sha256
from urllib.parse import quote

from archiver.export.book import BOOK
from archiver.export.folder import FILES, MANIFEST

LONGEST_NAME = 120
OURS = frozenset(
    {BOOK, FILES, MANIFEST, "assets", "index.html", "people.html", "search", "search.html"}
)
"""What stands beside organizations."""
DEVICE = re.compile(r"(aux|con|nul|prn|com\d|lpt\d) *(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for itself, with whatever suffix."""


def path_of(flow: str) -> str:
    """*flow* as a path in an export, where nothing else is.

    What a file system may not take is escaped.
    """
    first, *others = map(safe_name, flow.split("/"))
    return "/".join([_disguised(first) if first in OURS else first, *others])


def safe_name(name: str) -> str:
    """*name* as the name of one file, also if it is empty: a path must not begin with a slash."""
    escaped = quote(name, safe="-_~ ()+,=@")
    if not name:
        escaped = "%"
    elif escaped.strip(".") == "":
        escaped = escaped.replace(".", "%2E")
    if DEVICE.fullmatch(escaped):
        escaped = _disguised(escaped)
    if escaped.endswith((".", " ")):
        escaped = f"{escaped[:-1]}%{ord(escaped[-1]):02X}"
    return shortened(escaped, name)


def shortened(escaped: str, name: str, *, longest: int = LONGEST_NAME) -> str:
    """What *name* was *escaped* to, if it is not too long; else its beginning, and a digest."""
    if len(escaped) <= longest:
        return escaped
    return f"{escaped[: longest - 20]}~{sha256(name.encode()).hexdigest()[:16]}"


def _disguised(name: str) -> str:
    """*name*, which is read as the same and looks like another."""
    return f"%{ord(name[0]):02X}{name[1:]}"
