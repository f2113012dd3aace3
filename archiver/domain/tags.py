"""Tags: compared without case, and shown in the spelling that came first; receipts are tags too."""

import re
from collections.abc import Iterable

_MARK = re.compile(r":|influx:[0-9]+\Z")


def change_tags(
    tags: tuple[str, ...], added: Iterable[str], removed: Iterable[str]
) -> tuple[str, ...]:
    """*tags* without *removed*, then *added* at the end; compared case-folded, spelling kept."""
    gone = {tag.casefold() for tag in removed}
    kept = {tag.casefold(): tag for tag in tags if tag.casefold() not in gone}
    for tag in added:
        kept.setdefault(tag.casefold(), tag)
    return tuple(kept.values())


def is_receipt(tag: str) -> bool:
    """Tell whether *tag* only says that somebody has not read the message yet."""
    return tag.startswith(":unread:")


def is_mark(tag: str) -> bool:
    """Tell whether *tag* is the service's: of mentions, links, readers, or what a comment is on."""
    return _MARK.match(tag) is not None


def visible(tags: tuple[str, ...]) -> tuple[str, ...]:
    """*tags* without read receipts."""
    # A generator costs three times as much, for each of some texts without receipts.
    return tuple([tag for tag in tags if not is_receipt(tag)]) if tags else tags
