"""Names of flows and files in an export, made so that every file system accepts them.

The names come from foreign data, so none may lead out of the folder, or to a file of another.
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
"""Names in the root of an export that no organization's folder may have."""
DEVICE = re.compile(r"(aux|con|nul|prn|com\d|lpt\d) *(\..*)?", re.IGNORECASE)
"""Names that Windows reserves for devices, with any suffix."""


def path_of(flow: str) -> str:
    """The path in an export for *flow*, which nothing else has.

    Characters that a file system may not accept are escaped.
    """
    first, *others = map(safe_name, flow.split("/"))
    return "/".join([_disguised(first) if first in OURS else first, *others])


def safe_name(name: str) -> str:
    """Escape *name* for one file; an empty one too, since a path must not begin with a slash."""
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
    """*escaped*; if it is too long, its beginning and a digest of the *name* it was made from."""
    if len(escaped) <= longest:
        return escaped
    return f"{escaped[: longest - 20]}~{sha256(name.encode()).hexdigest()[:16]}"


def _disguised(name: str) -> str:
    """Escape the first letter of *name*: it becomes another name, but decodes to the same one."""
    return f"%{ord(name[0]):02X}{name[1:]}"
