"""Counters of what the tasks of a process have done and seen.

They are read for metrics, readiness and the watchdog; nothing here depends on their readers. Times
are the event loop's seconds.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from archiver.ingest.batch import Applied

MOST_KINDS = 100
OTHER = "other"
"""The name for all further kinds of events once there are `MOST_KINDS`.

A server may invent any number of kinds, and each would be a metric of its own."""
PLAIN_REASONS = frozenset({"ended", "silence", "cut", "no answer", "no connection"})


@dataclass(slots=True, eq=False)
class Link:
    """The stream of one shard of flows: its connection, or the attempts to make one."""

    slots: frozenset[str] = frozenset()
    """The slots that it carries, as in `archiver.domain.sharing`."""
    is_open: bool = False


@dataclass(slots=True, kw_only=True)
class AccountTally:
    """How one account is doing."""

    name: str
    state: Literal["waiting", "working", "locked out"] = "waiting"
    working_since: float = 0.0
    paths: Mapping[int, str] = field(default_factory=dict)
    """The flows that are followed, by flow key."""
    followed_since: dict[int, float] = field(default_factory=dict)
    elsewhere: int = 0
    """How many flows the account could follow, but another daemon follows."""
    links: set[Link] = field(default_factory=set)
    opened: int = 0
    """Connections that were made."""
    ended: Counter[str] = field(default_factory=Counter)
    """Connections that ended, and attempts that failed, by reason."""
    matched_at: dict[int, float] = field(default_factory=dict)
    """By flow key: when the newest listed message was last found to be archived.

    If the stream should have brought that message, it had."""

    def begin(self, *, now: float) -> None:
        """Note that the service knows the account, and that its work begins."""
        self.state, self.working_since = "working", now

    def follow(self, paths: Mapping[int, str], *, now: float) -> None:
        """Note that exactly these flows are followed from now on."""
        self.followed_since = {key: self.followed_since.get(key, now) for key in paths}
        self.paths = paths

    @contextmanager
    def link(self, slots: Iterable[str] = ()) -> Iterator[Link]:
        """A link that carries *slots*, and that counts as long as the block lasts."""
        link = Link(frozenset(slots))
        self.links.add(link)
        try:
            yield link
        finally:
            self.links.discard(link)

    def open(self, link: Link) -> None:
        """Note that the connection of *link* is open."""
        link.is_open = True
        self.opened += 1

    def end(self, link: Link, reason: str) -> None:
        """Note that the connection of *link* has ended, or could not be made, and why."""
        link.is_open = False
        self.ended[reason_kind(reason)] += 1

    def match(self, flow_key: int, *, now: float) -> None:
        """Note that the newest message of a flow is archived."""
        self.matched_at[flow_key] = now

    def unmatched_seconds(self, *, now: float) -> dict[int, float]:
        """By flow key: the seconds since its newest message was last found to be archived.

        Of a flow where that has not happened yet: the seconds for which it has been followed.
        """
        return {
            key: now
            - max(
                self.matched_at.get(key, 0.0),
                self.followed_since.get(key, 0.0),
                self.working_since,
            )
            for key in self.paths
        }


@dataclass(slots=True, kw_only=True)
class SharingTally:
    """How the flows are shared with other daemons; slots as in `archiver.domain.sharing`."""

    daemons: int = 1
    """How many daemons share, including this one."""
    held: int = 0
    elsewhere: int = 0
    """Slots that this daemon could capture, but others do."""
    taken: int = 0
    """How many slots it has taken since it began."""
    lost: int = 0
    renewed_at: float = 0.0
    """When the leases were last renewed; 0 if they never were, as when nothing is shared."""

    def change(self, *, taken: int, lost: int) -> None:
        """Note that so many slots were taken, and lost."""
        self.taken += taken
        self.lost += lost


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a process has done since it began, over all accounts."""

    accounts: Mapping[str, AccountTally]
    sharing: SharingTally = field(default_factory=SharingTally)
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Forms of events that were new to the journal, by kind and witness."""
    repeated: int = 0
    signals: int = 0
    rejected: int = 0
    messages: int = 0
    """Rows of messages that were added or changed."""
    batches: int = 0
    batch_seconds: float = 0.0
    """How long all batches took together, including the time waited for the database."""
    database_errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Errors by fault (`archiver.store.engine.Fault`) and SQLSTATE."""
    writer_turned_at: float = 0.0
    """When the streams' writer last began its loop, or the database last refused to write."""
    writer_away_since: float | None = None
    """Since when the database has refused the streams' writer; None when it does not."""

    @classmethod
    def of(cls, accounts: Iterable[str]) -> "Tally":
        """An empty tally for accounts of these names."""
        return cls(accounts={name: AccountTally(name=name) for name in accounts})

    def heard(self) -> set[str]:
        """The slots on open streams."""
        links = (link for account in self.accounts.values() for link in account.links)
        return {slot for link in links if link.is_open for slot in link.slots}

    def applied(self, applied: Applied, *, seconds: float) -> None:
        """Note what became of a batch, and how long it took."""
        for (kind, witness), number in applied.kinds.items():
            self.events[self._known(kind, witness), witness] += number
        self.repeated += applied.repeated
        self.signals += applied.signals
        self.rejected += applied.rejected
        self.messages += applied.messages
        self.batches += 1
        self.batch_seconds += seconds

    def turned(self, *, now: float) -> None:
        """Note that the streams' writer begins its loop again, so the database is not away."""
        self.writer_turned_at, self.writer_away_since = now, None

    def failed(self, fault: str, state: str) -> None:
        """Note an error of the database."""
        self.database_errors[fault, state] += 1

    def writer_failed(self, *, now: float) -> None:
        """Note that the database has refused the streams' writer, which goes on trying."""
        self.writer_turned_at = now
        if self.writer_away_since is None:
            self.writer_away_since = now

    def _known(self, kind: str, witness: str) -> str:
        is_room = len(self.events) < MOST_KINDS
        return kind if is_room or (kind, witness) in self.events else OTHER


def reason_kind(reason: str) -> str:
    """Reduce *reason* to one of a few words, so that no metric's label has text from outside."""
    told = reason.partition(":")[0]
    if told in PLAIN_REASONS or told.startswith(("status ", "refused ")):
        return told.replace(" ", "_")
    return "not_a_stream"
