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
from archiver.ingest.rewording import may_show_thread, rewritten
from archiver.store.erasure import digest, digest_of_text, is_whole, mark_of, marked
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
    shown = {known: new for mark in marks for known, new in mark.shown.items()}

    def change(name: str, told: str) -> str:
        known = digest_of_text(told)
        new = words.get(known, told)
        return shown.get(known, new) if may_show_thread(name) else new

    body, found = rewritten(arrival.frame.decode(), change)
    if not found:
        return arrival, event
    digests = set(map(digest_of_text, found))
    left = marked(
        body,
        received=digest(arrival.frame),
        at=marks[-1].at,
        reason=marks[-1].reason,
        words={known: new for known, new in words.items() if known in digests},
        shown={known: new for known, new in shown.items() if known in digests},
    )
    frame = left.encode()
    decoded = (decode if arrival.witness == "stream" else decode_listed)(frame)
    if not isinstance(decoded, Event):
        return arrival, event
    return replace(arrival, frame=frame, digest=digest(arrival.frame)), decoded
