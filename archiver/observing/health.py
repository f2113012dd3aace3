"""Whether a daemon captures: what all who ask are told, be it a probe, a person or systemd.

*Alive* says that the process can do its work: the event loop answers, and the writer comes round,
or is told by the database why it cannot. *Ready* says that it captures: every account is at work,
its streams stand, what they bring is written, and newest messages are found archived. A database
or a Flowdock that is away makes a daemon unready; only a hang makes it dead, since only that is
mended by starting it anew.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from archiver.flowdock.retry import Gate
from archiver.ingest.intake import Intake
from archiver.ingest.tally import AccountTally, Tally

NOT_CAPTURING = "not capturing: "
STUCK_SECONDS = 120.0
"""The writer waits for no statement so long, unless something holds the tables locked."""


@dataclass(slots=True, kw_only=True)
class ProcessTally:
    """What a further process of the daemon tells of itself."""

    number: int
    """The first process is 1."""
    starts: int = 0
    is_well: bool = False
    """Whether nothing ails it."""
    status: str = "starting"
    """For people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What there is to see of a daemon; all of it changes while it works."""

    tally: Tally
    intake: Intake
    gates: Mapping[str, Gate]
    """By host."""
    heads_seconds: float
    """For how long no head has to be found archived until the daemon counts as unready."""
    began_at: float
    """When it began, by the event loop's clock."""
    processes: Sequence[ProcessTally] = ()
    """Those that this one keeps; what ails one of them, ails the daemon."""


def is_alive(observed: Observed, *, now: float, within_seconds: float = STUCK_SECONDS) -> bool:
    """Tell whether the writer came round *within_seconds*; who asks proves that the loop does."""
    return now - max(observed.tally.writer_turned_at, observed.began_at) < within_seconds


def ailments(observed: Observed, *, now: float) -> list[str]:
    """Why the daemon does not capture all, in words for people; nothing when it does."""
    return _own_ailments(observed, now) + [
        f"process {one.number}: {one.status.removeprefix(NOT_CAPTURING)}"
        for one in observed.processes
        if not one.is_well
    ]


def captures_any(observed: Observed, *, now: float) -> bool:
    """Tell whether at least one account is captured, whatever ails the others."""
    accounts = observed.tally.accounts.values()
    return not any(_of_writer(observed, now)) and any(
        not any(_of(account, observed, now)) for account in accounts
    )


def _own_ailments(observed: Observed, now: float) -> list[str]:
    """Why this process does not capture its share."""
    found = list(_of_writer(observed, now))
    for account in observed.tally.accounts.values():
        found += [f"account {account.name}: {one}" for one in _of(account, observed, now)]
    return found


def _of_writer(observed: Observed, now: float) -> Iterator[str]:
    """What keeps the streams' writer from writing."""
    tally = observed.tally
    if tally.writer_away_since is not None:
        yield f"the database has been away for {now - tally.writer_away_since:.0f} s"
    elif not tally.writer_turned_at:
        yield "nothing has been written yet"
    elif not is_alive(observed, now=now):
        yield f"the writer has been stuck for {now - tally.writer_turned_at:.0f} s"


def _of(account: AccountTally, observed: Observed, now: float) -> Iterator[str]:
    """What ails one account."""
    if account.state == "locked out":
        yield "its token is refused"
        return
    if account.state == "waiting":
        yield "Flowdock does not answer yet"
        return
    standing = sum(link.is_open for link in account.links)
    if not account.links and not account.elsewhere:
        yield "it follows no flow"
    elif standing < len(account.links):
        yield f"{standing} of {len(account.links)} streams stand"
    if account.paths and not account.matched_at:
        yield "no flow's newest message was looked at yet"
        return
    ago = newest_match_seconds(account, now=now)
    if ago is not None and ago > observed.heads_seconds:
        yield f"no flow's newest message was found archived for {ago:.0f} s"


def newest_match_seconds(account: AccountTally, *, now: float) -> float | None:
    """How long ago the newest message of any flow was found archived; None without flows."""
    return min(account.unmatched_seconds(now=now).values(), default=None)


def oldest_match_seconds(account: AccountTally, *, now: float) -> float | None:
    """The same of the flow of which it is longest ago; None without flows."""
    return max(account.unmatched_seconds(now=now).values(), default=None)


def summarize(observed: Observed, *, now: float) -> str:
    """One line: what is captured, or why nothing is; and how further processes are."""
    found = _own_ailments(observed, now)
    own = f"{NOT_CAPTURING}{'; '.join(found)}" if found else _captured(observed)
    return "; ".join([own, *(f"process {one.number}: {one.status}" for one in observed.processes)])


def _captured(observed: Observed) -> str:
    accounts = observed.tally.accounts.values()
    flows = sum(len(account.paths) for account in accounts)
    streams = sum(len(account.links) for account in accounts)
    events = sum(observed.tally.events.values())
    elsewhere = sum(account.elsewhere for account in accounts)
    if elsewhere and not flows:
        return f"other daemons capture {_counted(elsewhere, 'flow')}; ready to take over"
    return (
        f"capturing {_counted(flows, 'flow')} on {_counted(streams, 'stream')}, "
        f"{_counted(events, 'event')} since the start"
    )


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
