"""Tags: compared without case, shown in the spelling that came first; read receipts are tags."""

import re
from collections.abc import Iterable

_MARK = re.compile(r":|influx:[0-9]+\Z")


def change_tags(
    tags: tuple[str, ...], added: Iterable[str], removed: Iterable[str]
) -> tuple[str, ...]:
    """*tags* without *removed*, followed by *added*; compared without case, spelling kept."""
    gone = {tag.casefold() for tag in removed}
    kept = {tag.casefold(): tag for tag in tags if tag.casefold() not in gone}
    for tag in added:
        kept.setdefault(tag.casefold(), tag)
    return tuple(kept.values())


def is_receipt(tag: str) -> bool:
    """Tell whether *tag* only says that somebody has not read the message yet."""
    return tag.startswith(":unread:")


def is_mark(tag: str) -> bool:
    """Tell whether the service set *tag*: for mentions, links, readers, or a comment's message."""
    return _MARK.match(tag) is not None


def visible(tags: tuple[str, ...]) -> tuple[str, ...]:
    """*tags* without read receipts."""
    # A generator takes three times as long, for the few tags that a message has.
    return tuple([tag for tag in tags if not is_receipt(tag)]) if tags else tags
