"""What an erasure changes: the forms of events that are erased, and of those that must be reworded.

An event that was asked for is erased with its changes. Titles of other events that repeat it, and
all that has a phrase, are reworded. And where a listing may show the erased words again, as of a
message whose edit had them, the form that is known must know what became of them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from archiver.errors import ArchiverError
from archiver.ingest.rewording import (
    Phrases,
    Titles,
    may_show_thread,
    members,
    rewritten,
    without,
)
from archiver.ingest.traces import Trace, traces_of
from archiver.store import erasing
from archiver.store.connection import Transaction
from archiver.store.erasing import Form, Told
from archiver.store.erasure import NO_WORDS, digest, digest_of_text, mark_of, without_mark

FormKey = tuple[int, int]
"""The id of an event, and the number of a form of it."""


class Wanted(Struct, frozen=True, kw_only=True):
    """What is to be erased."""

    flow_key: int
    ids: frozenset[int]
    phrases: tuple[str, ...] = ()


class Changed(Struct, frozen=True):
    """A form from which words are erased."""

    before: Form
    payload: str
    words: Mapping[str, str]
    shown: Mapping[str, str]
    """Both as in `archiver.store.erasure.Erasure`."""


class Found(Struct, frozen=True, kw_only=True):
    """What an erasure changes."""

    told: Sequence[Told]
    """The events that were asked for, but those that are erased already."""
    gone: Sequence[Form]
    """The forms of these, and of their changes."""
    titles: Sequence[Changed]
    """Forms of other events that repeat one of them as a title."""
    traces: Mapping[int, Trace]
    """By id: what is to be kept of those that were asked for."""
    paths: Sequence[str]
    """The files of `gone` that no other message names."""
    phrases: Sequence[Changed] = ()
    """Forms of other events with a phrase."""
    repeating: Titles
    """What titles may repeat of those that were asked for."""
    rejects: Sequence[int] = ()
    signals: Sequence[int] = ()
    places: Mapping[str, int] = {}
    """By phrase: how many other events, rejects and signals have it."""

    @property
    def is_nothing(self) -> bool:
        """Tell whether all is erased already."""
        return not (self.gone or self.changed or self.rejects or self.signals)

    @property
    def changed(self) -> Sequence[Changed]:
        """The forms of events that stay."""
        return (*self.titles, *self.phrases)

    @property
    def events(self) -> int:
        """How many events are erased as a whole."""
        return len({one.id for one in self.gone})

    @property
    def titled(self) -> int:
        """How many other events repeat one of them as a title."""
        return len({one.before.id for one in self.titles})


async def find(tx: Transaction, wanted: Wanted) -> Found:
    """Find what an erasure of what is *wanted* changes.

    Raises:
        ArchiverError: an id is not archived, or is that of a change of a message; or what is to be
            changed was altered in the database.
    """
    flow_key, ids = wanted.flow_key, wanted.ids
    forms = await erasing.own_forms(tx, flow_key, ids)
    _require_own(forms, ids, await _archived_targets(tx, flow_key, forms, ids))
    gone = [one for one in forms if not one.is_gone]
    gone_ids = {one.id for one in gone}
    phrases = Phrases(wanted.phrases)
    titles: dict[FormKey, Changed] = {}
    said = await erasing.said(tx, flow_key, ids)
    traces = traces_of(forms, ids, said, await erasing.begun(tx, flow_key, ids))
    repeating = Titles([words for _, words in said], {d for t in traces.values() for d in t.words})
    threads = [thread for trace in traces.values() for thread in trace.threads]
    for one in await erasing.replies(tx, flow_key, ids, threads):
        titles |= _reworded(one, gone_ids, phrases, repeating)
    paths = {path for one in gone for path in members(one.payload, "path")}
    found = Found(
        told=await erasing.told(tx, flow_key, ids & gone_ids),
        gone=gone,
        titles=list(titles.values()),
        traces=traces,
        repeating=repeating,
        paths=await erasing.paths_named_only_by(tx, flow_key, gone_ids, paths),
    )
    if not phrases:
        return found
    return await _with_others(tx, wanted, found, gone_ids, titles)


async def _with_others(
    tx: Transaction, wanted: Wanted, found: Found, but: Collection[int], done: Collection[FormKey]
) -> Found:
    """*found*, and all else that has a phrase: *but* events to be erased, and what is *done*."""
    phrases, parts = Phrases(wanted.phrases), Phrases(wanted.phrases).parts()
    others: dict[FormKey, Changed] = {}
    events: dict[int, bytes] = {}
    for one in await erasing.events_with(tx, wanted.flow_key, parts):
        if changed := _reworded(one, but, phrases):
            events[one.id] = events.get(one.id, b"") + one.payload.encode()
            others |= {key: new for key, new in changed.items() if key not in done}
    rejects = await erasing.rejects_with(tx, parts)
    rejects = {key: raw for key, raw in rejects.items() if phrases.are_in(raw)}
    signals = await erasing.signals_with(tx, wanted.flow_key, parts)
    signals = {key: raw for key, raw in signals.items() if phrases.are_in(raw)}
    texts = [*events.values(), *rejects.values(), *signals.values()]
    return replace(
        found,
        phrases=list(others.values()),
        rejects=list(rejects),
        signals=list(signals),
        places={one: sum(map(Phrases([one]).are_in, texts)) for one in wanted.phrases},
    )


async def with_knowing(tx: Transaction, wanted: Wanted, found: Found) -> Sequence[Changed]:
    """What is *found* to change, and the forms that must only know what becomes of its words.

    These are the forms of other messages whose listings may show the words again.

    Raises:
        ArchiverError: one of these was altered in the database.
    """
    changed = await _with_targets(tx, wanted.flow_key, found)
    return await _with_threads(tx, wanted, found, changed)


async def _with_targets(tx: Transaction, flow_key: int, found: Found) -> Sequence[Changed]:
    """What is *found* to change; and the messages whose changes are in it also have the words.

    A listing of such a message shows what an event changed, and must not bring it back.
    """
    changed = {(one.before.id, one.before.form): one for one in found.changed}
    changes: dict[int, list[Changed]] = {}
    for one in found.changed:
        if one.before.target_id is not None:
            changes.setdefault(one.before.target_id, []).append(one)
    for form in await erasing.own_forms(tx, flow_key, changes) if changes else ():
        if form.id in changes and form.form == 0 and not form.is_gone:
            for one in changes[form.id]:
                _also_know(changed, form, words=one.words, shown=one.shown)
    return list(changed.values())


async def _with_threads(
    tx: Transaction, wanted: Wanted, found: Found, changes: Iterable[Changed]
) -> Sequence[Changed]:
    """*changes*; and the messages of threads that are shown with words to be erased have these.

    A listing of such a message shows its thread as it is now, not as it was when it was sent.
    """
    changed = {(one.before.id, one.before.form): one for one in changes}
    phrases = Phrases(wanted.phrases)
    begun = {thread for trace in found.traces.values() for thread in trace.threads}
    gone = {one.id for one in found.gone}
    events = gone | {one.before.id for one in found.changed}
    shown: dict[str, Mapping[str, str]] = {}
    for thread, detail in await erasing.threads_as_shown(tx, wanted.flow_key, events):
        titles = found.repeating if thread in begun else None
        _, texts = rewritten(detail, partial(without, phrases=phrases, titles=titles))
        if texts:
            shown[thread] = {digest_of_text(old): new for old, new in texts.items()}
    for thread, form in await erasing.in_threads(tx, wanted.flow_key, shown):
        if form.id not in gone and not form.is_gone:
            _also_know(changed, form, words=NO_WORDS, shown=shown[thread])
    return list(changed.values())


def _also_know(
    changed: dict[FormKey, Changed],
    form: Form,
    *,
    words: Mapping[str, str],
    shown: Mapping[str, str],
) -> None:
    """Have *form* know what became of these texts, if it is listed with them."""
    known = changed.get((form.id, form.form))
    if known is None:
        _require_unaltered(form)
        known = _as_left(form)
    words, shown = {**known.words, **words}, {**known.shown, **shown}
    changed[form.id, form.form] = replace(known, words=words, shown=shown)


def _as_left(form: Form) -> Changed:
    """*form* as it is, with what an earlier erasure noted of its words."""
    mark = mark_of(form.payload) if form.is_left else None
    if mark is None:
        return Changed(form, form.payload, NO_WORDS, NO_WORDS)
    return Changed(form, without_mark(form.payload), mark.words, mark.shown)


async def _archived_targets(
    tx: Transaction, flow_key: int, forms: Iterable[Form], ids: Collection[int]
) -> set[int]:
    """Those of the messages that the events *ids* change which are archived themselves."""
    targets = {one.target_id for one in forms if one.id in ids and one.target_id is not None}
    found = await erasing.own_forms(tx, flow_key, targets) if targets else ()
    return targets & {one.id for one in found}


def _require_own(forms: Iterable[Form], ids: Collection[int], targets: Collection[int]) -> None:
    """Make sure that all of *ids* are archived, and none is of a change of one of *targets*.

    Raises:
        ArchiverError: some are not.
    """
    own = {one.id: one for one in forms if one.id in ids}
    if unknown := sorted(set(ids) - own.keys()):
        if changes := sorted({one.id for one in forms if one.target_id == unknown[0]}):
            raise ArchiverError(
                f"not archived: {unknown[0]}, but changes of it are: erase {_listed(changes)}; "
                "nothing was erased"
            )
        raise ArchiverError(
            f"not archived: {_listed(unknown)}; nothing was erased. archiver explain says why"
        )
    for one in own.values():
        if one.target_id in targets and one.target_id not in ids:
            raise ArchiverError(
                f"{one.id} is a {one.event} of {one.target_id}: erase {one.target_id}, and its "
                "changes are erased with it; nothing was erased"
            )


def _listed(ids: Sequence[int], most: int = 10) -> str:
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return ", ".join(map(str, ids[:most])) + more


def _reworded(
    one: Form, gone: Collection[int], phrases: Phrases, titles: Titles | None = None
) -> Mapping[FormKey, Changed]:
    """*one* with its new payload, by its key; empty if nothing changes, or it is erased itself.

    Raises:
        ArchiverError: it was altered in the database, and would look as if it had not been.
    """
    if one.id in gone or one.is_gone:
        return {}
    left = _as_left(one)
    words = {known: phrases.erased_from(text) for known, text in left.words.items()}
    shown = {known: without("title", text, phrases, titles) for known, text in left.shown.items()}

    def change(name: str, text: str) -> str:
        new = without(name, text, phrases, titles)
        if new != text:
            (shown if may_show_thread(name) else words)[digest_of_text(text)] = new
        return new

    payload, found = rewritten(left.payload, change)
    if not found and (words, shown) == (left.words, left.shown):
        return {}
    _require_unaltered(one)
    return {(one.id, one.form): Changed(one, payload, words, shown)}


def _require_unaltered(one: Form) -> None:
    """Make sure that *one* is as it was received, or as an erasure left it.

    Raises:
        ArchiverError: it was altered in the database, and would look as if it had not been.
    """
    if not one.is_left and digest(one.payload.encode()) != one.digest:
        raise ArchiverError(
            f"event {one.id} was altered in store.journal: see archiver rebuild --check; "
            "nothing was erased"
        )
