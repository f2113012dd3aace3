"""What the tasks of a process have done and seen, as plain numbers.

Whoever watches over the archiver reads them: metrics, readiness, the watchdog. Nothing here knows
who. Times are the event loop's seconds.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from archiver.ingest.batch import Applied

MOST_KINDS = 100
OTHER = "other"
"""What all kinds of events beyond so many are called: a server may make up ever more names."""
PLAIN_REASONS = frozenset({"ended", "silence", "cut", "no answer", "no connection"})


@dataclass(slots=True, eq=False)
class Link:
    """What carries one shard of flows: a connection, or the attempts to make one."""

    slots: frozenset[str] = frozenset()
    """What comes on it, as in `archiver.domain.sharing`."""
    is_open: bool = False


@dataclass(slots=True, kw_only=True)
class AccountTally:
    """How one account is doing."""

    name: str
    state: Literal["waiting", "working", "locked out"] = "waiting"
    working_since: float = 0.0
    paths: Mapping[int, str] = field(default_factory=dict)
    """The flows that are followed, by flow key."""
    elsewhere: int = 0
    """Flows that the account could follow, and another daemon does."""
    links: set[Link] = field(default_factory=set)
    opened: int = 0
    """Connections that were made."""
    ended: Counter[str] = field(default_factory=Counter)
    """Connections that ended, and attempts that failed, by reason."""
    matched_at: dict[int, float] = field(default_factory=dict)
    """By flow key: when the newest message that the service listed was one that is archived, and
    that the stream had brought if it was to bring it."""

    def begin(self, *, now: float) -> None:
        """Note that the service knows the account, and that its work begins."""
        self.state, self.working_since = "working", now

    @contextmanager
    def link(self, slots: Iterable[str] = ()) -> Iterator[Link]:
        """A link that is wanted as long as the block lasts, and what comes on it."""
        link = Link(frozenset(slots))
        self.links.add(link)
        try:
            yield link
        finally:
            self.links.discard(link)

    def open(self, link: Link) -> None:
        """Note that *link* stands."""
        link.is_open = True
        self.opened += 1

    def end(self, link: Link, reason: str) -> None:
        """Note that *link* does not stand any more, or did not come about, and why."""
        link.is_open = False
        self.ended[reason_kind(reason)] += 1

    def match(self, flow_key: int, *, now: float) -> None:
        """Note that the newest message of a flow is archived."""
        self.matched_at[flow_key] = now

    def unmatched_seconds(self, *, now: float) -> dict[int, float]:
        """By flow key: how long ago its newest message was last seen to be archived."""
        return {
            key: now - max(self.matched_at.get(key, 0.0), self.working_since) for key in self.paths
        }


@dataclass(slots=True, kw_only=True)
class SharingTally:
    """How the flows are shared with other daemons; slots as in `archiver.domain.sharing`."""

    daemons: int = 1
    """How many share, this one included."""
    held: int = 0
    elsewhere: int = 0
    """Slots that this one could capture, and others do."""
    taken: int = 0
    """How many have come to this one since it began."""
    lost: int = 0
    renewed_at: float = 0.0
    """When the leases were last renewed; 0 when they never were, as when nothing is shared."""

    def change(self, *, taken: int, lost: int) -> None:
        """Note that slots came, and went."""
        self.taken += taken
        self.lost += lost


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a process has done since it began, over all accounts."""

    accounts: Mapping[str, AccountTally]
    sharing: SharingTally = field(default_factory=SharingTally)
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Events that were new to the journal, by kind and witness."""
    repeated: int = 0
    signals: int = 0
    rejected: int = 0
    messages: int = 0
    """Rows of messages that were made or changed."""
    batches: int = 0
    batch_seconds: float = 0.0
    """How long all batches took together, waiting for the database included."""
    database_errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By whose fault they were, and by SQLSTATE."""
    writer_turned_at: float = 0.0
    """When the streams' writer last came round, or was last told by the database why it cannot."""
    writer_away_since: float | None = None
    """Since when the database has refused the streams' writer; None when it does not."""

    @classmethod
    def of(cls, accounts: Iterable[str]) -> "Tally":
        """An empty tally of the accounts of these names."""
        return cls(accounts={name: AccountTally(name=name) for name in accounts})

    def heard(self) -> set[str]:
        """What comes on streams that stand."""
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
        """Note that the streams' writer has come round."""
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
    """One of few words for why a connection ended: no label is to hold what others wrote."""
    told = reason.partition(":")[0]
    if told in PLAIN_REASONS or told.startswith(("status ", "refused ")):
        return told.replace(" ", "_")
    return "not_a_stream"
