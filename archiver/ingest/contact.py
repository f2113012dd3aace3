"""The first request for an account: is there such a service, and whose token is it?"""

import logging
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager

from archiver.domain.model import UserId
from archiver.errors import ArchiverError
from archiver.flowdock.breaks import reason_of, why_unconnected
from archiver.flowdock.client import UNANSWERED, Client, Limits
from archiver.flowdock.refusals import Redirected, StatusRefused, TokenRefused
from archiver.flowdock.retry import is_transient

log = logging.getLogger(__name__)

CONTACT_LIMITS = Limits(patience_seconds=2.0, answer_seconds=10.0)
"""Short limits, since a person who may have mistyped a URL is waiting."""


CORRECT = "correct ARCHIVER_API_URL (api_url in the file)"
MAY_BE_AWAY = f"Flowdock or the network may be down; if not, {CORRECT}, if it is set"


class LockedOut(ArchiverError):
    """Tokens were refused; *accounts* maps the names to where the tokens come from."""

    def __init__(self, accounts: Mapping[str, str]) -> None:
        super().__init__(
            "; ".join(
                f"Flowdock refused the token of account {account} (401), "
                f"which comes from {whence}: put a valid personal API token there"
                for account, whence in sorted(accounts.items())
            )
        )


class Unreachable(ArchiverError):
    """There is no service at the URL of an account, or it serves nobody now."""

    def __init__(self, account: str, api_url: str, error: Exception) -> None:
        self.is_there = isinstance(error, StatusRefused) and is_transient(error)
        """The service answered, with an error that may pass: no setting is to blame."""
        if self.is_there:
            super().__init__(
                f"{api_url} cannot serve account {account} now: {error}; try again later"
            )
            return
        told = why_unconnected(error) or reason_of(error)
        if not isinstance(error, Redirected):  # its text says what to correct
            told += f"; {MAY_BE_AWAY if is_transient(error) else CORRECT}"
        super().__init__(f"cannot reach Flowdock at {api_url} for account {account}: {told}")


@contextmanager
def locking_out(
    locked_out: MutableMapping[str, str], account: str, *, whence: str, count: int
) -> Iterator[None]:
    """Leave out an account whose token is refused; the others, of *count* in all, go on.

    Adds the account to *locked_out*, with where its token comes from.

    Raises:
        LockedOut: no other account is left; in a group.
    """
    try:
        yield
    except* TokenRefused:
        locked_out[account] = whence
        if len(locked_out) == count:
            raise LockedOut(locked_out) from None
        told = {"account": account, "whence": whence}
        log.error("Flowdock refused the token: account left out", extra=told)  # noqa: TRY400


async def make_contact(client: Client, *, account: str, api_url: str) -> UserId:
    """Ask who the user of *account* is.

    Raises:
        TokenRefused: the service does not know the token.
        Unreachable: there is no such service, or it serves nobody now.
    """
    try:
        return (await client.me()).id
    except TokenRefused:
        raise
    except UNANSWERED as error:
        raise Unreachable(account, api_url, error) from error
