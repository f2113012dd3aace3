"""Which ids are plausible in a flow, given the newest id that is known of it.

If an absurd id were believed, everything below it would seem proven, and old listings would count
as newer than what streams report. So the id of each event, however it arrives, is compared with the
newest known id of its flow; an event whose id is out of all proportion goes to the rejects.

The bounds are as strict as an honest service allows. The ids of a flow are consecutive but for
small holes. Presence takes ids too, so a large flow uses some millions a year, and the archiver may
not listen for years. Private conversations share one sequence, which has reached ten digits
(9492901419 was seen in 2017), and one may rest while others advance it. Nothing is known about the
first id of a flow.

Signals cannot be requested again, since the service does not store them. So the id of a signal is
believed only if it is close to a known id, or once a message or a listing has come as far.
"""

from archiver.domain.model import is_private

FARTHEST_START = 2**53
"""The limit of exact integers in JavaScript, in which Flowdock's own clients were written."""

FARTHEST_JUMP = 10**9
FARTHEST_PRIVATE_JUMP = 10**11
FARTHEST_SIGNAL = 1000
"""A stream brings nearly every id, so the id of a signal is close to the one before it."""

OUT_OF_PROPORTION = "its id is impossibly high for its flow"


def is_far_beyond(id_: int, newest: int, flow: str) -> bool:
    """Tell whether *id_* is implausible in a flow whose newest known id is *newest* (0: unknown).

    *flow* is its path, or any other name of it.
    """
    return id_ > newest + FARTHEST_JUMP and id_ > farthest(newest, flow)  # the first test is fast


def farthest(newest: int, flow: str) -> int:
    """The largest plausible id of a flow whose newest known id is *newest*."""
    if not newest:
        return FARTHEST_START
    return newest + (FARTHEST_PRIVATE_JUMP if is_private(flow) else FARTHEST_JUMP)


def is_vouched_for(signal: int, newest: int) -> bool:
    """Tell whether *signal*, an id, is at most a little above the newest known id of its flow."""
    return signal <= newest + FARTHEST_SIGNAL
