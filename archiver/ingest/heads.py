"""How far each flow has come, and how far it had come a while ago.

Everything that hears of ids tells it here: streams, pages, the ledger when it is read. Files that
were imported do not: theirs may be of a time to come, or of no time at all, and what is said later
would seem proven. Where the service lists nothing, they tell that the flow has begun. What is
*settled* was known for the settling time, so the service lists it if it ever will: only that is due
to be proven, and only that bounds what is asked for.
"""

import math
from collections.abc import Collection, Mapping

from archiver.domain.coverage import Head

BEHIND_SECONDS = 60.0
"""So long at most is waited for what the streams still have to prove: it may be more for ever than
can be written."""


class Heads:
    """The heads of flows, by flow key; times are seconds of a clock that does not go back."""

    def __init__(self, *, settling_seconds: float) -> None:
        self.settling_seconds = settling_seconds
        self._heads: dict[int, Head] = {}
        self._restored: dict[int, int] = {}
        self._begun: Collection[int] = ()
        self._noted: dict[int, int] = {}
        self._claimed_up_to = math.inf

    def restore(self, dues: Mapping[int, int]) -> None:
        """Take over what the ledger knows to be due."""
        for flow_key, due in dues.items():
            self._restored[flow_key] = max(due, self._restored.get(flow_key, 0))
        self.noted(dues)

    def seen(self, flow_key: int, id_: int, *, at: float) -> None:
        """Note that the flow had reached *id_* at the time *at*."""
        head = self._heads.get(flow_key)
        if head is None:
            head = self._heads[flow_key] = Head()
        head.seen(id_, at=at)

    def begun(self, flow_keys: Collection[int]) -> None:
        """Note the flows of which the archive holds something, whoever told it."""
        self._begun = flow_keys

    def found_empty(self, flow_key: int, *, at: float) -> None:
        """Note that the service lists nothing of a flow: if it has begun, its first id is due."""
        if not self.newest(flow_key) and flow_key in self._begun:
            self.seen(flow_key, 1, at=at)

    def newest(self, flow_key: int) -> int:
        """The newest id that the flow is known to have; 0 when none is."""
        head = self._heads.get(flow_key)
        return max(head.newest if head else 0, self._restored.get(flow_key, 0))

    def settled(self, flow_key: int, *, now: float) -> int:
        """The newest id that was known before the settling time; 0 when none was."""
        head = self._heads.get(flow_key)
        known = head.settled(before=now - self.settling_seconds) if head else 0
        return max(known, self._restored.get(flow_key, 0))

    def due(self, *, now: float) -> dict[int, int]:
        """By flow key: what has become due and was not `noted` in the ledger yet.

        What the streams brought is not due before they have claimed it: they may be far behind.
        """
        up_to = min(now, max(self._claimed_up_to, now - BEHIND_SECONDS))
        due = {}
        for flow_key in self._heads:
            settled = self.settled(flow_key, now=up_to)
            if settled > self._noted.get(flow_key, 0):
                due[flow_key] = settled
        return due

    def claimed(self, *, up_to: float) -> None:
        """Note that the ledger has all that the streams prove by what came until *up_to*."""
        self._claimed_up_to = up_to

    def noted(self, dues: Mapping[int, int]) -> None:
        """Note that the ledger has *dues*."""
        for flow_key, due in dues.items():
            self._noted[flow_key] = max(due, self._noted.get(flow_key, 0))
