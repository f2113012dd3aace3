"""What can go wrong, by what one can do about it."""

from collections.abc import Iterator


class ArchiverError(Exception):
    """What the operator can act on; the command line prints it without a traceback.

    The message says what happened, to what, and which setting to change.
    """


class Corruption(Exception):
    """An impossible state of our own: stop, and let a person look (invariant 5)."""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """What went wrong, out of the groups that it came in."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
