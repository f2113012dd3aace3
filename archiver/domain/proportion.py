"""Which ids are believed of a flow, by how far it is known to have come.

An id that was believed and is none would make all that is ever said below it seem proven, and old
listings newer than what is heard. So whatever way an event comes in, its id is held against the
newest that is known of its flow, and what is out of all proportion to that lies with the rejects.

The bounds are as strict as an honest service allows. In a flow ids are counted up, with small
holes; presence takes some too, so a large flow comes to some millions a year, and years may pass
unheard. Private conversations share one sequence, which came to ten digits (9492901419 was seen in
2017), and one may have rested while others filled it. Of the first id of a flow nothing is known.

Nobody can ask for a signal again: the service does not store it. So the id of one that is not next
to what is known is not believed at all, until a message or a listing comes as far.
"""

from archiver.domain.model import is_private

FARTHEST_START = 2**53
"""What numbers of JavaScript can tell: Flowdock's own clients had no others."""

FARTHEST_JUMP = 10**9
FARTHEST_PRIVATE_JUMP = 10**11
FARTHEST_SIGNAL = 1000
"""An unbroken stream brings nearly every id, so a signal comes close to what came before it."""

OUT_OF_PROPORTION = "an id out of all proportion to its flow's"


def is_far_beyond(id_: int, newest: int, flow: str) -> bool:
    """Tell whether *id_* can be no id of a flow that has come to *newest* (0: nobody knows).

    *flow* is its path, or any other name that it goes by.
    """
    return id_ > newest + FARTHEST_JUMP and id_ > farthest(newest, flow)  # the first is quick


def farthest(newest: int, flow: str) -> int:
    """The greatest id that is believed of a flow that has come to *newest*."""
    if not newest:
        return FARTHEST_START
    return newest + (FARTHEST_PRIVATE_JUMP if is_private(flow) else FARTHEST_JUMP)


def is_vouched_for(signal: int, newest: int) -> bool:
    """Tell whether the id of a *signal* is next to what its flow is known to have come to."""
    return signal <= newest + FARTHEST_SIGNAL
