"""Decides which of several sharers captures which flows: evenly, and with few moves.

All sharers compute the same assignment from the same data, and each takes its own share. So no
coordinator is needed, and a sharer with old data merely acts late.

The unit of assignment is a *slot*: a flow, by its path, or all private conversations of a user,
``private/<user>``, which come on one stream.
"""

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from hashlib import blake2b

from archiver.domain.model import PRIVATE, is_private


def slot_of(path: str) -> str:
    """The slot of a flow or a private conversation."""
    return path.rpartition("/")[0] if is_private(path) else path


def private_slot(user: str) -> str:
    """The slot of all private conversations of *user*."""
    return f"{PRIVATE}{user}"


def deal(sees: Mapping[str, AbstractSet[str]], held: Mapping[str, str]) -> dict[str, str]:
    """Assign each slot to one of the sharers that can capture it.

    *sees* maps each sharer to the slots that it can capture; *held* maps slots to their present
    holders. A slot stays with its holder unless that one has at least two more than another sharer
    that could take it.
    """
    shares: dict[str, set[str]] = {sharer: set() for sharer in sees}
    for slot, holder in held.items():
        if slot in sees.get(holder, ()):
            shares[holder].add(slot)
    _give_free(shares, sees)
    while _even_out(shares, sees):
        pass
    return {slot: sharer for sharer, slots in shares.items() for slot in slots}


def _give_free(shares: Mapping[str, set[str]], sees: Mapping[str, AbstractSet[str]]) -> None:
    """Give each free slot to the sharer with the fewest."""
    taken = set[str]().union(*shares.values())
    free = set[str]().union(*sees.values()) - taken
    for slot in sorted(free):
        able = [sharer for sharer in shares if slot in sees[sharer]]
        least = min(able, key=lambda sharer: (len(shares[sharer]), _rank(sharer, slot)))
        shares[least].add(slot)


def _even_out(shares: Mapping[str, set[str]], sees: Mapping[str, AbstractSet[str]]) -> bool:
    """Move slots from one sharer with too many to one with too few; tell whether any were moved."""
    by_size = sorted(shares, key=lambda sharer: (len(shares[sharer]), sharer))
    for poor in by_size:
        for rich in reversed(by_size):
            surplus = (len(shares[rich]) - len(shares[poor])) // 2
            movable = shares[rich] & sees[poor]
            if surplus > 0 and movable:
                moved = _dearest(poor, movable, most=surplus)
                shares[rich].difference_update(moved)
                shares[poor].update(moved)
                return True
    return False


def _dearest(sharer: str, slots: Collection[str], *, most: int) -> list[str]:
    """The slots that *sharer* prefers: always the same ones, so few move when it comes back."""
    return sorted(slots, key=lambda slot: _rank(sharer, slot))[:most]


def _rank(sharer: str, slot: str) -> bytes:
    return blake2b(f"{sharer}\0{slot}".encode(errors="surrogatepass"), digest_size=8).digest()
