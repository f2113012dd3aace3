"""The *head* of each flow, which is the newest id that it is known to have, now and a while ago.

Ids are noted here by all that learns of them: streams, pages, and readings of the ledger. Imported
files are an exception, since their ids may be wrong or far ahead, and events sent later would seem
proven. But where the service lists nothing, they show that the flow has messages. An id is
*settled* once it has been known for the settling time, so that the service lists it if it ever
will. Only settled ids are due to be proven, and requests go no further.
"""

import math
from collections.abc import Collection, Mapping

from archiver.domain.coverage import Head

BEHIND_SECONDS = 60.0
"""How long at most ids wait to become due until the streams have written their claims.

The writer may be behind for ever."""


class Heads:
    """The heads of flows, by flow key; times are seconds of a monotonic clock."""

    def __init__(self, *, settling_seconds: float) -> None:
        self.settling_seconds = settling_seconds
        self._heads: dict[int, Head] = {}
        self._restored: dict[int, int] = {}
        self._begun: Collection[int] = ()
        self._noted: dict[int, int] = {}
        self._claimed_up_to = math.inf

    def restore(self, dues: Mapping[int, int]) -> None:
        """Take over, by flow key, the ids up to which the ledger says that all is due."""
        for flow_key, due in dues.items():
            self._restored[flow_key] = max(due, self._restored.get(flow_key, 0))
        self.noted(dues)

    def seen(self, flow_key: int, id_: int, *, at: float) -> None:
        """Note that the flow had reached *id_* at the time *at*."""
        if id_ <= self._restored.get(flow_key, 0):
            return  # as of each flow at the start, of most of which nothing will ever come again
        head = self._heads.get(flow_key)
        if head is None:
            head = self._heads[flow_key] = Head()
        head.seen(id_, at=at)

    def begun(self, flow_keys: Collection[int]) -> None:
        """Note the flows of which the archive holds anything, whatever it came from."""
        self._begun = flow_keys

    def found_empty(self, flow_key: int, *, at: float) -> None:
        """Note that the service lists nothing of a flow.

        If the archive holds something of it, its first id becomes due, so that it is asked for.
        """
        if not self.newest(flow_key) and flow_key in self._begun:
            self.seen(flow_key, 1, at=at)

    def newest(self, flow_key: int) -> int:
        """The newest id that the flow is known to have; 0 when none is known."""
        head = self._heads.get(flow_key)
        return max(head.newest if head else 0, self._restored.get(flow_key, 0))

    def settled(self, flow_key: int, *, now: float) -> int:
        """The newest settled id of the flow; 0 when there is none."""
        head = self._heads.get(flow_key)
        known = head.settled(before=now - self.settling_seconds) if head else 0
        return max(known, self._restored.get(flow_key, 0))

    def due(self, *, now: float) -> dict[int, int]:
        """By flow key: the id up to which all is now due, where the ledger does not have it yet.

        What the streams brought is not due before they have claimed it, since the writer may be far
        behind; but see `BEHIND_SECONDS`.
        """
        up_to = min(now, max(self._claimed_up_to, now - BEHIND_SECONDS))
        due = {}
        for flow_key in self._heads:
            settled = self.settled(flow_key, now=up_to)
            if settled > self._noted.get(flow_key, 0):
                due[flow_key] = settled
        return due

    def claimed(self, *, up_to: float) -> None:
        """Note that the ledger has all that the streams prove with what arrived until *up_to*."""
        self._claimed_up_to = up_to

    def noted(self, dues: Mapping[int, int]) -> None:
        """Note that the ledger has these *dues*, by flow key."""
        for flow_key, due in dues.items():
            self._noted[flow_key] = max(due, self._noted.get(flow_key, 0))
