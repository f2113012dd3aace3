"""Facts into rows: messages and their history, brought up to date.

If all new facts are newer than the row of their message, they are folded into that row. Otherwise
the message is replayed from the journal, so late and repeated facts cost time, but the row is right
all the same. A message is also replayed if a listing showed a known form of it again, since that
form now counts at another position. Before a replay, the new facts are journalled in the same
transaction.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from archiver.domain.events import Decoded, Event
from archiver.domain.facts import BEFORE_ALL, Fact, Showing, arrange, position, target
from archiver.domain.fold import extend, may_be_seen, replay, untouched
from archiver.domain.history import original
from archiver.domain.model import EventId, Message, Revision
from archiver.errors import Corruption
from archiver.flowdock.decode import decode, decode_listed
from archiver.ingest.batch import erased, fact_of, vanished
from archiver.ingest.index_rows import are_found_alike
from archiver.ingest.novelty import Novelty
from archiver.store import journal, messages
from archiver.store.bulk import Key
from archiver.store.connection import Transaction
from archiver.store.journal import Entry
from archiver.store.marks import Marks
from archiver.store.messages import Held, History

NO_HISTORY = History(0, ())


async def change_messages(tx: Transaction, new: Novelty, *, commits: bool = False) -> int:
    """Journal *new* and update the messages that it is about; returns how many rows changed.

    If no facts are late, the journal is written together with the messages, which saves a round
    trip. With *commits*, the transaction may be committed when this returns; nothing may follow.
    """
    facts = new.facts
    unwritten = new.entries
    held = await _held(tx, new)
    late = _late(new, held)
    shown = [key for key in facts if key not in held and key not in late and shows(facts[key])]
    waiting = await _waiting(tx, shown, new.before.marks)
    known: dict[Key, list[Fact]] = {}
    if late:
        await journal.append(tx, unwritten)
        unwritten = []
        known = by_message(unaltered(await journal.about(tx, late)))

    added, changed = {}, {}
    made: dict[Key, History] = {}
    histories: dict[Key, History] = {}
    for key in shown:
        added[key] = replayed(key, [*facts[key], *waiting.get(key, ())], made)
    for key in late:
        if key not in held and shows(known.get(key, ())):
            added[key] = replayed(key, known[key], made)
    for key, one in held.items():
        if key in late:
            changed[key] = replayed(key, known.get(key, ()), histories)
        else:
            changed[key] = _extended(key, one, arrange(facts[key]), histories)
    await _leave_as_stored(tx, held, histories)
    alike = {
        key
        for key, one in changed.items()
        if key not in histories and are_found_alike(held[key].message, one.message)
    }
    histories |= {key: history for key, history in made.items() if history.revisions}
    # Not what the messages name in the end: one form may name a file that the next does not.
    named = [
        (key[0], fact.message.attachments)
        for key, its in facts.items()
        for fact in its
        if isinstance(fact, Showing) and fact.message.attachments
    ]
    rows = journal.rows_of(unwritten)
    await messages.store(
        tx,
        added=added,
        changed=changed,
        histories=histories,
        found_alike=alike,
        threads=new.threads,
        files=named,
        beside=rows,
        commits=commits,
    )
    return len(added) + len(changed)


def _late(new: Novelty, held: Mapping[Key, Held]) -> set[Key]:
    """The messages that have to be replayed: *new* has a fact that is not the newest about them.

    A message that is known but not stored is late, too: it may have been found absent before it was
    shown.
    """
    return {
        key
        for key, facts in new.facts.items()
        if key in new.moved or (_is_late(held[key], facts) if key in held else key in new.known)
    }


def _is_late(held: Held, facts: Iterable[Fact]) -> bool:
    message = held.message
    return any(
        position(fact) <= message.as_of or (held.revisions and may_be_seen(message, fact))
        for fact in facts
    )


async def _held(tx: Transaction, new: Novelty) -> dict[Key, Held]:
    """The stored messages that *new* is about.

    A message that is shown now, and that the journal did not hold, is not stored: no need to look.
    """
    held = {key: one for key, one in new.before.held.items() if key in new.facts}
    unseen = [
        key
        for key, facts in new.facts.items()
        if key not in new.before.targets and (key in new.reached or not shows(facts))
    ]
    return held | await messages.held(tx, unseen) if unseen else held


async def _leave_as_stored(
    tx: Transaction, held: Mapping[Key, Held], histories: dict[Key, History]
) -> None:
    """Drop from *histories* what is already stored the same: on `verify`, that is nearly all."""
    replayed_ = {
        key: one.revisions
        for key, one in histories.items()
        if one.first == 0 and len(one.revisions) == held[key].revisions
    }
    asked = [key for key, revisions in replayed_.items() if revisions]
    stored = await messages.stored_histories(tx, asked) if asked else {}
    for key, revisions in replayed_.items():
        if stored.get(key, ()) == revisions:
            del histories[key]


async def _waiting(
    tx: Transaction, shown: Iterable[Key], marks: Mapping[int, Marks]
) -> dict[Key, list[Fact]]:
    """The changes of the messages *shown* that arrived before the messages themselves."""
    targeted = [key for key in shown if marks[key[0]].may_change(key[1])]
    return by_message(unaltered(await journal.targeting(tx, targeted))) if targeted else {}


def replayed(key: Key, facts: Sequence[Fact], histories: dict[Key, History]) -> Held:
    """Replay the message *key* from all known *facts*; put its history into *histories*.

    Raises:
        Corruption: nothing in *facts* shows the message.
    """
    if message := untouched(facts):
        histories[key] = NO_HISTORY
        return Held(message, 0)
    folded = replay(facts)
    if folded is None:
        raise Corruption(f"a message is stored that is not in the journal: {key}")
    return _with_history(key, *folded, histories)


def _extended(key: Key, held: Held, facts: Sequence[Fact], histories: dict[Key, History]) -> Held:
    message, new = extend(held.message, [], facts)
    first = original(held.message)
    if held.revisions == 0 and (new or first != original(message)):
        return _with_history(key, message, (first, *new), histories)
    if new:
        histories[key] = History(held.revisions, new)
    return Held(message, held.revisions + len(new))


def _with_history(
    key: Key, message: Message, revisions: Sequence[Revision], histories: dict[Key, History]
) -> Held:
    """*message* with its whole history, which is not stored if the row alone says the same."""
    is_all = len(revisions) == 1 and revisions[0] == original(message)
    kept = () if is_all else tuple(revisions)
    histories[key] = History(0, kept)
    return Held(message, len(kept))


def by_message(entries: Iterable[Entry]) -> dict[Key, list[Fact]]:
    """The facts that *entries* state, by the message that each is about."""
    facts: dict[Key, list[Fact]] = {}
    for entry in entries:
        if fact := fact_in(entry, read_event(entry)):
            facts.setdefault((entry.flow_key, target(fact)), []).append(fact)
    return facts


def unaltered(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield *entries*, and check each against its digest.

    Raises:
        Corruption: one of them is neither as it was received nor as an erasure left it.
    """
    for entry in entries:
        if not journal.is_as_left(entry):
            raise alteration(entry.flow_key, entry.id)
        yield entry


def alteration(flow_key: int, id_: int) -> Corruption:
    """The error to raise when what the journal holds of an event is not what was received."""
    return Corruption(
        f"event {id_} of the flow with key {flow_key} was altered in store.journal: restore it "
        "from a backup, or delete its rows there and have it listed again by archiver verify"
    )


def fact_in(entry: Entry, event: Decoded) -> Fact | None:
    """The fact that a journal entry states, its *event* read by `read_event`; None if none."""
    if not isinstance(event, Event):
        return None
    was_listed = entry.witness != "stream"
    since = None
    if entry.first_as_of and entry.first_shown_at and entry.first_shown_at != entry.received_at:
        since = EventId(entry.first_as_of), entry.first_shown_at
    return fact_of(
        event,
        position=EventId(entry.as_of),
        shown_at=entry.received_at if was_listed and entry.received_at > BEFORE_ALL else None,
        since=since,
    )


def read_event(entry: Entry) -> Decoded:
    """Decode a journalled payload in the way that its witness requires."""
    if journal.is_erased_whole(entry):
        return erased(entry.id)
    match entry.witness:
        case "stream":
            return decode(entry.payload.encode())
        case "show":
            return vanished(entry.id, sent_at=entry.received_at)
        case "list" | "import":
            return decode_listed(entry.payload.encode())


def shows(facts: Iterable[Fact]) -> bool:
    """Tell whether any of *facts* shows the message: without one, there is no message to store."""
    for fact in facts:  # noqa: SIM110 - a generator costs three times as much, for each message
        if isinstance(fact, Showing):
            return True
    return False
