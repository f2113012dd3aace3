"""Which epoch each flow is in, and for how long we have known it.

An epoch of a flow begins when a stream of it is opened, by any daemon. What was said just before is
listable only when it has settled; until then no listing can lift the doubts that arose.
"""

UNSETTLED = -1
"""No epoch: what is listed in it is doubted all the same."""


class Epochs:
    """The epochs of flows, by flow key; times are seconds of a clock that does not go back."""

    def __init__(self, *, settling_seconds: float) -> None:
        self._settling_seconds = settling_seconds
        self._epochs: dict[int, tuple[int, float]] = {}

    def learned(self, flow_key: int, epoch: int, *, now: float) -> None:
        """Note that the ledger tells of *epoch*; it counts from when it was first learned."""
        if self._epochs.get(flow_key, (UNSETTLED, now))[0] != epoch:
            self._epochs[flow_key] = (epoch, now)

    def settled(self, flow_key: int, *, now: float) -> int:
        """The epoch to ask in; `UNSETTLED` while it is too young, or none is known."""
        epoch, since = self._epochs.get(flow_key, (UNSETTLED, now))
        return epoch if now - since >= self._settling_seconds else UNSETTLED
