"""What can go wrong, by what one can do about it."""


class ArchiverError(Exception):
    """What the operator can act on; the command line prints it without a traceback.

    The message says what happened, to what, and which setting to change.
    """


class Corruption(Exception):
    """An impossible state of our own: stop, and let a person look (invariant 5)."""
