"""By what the repetitions of a message are known, also after it was erased."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec import Struct

from archiver.ingest.rewording import ERASED, Titles, members, shown_in_thread
from archiver.store.erasing import Form
from archiver.store.erasure import digest_of_text, mark_of


class Trace(Struct, frozen=True):
    """What the other events of a thread are compared with, also after the message was erased."""

    words: Mapping[str, str]
    """As in `archiver.store.erasure.Erasure`."""
    threads: Sequence[str]
    """The threads that it began."""


NO_TRACE = Trace({}, ())


def traces_of(
    forms: Iterable[Form],
    ids: Collection[int],
    said: Iterable[tuple[int, str]],
    begun: Iterable[tuple[int, str]],
) -> dict[int, Trace]:
    """By id: what is kept of each of *ids* that was erased before, and is to be kept of others."""
    texts, threads = defaultdict(set), defaultdict(list)
    for id_, told in said:
        texts[id_].add(told)
    for id_, thread in begun:
        threads[id_].append(thread)
    words: dict[int, dict[str, str]] = {id_: {} for id_ in ids}
    for one in forms:
        if one.id not in ids:
            continue
        if one.is_gone and (mark := mark_of(one.payload)):
            words[one.id] |= mark.words
            threads[one.id] += mark.threads
        else:
            titles = filter(Titles(texts[one.id]).repeat, members(one.payload, "title"))
            shown = shown_in_thread(one.payload) if threads[one.id] else ()
            known = (*texts[one.id], *titles, *shown)
            words[one.id] |= {digest_of_text(told): ERASED for told in known}
    return {id_: Trace(words[id_], tuple(threads[id_])) for id_ in ids}
