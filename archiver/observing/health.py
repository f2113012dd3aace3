"""Whether a daemon captures, as reported to probes, people and systemd.

*Alive* means that the process can do its work: the event loop responds, and the writer comes round,
or the database tells it why it cannot write. *Ready* means that the daemon captures: every account
is at work, its streams are open, what they bring is written, and newest messages are found in the
archive. While the database or Flowdock is away, the daemon is not ready. Only a hang makes it count
as dead, since only a hang is cured by a restart.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from archiver.flowdock.retry import Gate
from archiver.ingest.intake import Intake
from archiver.ingest.tally import AccountTally, Tally

NOT_CAPTURING = "not capturing: "
STUCK_SECONDS = 120.0
"""No statement keeps the writer waiting this long, unless something holds the tables locked."""


@dataclass(slots=True, kw_only=True)
class ProcessTally:
    """What a further process of the daemon reports about itself."""

    number: int
    """The first process is 1."""
    starts: int = 0
    is_well: bool = False
    """Whether nothing is wrong with it."""
    status: str = "starting"
    """A text for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What can be observed of a daemon; all of it changes while the daemon works."""

    tally: Tally
    intake: Intake
    gates: Mapping[str, Gate]
    """The gates of the hosts, by host."""
    heads_seconds: float
    """Not ready if no newest message of an account's flows was found archived for this long."""
    began_at: float
    """When the daemon began, by the event loop's clock."""
    processes: Sequence[ProcessTally] = ()
    """The further processes that this one supervises; the daemon is not ready unless all are."""


def is_alive(observed: Observed, *, now: float, within_seconds: float = STUCK_SECONDS) -> bool:
    """Tell whether the writer came round *within_seconds*; that this runs proves the loop alive."""
    return now - max(observed.tally.writer_turned_at, observed.began_at) < within_seconds


def problems(observed: Observed, *, now: float) -> list[str]:
    """The reasons why the daemon does not capture everything, for people; empty if it does."""
    return _own_problems(observed, now) + [
        f"process {one.number}: {one.status.removeprefix(NOT_CAPTURING)}"
        for one in observed.processes
        if not one.is_well
    ]


def captures_any(observed: Observed, *, now: float) -> bool:
    """Tell whether at least one account is captured, whatever is wrong with the others."""
    accounts = observed.tally.accounts.values()
    return not any(_of_writer(observed, now)) and any(
        not any(_of(account, observed, now)) for account in accounts
    )


def _own_problems(observed: Observed, now: float) -> list[str]:
    """The reasons why this process does not capture its share."""
    found = list(_of_writer(observed, now))
    for account in observed.tally.accounts.values():
        found += [f"account {account.name}: {one}" for one in _of(account, observed, now)]
    return found


def _of_writer(observed: Observed, now: float) -> Iterator[str]:
    """The reasons why the streams' writer does not write."""
    tally = observed.tally
    if tally.writer_away_since is not None:
        yield f"the database has been away for {now - tally.writer_away_since:.0f} s"
    elif not tally.writer_turned_at:
        yield "nothing has been written yet"
    elif not is_alive(observed, now=now):
        yield f"the writer has been stuck for {now - tally.writer_turned_at:.0f} s"


def _of(account: AccountTally, observed: Observed, now: float) -> Iterator[str]:
    """The reasons why *account* is not captured."""
    if account.state == "locked out":
        yield "Flowdock refuses its token"
        return
    if account.state == "waiting":
        yield "Flowdock does not answer yet"
        return
    standing = sum(link.is_open for link in account.links)
    if not account.links and not account.elsewhere:
        yield "it follows no flow"
    elif standing < len(account.links):
        yield f"{standing} of {len(account.links)} streams are open"
    if account.paths and not account.matched_at:
        yield "no flow's newest message has been checked yet"
        return
    ago = newest_match_seconds(account, now=now)
    if ago is not None and ago > observed.heads_seconds:
        yield f"no flow's newest message was found in the archive for {ago:.0f} s"


def newest_match_seconds(account: AccountTally, *, now: float) -> float | None:
    """How long ago the newest message of any flow was found archived; None without flows.

    A flow that has just come does not count as found.
    """
    found = [account.matched_at.get(key, 0.0) for key in account.paths]
    return now - max(account.working_since, *found) if found else None


def oldest_match_seconds(account: AccountTally, *, now: float) -> float | None:
    """How long ago that was for the flow that has waited longest; None without flows."""
    return max(account.unmatched_seconds(now=now).values(), default=None)


def summarize(observed: Observed, *, now: float) -> str:
    """One line: what is captured, or why not all is; and the status of further processes."""
    found = _own_problems(observed, now)
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
