"""Erasing what somebody said, in one transaction that locks the flow as the writer does.

Each form of an erased event, and of the events that change it, becomes a tombstone
(`archiver.store.erasure`), so what is proven stays proven, and the event is known when it comes
again. Other people's events stay; of these, titles that repeat an erased text, and phrases, are
replaced. Then the messages and threads concerned are replayed from what is left. What all of this
concerns is found by `archiver.ingest.erasing_plan`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from archiver.ingest.erasing_plan import Changed, Found, Wanted, find, with_knowing
from archiver.ingest.folding import NO_HISTORY, by_message, replayed, shows, unaltered
from archiver.ingest.rebuild import threads_in
from archiver.ingest.rewording import Phrases
from archiver.ingest.traces import NO_TRACE
from archiver.store import coverage, erasing, journal, messages, rebuilding
from archiver.store.bulk import Key
from archiver.store.connection import Engine, Transaction
from archiver.store.engine import keep_from_log, see_one_moment, transaction
from archiver.store.erasing import Form, Written
from archiver.store.erasure import NO_WORDS, emptied, marked
from archiver.store.messages import Held, History

REPLAYED = 1000
"""How many messages to replay at a time."""


async def survey(engine: Engine, wanted: Wanted) -> Found:
    """Find what an erasure would change; change nothing.

    Raises:
        ArchiverError: as `erasing_plan.find`.
    """
    async with transaction(engine) as tx:
        await see_one_moment(tx)
        await keep_from_log(tx)
        return await find(tx, wanted)


async def erase(
    engine: Engine, wanted: Wanted, *, now: datetime, reason: str | None = None
) -> Found:
    """Erase what is *wanted*: all of it, or nothing when it fails.

    Raises:
        ArchiverError: as `survey`.
    """
    async with transaction(engine) as tx:
        await keep_from_log(tx)
        await coverage.lock(tx, [wanted.flow_key])
        found = await find(tx, wanted)
        changed = await with_knowing(tx, wanted, found)
        await _write(tx, wanted, found, changed, now=now, reason=reason)
        await _replay(tx, wanted.flow_key, found)
    return found


async def _write(
    tx: Transaction,
    wanted: Wanted,
    found: Found,
    changed: Iterable[Changed],
    *,
    now: datetime,
    reason: str | None,
) -> None:
    """Erase what was *found*, except from what is computed from it; *changed* events stay."""

    def left(
        one: Form,
        payload: str,
        words: Mapping[str, str],
        *,
        shown: Mapping[str, str] = NO_WORDS,
        threads: Sequence[str] = (),
    ) -> Written:
        payload = marked(
            payload,
            received=one.digest,
            at=now,
            reason=reason,
            words=words,
            shown=shown,
            threads=threads,
        )
        return Written(id=one.id, form=one.form, payload=payload)

    flow_key = wanted.flow_key
    phrases = Phrases(wanted.phrases)
    await erasing.remove_files(tx, flow_key, found.paths)
    if phrases:
        paths = await erasing.attached_paths(tx, flow_key)
        renamed = [(path, new) for path in paths if (new := phrases.erased_from(path)) != path]
        await erasing.rename_files(tx, flow_key, renamed)
    traces = {(id_, 0): trace for id_, trace in found.traces.items()}
    tombstones = []
    for one in found.gone:
        trace = traces.get((one.id, one.form), NO_TRACE)
        tombstones.append(left(one, emptied(one.id), trace.words, threads=trace.threads))
    await erasing.leave_tombstones(tx, flow_key, tombstones)
    rewords = [left(one.before, one.payload, one.words, shown=one.shown) for one in changed]
    await erasing.reword(tx, flow_key, rewords)
    await erasing.remove_asides(tx, rejects=found.rejects, signals=found.signals)


async def _replay(tx: Transaction, flow_key: int, found: Found) -> None:
    """Make messages, history and threads what the journal says now."""
    forms = [*found.gone, *(one.before for one in found.changed)]
    events = {one.id for one in forms}
    about = sorted(events | {one.target_id for one in forms if one.target_id is not None})
    for start in range(0, len(about), REPLAYED):
        await _replay_messages(tx, flow_key, about[start : start + REPLAYED])
    if outdated := await erasing.threads_shown_by(tx, flow_key, events):
        ids = await erasing.events_about(tx, flow_key, outdated)
        entries = unaltered(await journal.about(tx, [(flow_key, id_) for id_ in ids]))
        shown = [one for one in threads_in(entries) if one.thread.id in set(outdated)]
        await rebuilding.remove_threads(tx, flow_key, outdated)
        await messages.store(tx, threads=shown)


async def _replay_messages(tx: Transaction, flow_key: int, ids: Sequence[int]) -> None:
    keys = [(flow_key, id_) for id_ in ids]
    entries = {(one.id, one.form): one for one in unaltered(await journal.about(tx, keys))}
    facts = by_message(entries.values())
    histories: dict[Key, History] = {}
    held: dict[Key, Held] = {
        key: replayed(key, facts[key], histories) for key in keys if shows(facts.get(key, ()))
    }
    if unfounded := [id_ for id_ in ids if (flow_key, id_) not in held]:
        await rebuilding.remove_messages(tx, flow_key, unfounded)
    await messages.store(
        tx, changed=held, histories={key: histories.get(key, NO_HISTORY) for key in keys}
    )
