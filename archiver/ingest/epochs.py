"""Which epoch each flow is in, and since when this daemon has known it.

An epoch of a flow begins when any daemon opens a stream of it; all earlier messages are doubted
then. What was sent just before can be listed only after the settling time, so until then no listing
can lift these doubts.
"""

UNSETTLED = -1
"""Stands for no epoch: a listing in it lifts no doubts."""


class Epochs:
    """The epochs of flows, by flow key; times are seconds of a monotonic clock."""

    def __init__(self, *, settling_seconds: float) -> None:
        self._settling_seconds = settling_seconds
        self._epochs: dict[int, tuple[int, float]] = {}

    def learned(self, flow_key: int, epoch: int, *, now: float) -> None:
        """Note that *epoch* is the flow's in the ledger; its age counts from the first time."""
        if self._epochs.get(flow_key, (UNSETTLED, now))[0] != epoch:
            self._epochs[flow_key] = (epoch, now)

    def settled(self, flow_key: int, *, now: float) -> int:
        """The epoch that a request made now belongs to; `UNSETTLED` if too young or unknown."""
        epoch, since = self._epochs.get(flow_key, (UNSETTLED, now))
        return epoch if now - since >= self._settling_seconds else UNSETTLED
