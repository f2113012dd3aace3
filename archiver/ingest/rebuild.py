"""Rebuilding derived rows from the journal, a stretch of ids at a time.

Messages and their history are replayed as the writer replays them. A thread's state is the newest
that any event shows, but no index leads from a thread to its events, so threads take two passes.
The first compares each stored thread with the event that its row names; a thread that differs is
replaced by what that event shows. The second looks for events that show a newer state of a thread
than the stored one; that state is stored. In a sound archive neither finds anything at any moment,
so the passes need not see the same snapshot. Files that messages name become wanted, unless they
are.

Each stretch is a transaction of its own that locks the flow; other writers go on in between. Rows
that are right are not written. If the journal no longer holds what was received, nothing is made
from it: that is reported, and a person has to decide.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping

from msgspec import Struct

from archiver.domain.events import Event
from archiver.domain.facts import Fact, target
from archiver.ingest.folding import NO_HISTORY, alteration, fact_in, read_event, replayed, shows
from archiver.ingest.novelty import thread_of
from archiver.store import comparing, coverage, files, journal, messages, rebuilding
from archiver.store.bulk import Key
from archiver.store.comparing import Difference
from archiver.store.connection import Engine, Transaction
from archiver.store.engine import see_one_moment, transaction
from archiver.store.journal import Entry
from archiver.store.messages import Held, History, Shown
from archiver.store.rebuilding import Stretch

SEEN_TWICE = frozenset({"threads", "journal"})
"""The tables whose differences both passes may find."""

_Told = tuple[str, str, int | None]


class Step(Struct, frozen=True, kw_only=True):
    """What was found in one stretch."""

    done: float
    """The share of the flow that is done, from 0 to 1."""
    messages: int
    differences: tuple[Difference, ...]
    """What is found twice, in threads or in the journal, is reported once per flow."""
    erased: int = 0
    """From how many forms of events in the journal words, or all, were erased."""


class _Look(Struct, frozen=True, kw_only=True):
    """How a stretch, or some threads, should be, and how the stored rows differ from that."""

    flow_key: int
    held: dict[Key, Held]
    histories: dict[Key, History]
    threads: list[Shown]
    """The states to store in place of the stored ones."""
    differences: list[Difference]
    erased: int = 0
    """From how many forms of the events in the stretch words, or all, were erased."""


async def rebuild(engine: Engine, flow_key: int) -> AsyncIterator[Step]:
    """Make the derived rows of a flow what the journal says; yields how they differed."""
    async for step in _walk(engine, flow_key, begin=_keep_others_out, mend=_mend):
        yield step


async def check(engine: Engine, flow_key: int) -> AsyncIterator[Step]:
    """Yield how the derived rows of a flow differ from what the journal says; change nothing."""
    async for step in _walk(engine, flow_key, begin=_only_read, mend=_leave):
        yield step


async def _walk(
    engine: Engine,
    flow_key: int,
    *,
    begin: Callable[[Transaction, int], Awaitable[None]],
    mend: Callable[[Transaction, _Look], Awaitable[None]],
) -> AsyncIterator[Step]:
    async with transaction(engine) as tx:
        first, last = await rebuilding.bounds(tx, flow_key)
    told: set[_Told] = set()
    thread: str | None = ""
    while thread is not None:
        async with transaction(engine) as tx:
            await begin(tx, flow_key)
            look, thread = await _look_at_threads(tx, flow_key, after=thread)
            await mend(tx, look)
        yield _step(look, told, done=0.0)
    after = 0
    while True:
        async with transaction(engine) as tx:
            await begin(tx, flow_key)
            stretch = await rebuilding.next_stretch(tx, flow_key, after=after)
            if stretch is None:
                return
            look = await _look_at_stretch(tx, stretch)
            await mend(tx, look)
        after = stretch.last
        yield _step(look, told, done=min(1.0, (after - first + 1) / (last - first + 1)))
        if stretch.is_end:
            return


def _step(look: _Look, told: set[_Told], *, done: float) -> Step:
    new = [one for one in look.differences if (one.table, one.id, one.revision) not in told]
    told.update((one.table, one.id, one.revision) for one in new if one.table in SEEN_TWICE)
    return Step(done=done, messages=len(look.held), differences=tuple(new), erased=look.erased)


async def _look_at_threads(
    tx: Transaction, flow_key: int, *, after: str
) -> tuple[_Look, str | None]:
    """Compare some stored threads with the events that they name.

    Returns also the thread after which to go on; None when these were the last.
    """
    in_order = await rebuilding.stored_threads(tx, flow_key, after=after)
    stored = dict(in_order)
    if not stored:
        return _Look(flow_key=flow_key, held={}, histories={}, threads=[], differences=[]), None
    entries = await journal.about(tx, {(flow_key, as_of) for as_of in stored.values()})
    named = [shown for shown in threads_in(entries) if stored.get(shown.thread.id) == shown.as_of]
    newest = await comparing.newest(tx, named)
    differences = await comparing.compare_threads(tx, flow_key, stored, newest)
    wrong = {difference.id for difference in differences}
    look = _Look(
        flow_key=flow_key,
        held={},
        histories={},
        threads=[shown for shown in newest if shown.thread.id in wrong],
        differences=[*differences, *_alterations(entries)],
    )
    is_end = len(in_order) < rebuilding.BATCH_IDS
    return look, None if is_end else in_order[-1][0]


async def _look_at_stretch(tx: Transaction, stretch: Stretch) -> _Look:
    keys = [(stretch.flow_key, id_) for id_ in stretch.ids]
    own = set(stretch.ids)
    facts: dict[int, list[Fact]] = {}
    threads: list[Shown] = []
    entries = await rebuilding.entries_of(tx, stretch)
    for entry in entries:
        event = read_event(entry)
        if fact := fact_in(entry, event):
            facts.setdefault(target(fact), []).append(fact)
        if entry.id in own and isinstance(event, Event):
            threads += filter(None, [thread_of(entry.flow_key, event)])
    histories: dict[Key, History] = {}
    held = {
        key: replayed(key, facts[key[1]], histories) for key in keys if shows(facts.get(key[1], ()))
    }
    shown = await comparing.newest(tx, threads)
    outdated = await comparing.outdated_threads(tx, shown)
    return _Look(
        flow_key=stretch.flow_key,
        held=held,
        histories=histories,
        threads=[one for one, _ in outdated],
        differences=[
            *_alterations(entries),
            *await comparing.compare_messages(tx, stretch, held),
            *await comparing.compare_revisions(tx, stretch, histories),
            *(difference for _, difference in outdated),
            *await _unasked_files(tx, stretch, held),
        ],
        erased=sum(one.id in own and journal.lacks_words(one) for one in entries),
    )


async def _unasked_files(
    tx: Transaction, stretch: Stretch, held: Mapping[Key, Held]
) -> list[Difference]:
    named = [(id_, one.message.attachments) for (_, id_), one in held.items()]
    return [
        Difference(
            table="attached", id=str(id_), revision=None, field=None, stored=None, expected="row"
        )
        for id_ in await files.unasked(tx, stretch.flow_key, named)
    ]


def _alterations(entries: Iterable[Entry]) -> Iterator[Difference]:
    """Yield those of *entries* that are neither what was received nor what an erasure left."""
    for entry in entries:
        if not journal.is_as_left(entry):
            yield Difference(
                table="journal",
                id=str(entry.id),
                revision=entry.form,
                field="payload",
                stored=entry.payload[: comparing.TOLD_LETTERS],
                expected=None,
            )


def threads_in(entries: Iterable[Entry]) -> Iterable[Shown]:
    """Yield the threads that *entries* show."""
    for entry in entries:
        event = read_event(entry)
        if isinstance(event, Event) and (shown := thread_of(entry.flow_key, event)):
            yield shown


async def _keep_others_out(tx: Transaction, flow_key: int) -> None:
    await coverage.lock(tx, [flow_key])


async def _only_read(tx: Transaction, flow_key: int) -> None:  # noqa: ARG001
    await see_one_moment(tx)


async def _leave(tx: Transaction, look: _Look) -> None:
    """Change nothing."""


async def _mend(tx: Transaction, look: _Look) -> None:
    """Make stored rows what they should be.

    Raises:
        Corruption: the journal is not what was received, so nobody knows what they should be.
    """
    if wrong := [one.id for one in look.differences if one.table == "journal"]:
        raise alteration(look.flow_key, int(wrong[0]))
    rows = [one for one in look.differences if one.table == "messages"]
    unfounded = {int(one.id) for one in rows if one.is_unfounded}
    missing = {(look.flow_key, int(one.id)) for one in rows if one.is_missing}
    altered = {(look.flow_key, int(one.id)) for one in rows} - missing
    if unfounded:
        await rebuilding.remove_messages(tx, look.flow_key, unfounded)
    outdated = {
        (look.flow_key, int(one.id)) for one in look.differences if one.table == "revisions"
    }
    if threads := {one.id for one in look.differences if one.table == "threads"}:
        await rebuilding.remove_threads(tx, look.flow_key, threads)
    unasked = {(look.flow_key, int(one.id)) for one in look.differences if one.table == "attached"}
    await files.want(tx, [(key[0], look.held[key].message.attachments) for key in sorted(unasked)])
    await messages.store(
        tx,
        added={key: look.held[key] for key in missing},
        changed={key: look.held[key] for key in altered if key in look.held},
        histories={key: look.histories.get(key, NO_HISTORY) for key in outdated},
        threads=look.threads,
    )
