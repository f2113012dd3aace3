"""What a batch brings that the journal does not hold yet.

An arriving event is one of three cases. A new form of it is journalled. A known form updates its
sightings if the listing that shows it again is newer, or older, than all that did before. Anything
else is a repetition, and nothing is written; so is any form of an event that was erased. The flows
are locked, so what is looked up stays true until the transaction ends.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from archiver.domain.events import Event, Posted, Rethreaded, ThreadChanged, UnreadChange
from archiver.domain.facts import BEFORE_ALL, Fact, Showing, target
from archiver.errors import Corruption
from archiver.ingest.batch import Arrival, Batch, fact_of
from archiver.ingest.erased import is_erased, without_erased
from archiver.store import journal, messages
from archiver.store.bulk import Key
from archiver.store.connection import Transaction
from archiver.store.erasure import digest as digest_of
from archiver.store.journal import Entry, KnownForm, Sighting
from archiver.store.marks import Marks, lock_to_write
from archiver.store.messages import Held, Shown

SHOWS_THREAD = (Posted, ThreadChanged, Rethreaded)
"""The events that may show a thread; a tuple, as a union in `isinstance` is built at each call."""


FIRST_DATE = datetime(2000, 1, 1, tzinfo=UTC)
"""Earlier dates of threads count as none: exports date all threads with one time in 1970."""

MOMENT = timedelta(microseconds=1)
LAST_MOMENT = datetime.max.replace(tzinfo=UTC)


class Before(Struct, frozen=True):
    """What is stored before a batch is written."""

    marks: Mapping[int, Marks]
    """By flow key: how far the journal goes."""
    targets: AbstractSet[Key]
    """The messages that the batch changes."""
    held: Mapping[Key, Held]
    """Those of `targets` that are stored."""


@dataclass(slots=True)
class Novelty:
    """What a batch brings that the journal did not hold."""

    before: Before
    reached: set[Key] = field(default_factory=set)
    """The events of the batch that the journal may already have held, judging by its marks."""
    known: set[Key] = field(default_factory=set)
    """Those of `reached` that it did hold."""
    entries: list[Entry] = field(default_factory=list)
    """The new forms, to be journalled."""
    sightings: list[Sighting] = field(default_factory=list)
    facts: dict[Key, list[Fact]] = field(default_factory=dict)
    """By message: the facts to fold into it."""
    moved: set[Key] = field(default_factory=set)
    """Events of which a known form has a new sighting, and so another position."""
    threads: list[Shown] = field(default_factory=list)
    listed: list[Key] = field(default_factory=list)
    """New events that came in a listing, not on a stream."""
    unread: list[Key] = field(default_factory=list)
    """Messages whose change cannot be read from its event, so that they must be listed."""
    unheard: int = 0
    """How many of `entries` are of events that the journal held in no form."""
    repeated: int = 0
    others: list[Arrival] = field(default_factory=list)
    """Signals and rejects, which do not go into the journal."""

    def knows_no_other_fact(self, key: Key) -> bool:
        """Tell whether all that is known of a message is at most one fact, from this batch."""
        is_known = key in self.reached or self.before.marks[key[0]].may_change(key[1])
        return not is_known and len(self.facts.get(key, ())) <= 1


async def look_before(tx: Transaction, batch: Batch) -> Before:
    """Lock the flows of *batch*, then read what is stored of them, all in one round trip."""
    targets = batch.targets()
    beside = [messages.holding(targets)] if targets else []
    marks, answers = await lock_to_write(tx, batch.flow_keys(), batch.listed(), beside=beside)
    return Before(marks, targets, messages.held_in(tx, answers[0]) if targets else {})


async def sort_out(tx: Transaction, batch: Batch, before: Before) -> Novelty:
    """Determine what of *batch* has to be journalled and folded, and write the new sightings.

    Its flows are locked, and *before* is what is stored of them.
    """
    new = Novelty(before)
    marks = before.marks
    events = []
    for arrival in batch.arrivals:
        if isinstance(event := arrival.decoded, Event):
            if arrival.flow_key is None:
                raise Corruption("an event without a flow came to be written")
            key = (arrival.flow_key, event.id)
            events.append((key, arrival, event))
            if marks[arrival.flow_key].may_hold(event.id):
                new.reached.add(key)
        else:
            new.others.append(arrival)
    forms = await journal.known(tx, new.reached) if new.reached else {}
    new.known.update(forms)
    now = LAST_MOMENT if batch.is_dated else batch.now
    for key, arrival, event in events:
        if not (its := forms.setdefault(key, [])):
            _place(new, key, arrival, event, its, now=now)
        elif is_erased(arrival, its):
            new.repeated += 1
        else:
            _place(new, key, *without_erased(arrival, event, its), its, now=now)
    if new.sightings:
        await journal.sight(tx, new.sightings)
    return new


def _place(
    new: Novelty,
    key: Key,
    arrival: Arrival,
    event: Event,
    forms: list[KnownForm],
    *,
    now: datetime,
) -> None:
    """Decide whether *arrival* is a new form, a new sighting of a known one, or a repetition."""
    flow_key = key[0]
    was_listed = arrival.listed_as_of is not None
    as_of = event.id if arrival.listed_as_of is None else max(event.id, arrival.listed_as_of)
    asked_at = arrival.shown_at if was_listed else None
    if asked_at and forms:
        asked_at = _not_before(asked_at, as_of, forms, now=now)
    shown_at = asked_at or BEFORE_ALL
    digest = arrival.digest or digest_of(arrival.frame)
    number = _number_of(digest, forms) if forms else None
    if number is None:
        first = (as_of, asked_at) if asked_at else (None, None)
        form = _kept(KnownForm(len(forms), digest, as_of, shown_at, was_listed, *first), arrival)
        forms.append(form)
        new.entries.append(_entry(flow_key, arrival, event, form))
        if form.form == 0:
            new.unheard += 1
            if arrival.witness == "list":
                new.listed.append(key)
        if asked_at and asked_at != arrival.received_at:
            new.sightings.append(_sighting(key, form))
    elif was_listed and (form := _seen_again(forms[number], as_of, shown_at)) != forms[number]:
        forms[number] = form
        new.sightings.append(_sighting(key, form))
        new.moved.add(key)
        new.repeated += 1
    else:
        new.repeated += 1
        return
    # Also for a form shown again: read as listed, it may show a thread that a stream's did not.
    if thread := thread_of(flow_key, event):
        new.threads.append(thread)
    if fact := fact_of(event, position=as_of, shown_at=asked_at):
        about = key if isinstance(fact, Showing) else (flow_key, target(fact))
        new.facts.setdefault(about, []).append(fact)
        if number is None and _is_unread(arrival, event, form):
            new.unread.append(about)


def _kept(form: KnownForm, arrival: Arrival) -> KnownForm:
    """*form*, which *arrival* brought: as an erasure left it, if one did."""
    return replace(form, left=arrival.frame.decode()) if arrival.digest else form


def _is_unread(arrival: Arrival, event: Event, form: KnownForm) -> bool:
    """Tell whether only a listing can show what *arrival*, of a new *form*, did to its message.

    That is so for changes of an unknown shape, and where a stream brings another form of a known
    event, since no id tells which of the two forms is newer.
    """
    if form.form:
        return arrival.witness == "stream"
    return type(event) is UnreadChange and arrival.witness != "list"


def _not_before(
    asked_at: datetime, as_of: int, forms: Iterable[KnownForm], *, now: datetime
) -> datetime:
    """*asked_at*, or just after the last listing of the same position, if that has a future date.

    The clock that dated that one has been set back since, or was another machine's and fast. Until
    its date comes, it would outweigh every newer listing at this position.
    """
    last = max(
        (form.shown_at for form in forms if form.was_listed and form.as_of == as_of),
        default=BEFORE_ALL,
    )
    if last <= now:
        return asked_at
    # A file may state the latest time that can be represented.
    return last + MOMENT if last < LAST_MOMENT else last


def _sighting(key: Key, form: KnownForm) -> Sighting:
    return Sighting(
        flow_key=key[0],
        id=key[1],
        form=form.form,
        as_of=form.as_of,
        shown_at=form.shown_at,
        first_as_of=form.first_as_of,
        first_shown_at=form.first_shown_at,
    )


def _seen_again(known: KnownForm, as_of: int, shown_at: datetime) -> KnownForm:
    """*known*, its sightings updated for a listing at that position and time."""
    place = (as_of, shown_at)
    if not known.was_listed or place > (known.as_of, known.shown_at):
        known = replace(known, as_of=as_of, shown_at=shown_at, was_listed=True)
    # Without a time, as in an imported file, it cannot be the first sighting: that must be dated.
    if shown_at > BEFORE_ALL and (
        known.first_as_of is None
        or known.first_shown_at is None
        or place < (known.first_as_of, known.first_shown_at)
    ):
        known = replace(known, first_as_of=as_of, first_shown_at=shown_at)
    return known


def _number_of(digest: bytes, forms: Iterable[KnownForm]) -> int | None:
    return next((n for n, form in enumerate(forms) if form.digest == digest), None)


def _entry(flow_key: int, arrival: Arrival, event: Event, form: KnownForm) -> Entry:
    return Entry(
        flow_key,
        event.id,
        form.form,
        form.digest,
        arrival.witness,
        event.kind,
        event.user,
        event.sent_at,
        None if isinstance(event, Posted) else getattr(event, "target", None),
        arrival.frame.decode(),
        form.as_of,
        arrival.received_at,
    )


def thread_of(flow_key: int, event: Event) -> Shown | None:
    """The thread that *event* shows, if any."""
    if isinstance(event, SHOWS_THREAD) and (thread := event.thread):
        told_at = None if _is_date(thread.updated_at) else event.sent_at
        return Shown(flow_key, thread, event.id, told_at if _is_date(told_at) else None)
    return None


def _is_date(at: datetime | None) -> bool:
    return at is not None and at >= FIRST_DATE
