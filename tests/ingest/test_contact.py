"""What is reported of an account that cannot be asked, and that other accounts go on."""

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from archiver.flowdock.refusals import StatusRefused, TokenRefused
from archiver.ingest.contact import CORRECT, MAY_BE_AWAY, LockedOut, Unreachable, locking_out

URL = "https://api.example"
REFUSED = aiohttp.ClientConnectorError(
    ConnectionKey("api.example", 443, True, True, None, None, None),
    ConnectionRefusedError(111, f"Connect call failed {URL}"),
)


NO_ANSWER = f"cannot reach Flowdock at {URL} for account work: "
BUSY = f"{URL} cannot serve account work now: /user was answered with status 503; try again later"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (REFUSED, f"{NO_ANSWER}Connection refused; {MAY_BE_AWAY}"),
        (TimeoutError(), f"{NO_ANSWER}no answer in time; {MAY_BE_AWAY}"),
        (StatusRefused("/user", 404), f"{NO_ANSWER}/user was answered with status 404; {CORRECT}"),
        (StatusRefused("/user", 503), BUSY),
    ],
)
def test_it_is_told_what_to_correct_if_anything_is(error: Exception, said: str) -> None:
    told = Unreachable("work", URL, error)
    assert str(told) == said
    assert told.is_there == (said == BUSY)


def test_others_go_on_until_the_last_is_locked_out() -> None:
    locked_out: dict[str, str] = {}

    def lock_out(account: str, whence: str) -> None:
        with locking_out(locked_out, account, whence=whence, count=2):
            raise TokenRefused

    lock_out("work", "a file")
    assert locked_out == {"work": "a file"}
    with pytest.raises(LockedOut, match=r"account club \(401\).*; .*account work \(401\)"):
        lock_out("club", "a credential")
