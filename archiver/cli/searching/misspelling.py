"""Words of a query that may have been meant as a filter."""

from collections.abc import Iterator
from difflib import get_close_matches

from archiver.domain.query import FIELDS, HISTORY, Query, Text
from archiver.store.search_meaning import leaves

SHORTEST = 3
NEARLY = 0.75
"""The least similarity, as difflib measures it: *form* and *from* have just this."""
NAMES = tuple(name for name in (*FIELDS, HISTORY) if len(name) >= SHORTEST)
"""Without the shorter ones, which are similar to too many words."""


def misspelt_filters(query: Query) -> Iterator[str]:
    """Hints about words that begin almost like a filter.

    They are still searched for as words: people search for ``std::vector`` and ``http://host``.
    """
    for one in leaves(query.root):
        if not isinstance(one, Text) or one.is_exact:
            continue
        name, _, value = one.text.partition(":")
        if len(name) < SHORTEST or not value or value.startswith((":", "/")):
            continue
        for near in get_close_matches(name.lower(), NAMES, n=1, cutoff=NEARLY):
            yield f"{name}: is searched for as a word; did you mean {near}:?"
