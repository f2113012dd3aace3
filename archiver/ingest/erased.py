"""What arrives of events that were erased, or from which words were erased.

The service may still show them, and exports of the archive may hold them. An event that was erased
is not taken in again, in whatever form it comes. From other events, the texts that held erased
words are known by their digests, and become again what the erasure made of them.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from archiver.domain.events import Event, Vanished
from archiver.flowdock.decode import decode, decode_listed
from archiver.ingest.batch import Arrival
from archiver.ingest.rewording import rewritten
from archiver.store.erasure import Erasure, digest, digest_of_text, is_whole, mark_of, marked
from archiver.store.journal import KnownForm


def is_erased(arrival: Arrival, forms: Sequence[KnownForm]) -> bool:
    """Tell whether *arrival* is of an event that was erased, and so must not be taken in.

    If it was erased in another archive alone, what is known of it here stays.
    """
    if arrival.digest is None:
        return any(form.is_gone for form in forms)
    is_here = any(one.digest == arrival.digest and one.left is None for one in forms)
    return is_here or is_whole(arrival.frame.decode()) or any(one.is_gone for one in forms)


def without_erased(
    arrival: Arrival, event: Event, forms: Sequence[KnownForm]
) -> tuple[Arrival, Event]:
    """*arrival* and its *event* without the words that were erased from other *forms* of it."""
    marks = [mark for one in forms if one.left and (mark := mark_of(one.left))]
    if not marks or arrival.digest is not None or isinstance(event, Vanished):
        return arrival, event
    words = {known: new for mark in marks for known, new in mark.words.items()}
    body, found = rewritten(
        arrival.frame.decode(), lambda _, told: words.get(digest_of_text(told), told)
    )
    if not found:
        return arrival, event
    frame = _left(body, arrival.frame, marks[-1], found).encode()
    decoded = (decode if arrival.witness == "stream" else decode_listed)(frame)
    if not isinstance(decoded, Event):
        return arrival, event
    return replace(arrival, frame=frame, digest=digest(arrival.frame)), decoded


def _left(body: str, received: bytes, mark: Erasure, found: dict[str, str]) -> str:
    words = {digest_of_text(old): new for old, new in found.items()}
    return marked(body, received=digest(received), at=mark.at, reason=mark.reason, words=words)
