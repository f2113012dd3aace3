"""Words of a query that were perhaps meant as a filter."""

from collections.abc import Iterator
from difflib import get_close_matches

from archiver.domain.query import FIELDS, HISTORY, Query, Text
from archiver.store.search_meaning import leaves

SHORTEST = 3
NEARLY = 0.75
"""As difflib measures it: *form* is just so near to *from*."""
NAMES = tuple(name for name in (*FIELDS, HISTORY) if len(name) >= SHORTEST)
"""The shorter ones are near to too many words."""


def told_misspelt(query: Query) -> Iterator[str]:
    """Lines about words that begin nearly as a filter does.

    They are words nevertheless: people search for ``std::vector`` and ``http://host``.
    """
    for one in leaves(query.root):
        if not isinstance(one, Text) or one.is_exact:
            continue
        name, _, value = one.text.partition(":")
        if len(name) < SHORTEST or not value or value.startswith((":", "/")):
            continue
        for near in get_close_matches(name.lower(), NAMES, n=1, cutoff=NEARLY):
            yield f"{name}: is searched for as a word; did you mean {near}:?"
