"""Errors, classed by what can be done about them."""

from collections.abc import Iterator


class ArchiverError(Exception):
    """An error that the operator can act on; the command line prints it without a traceback.

    The message says what happened, to what, and which setting to change.
    """


class Corruption(Exception):
    """Our own data or code is in an impossible state: stop, for a person to look (invariant 5)."""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the single errors in *error*, which may be a group, also of groups."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
