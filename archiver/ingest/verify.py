"""Verifying claims: claimed ranges are listed again and compared with the archive.

Each claimed range is requested page by page, through the source that backfill and audit use. So the
one writer archives what a page shows, which repairs any difference. The rows of a page's range are
compared before and after that, and with the page itself. A change that a stream brought meanwhile
is not a difference; before that is judged, a daemon that follows the streams is given time to write
what they had brought by then.

When a listing shows an event that a stream claimed but did not bring, the ledger doubts the whole
flow. What was listed before this was found is then listed once more, so that the verified ranges
are left without doubts.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from archiver.domain.coverage import Ranges
from archiver.flowdock.breaks import reason_of
from archiver.flowdock.client import MAX_PAGE, UNANSWERED
from archiver.flowdock.refusals import TokenRefused
from archiver.ingest.apply import when_possible
from archiver.ingest.looks import Look, compare, listed_again, stored_differently
from archiver.ingest.pages import Reading
from archiver.ingest.source import Source
from archiver.store import coverage, journal, verifying
from archiver.store.connection import Engine
from archiver.store.coverage import Standing
from archiver.store.missing import UNTOLD

HEAD_SECONDS = 60.0
"""How often to learn the head of a flow again, as the known head is the position of listings."""

FOLLOW_SECONDS = 0.5
PATIENCE = 10
"""How many settling times to wait at most for a daemon that writes what streams brought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a verification uses."""

    source: Source
    workers: int
    now: Callable[[], datetime]
    on_page: Callable[[], None]
    """Called after each page."""


async def verify(means: Means, looks: Mapping[int, Look]) -> None:
    """List the claimed ranges of *looks*, by flow key, again; repair and note what differs.

    Raises:
        TokenRefused: the account is locked out; among others in a group.
    """
    source = means.source
    await _list_all(means, looks, {key: look.claimed for key, look in looks.items()})
    await _let_doubts_settle(source, looks)
    wanting = await source.wanting()
    again = {
        key: wanting[key].doubted & look.claimed
        for key, look in looks.items()
        if key in wanting and not look.troubles
    }
    await _list_all(means, looks, again)
    await _let_streams_follow(means, [look for look in looks.values() if look.differences])
    for look in looks.values():
        if look.differences:
            await _discount(means, look)
    standings = await when_possible(source.engine, coverage.standings)
    for key, look in looks.items():
        look.after = standings.get(key, Standing())


async def begin(
    source: Source, flow_keys: Collection[int], *, since: datetime | None
) -> dict[int, Look]:
    """By flow key: what to look at; with *since*, only at messages sent since then."""
    await source.wanting()  # for its effect: notes what is due in the ledger
    standings = await when_possible(source.engine, coverage.standings)
    now = asyncio.get_running_loop().time()
    looks = {}
    for key in flow_keys:
        first = 1
        if since is not None:
            sent_since = partial(verifying.first_since, flow_key=key, since=since)
            first = await when_possible(source.engine, sent_since)
        look = looks[key] = Look.over(key, standings.get(key, Standing()), first, now=now)
        if reason := source.untold.get(key):
            look.troubles.append(f"{UNTOLD}: {reason}")
    return looks


async def _let_doubts_settle(source: Source, looks: Mapping[int, Look]) -> None:
    """If doubts have arisen, wait for the settling time: an earlier listing would lift none."""
    await source.wanting()  # for its effect: learns the epochs in which they arose
    standings = await when_possible(source.engine, coverage.standings)
    if any(standings[key].doubted & looks[key].claimed for key in looks.keys() & standings):
        await asyncio.sleep(source.heads.settling_seconds)


async def _list_all(means: Means, looks: Mapping[int, Look], ranges: Mapping[int, Ranges]) -> None:
    todo = iter([key for key, wanted in ranges.items() if wanted])

    async def work() -> None:
        for key in todo:
            await _list_again(means, looks[key], ranges[key])

    async with asyncio.TaskGroup() as group:
        for _ in range(means.workers):
            group.create_task(work())


async def _list_again(means: Means, look: Look, ranges: Ranges) -> None:
    for first, last in ranges:
        try:
            await _list_range(means, look, first, last)
        except TokenRefused:
            raise
        except UNANSWERED as error:
            reason = reason_of(error)
            look.troubles.append(reason)
            await means.source.fail(look.flow_key, first, last, purpose="verify", error=reason)
            return


async def _list_range(means: Means, look: Look, first: int, last: int) -> None:
    """List a claimed range, in parts in which the archive has no more messages than fit a page."""
    source, flow_key = means.source, look.flow_key
    engine = source.engine
    while first <= last:
        await _refresh_head(source, look)
        looked_at = means.now()
        full = partial(verifying.nth, flow_key=flow_key, first=first, last=last, number=MAX_PAGE)
        bound = await when_possible(engine, full)
        seen = partial(verifying.seen, flow_key=flow_key, first=first, last=bound)
        before = await when_possible(engine, seen)
        reading = await source.ask(flow_key, first, bound, newest=False, purpose="verify")
        reached = _reach(reading, first, bound)
        seen = partial(verifying.seen, flow_key=flow_key, first=first, last=reached)
        after = await when_possible(engine, seen)
        for one in compare(before, after, listed=set(reading.ids)):
            look.differences.setdefault(one.id, one)
        look.pages += 1
        look.listed += len(reading.ids)
        look.looked = look.looked | Ranges.of([(first, reached)])
        if reading.trouble:
            look.troubles.append(reading.trouble)
        else:
            differing = stored_differently(reading.arrivals, after)
            _note_stored_differently(look, await _unless_erased(engine, flow_key, differing))
            _note_listed_again(look, listed_again(reading.arrivals, after))
            there = [id_ for id_, one in after.items() if not one.is_deleted]
            await _note_unlisted(means, look, there, listed=reading.ids, since=looked_at)
        means.on_page()
        first = reached + 1


async def _refresh_head(source: Source, look: Look) -> None:
    clock = asyncio.get_running_loop().time
    if clock() - look.head_at >= HEAD_SECONDS:
        await source.look_at_head(look.flow_key)
        await asyncio.sleep(source.heads.settling_seconds)
        look.head_at = clock()


def _reach(reading: Reading, first: int, bound: int) -> int:
    """The last id that a page for the range from *first* to *bound* covers."""
    if reading.trouble is None:
        return reading.proven.last
    return max((id_ for id_ in reading.ids if first <= id_ <= bound), default=bound)


def _note_stored_differently(look: Look, ids: Collection[int]) -> None:
    if ids:
        look.troubles.append(
            f"{len(ids)} messages differ from what Flowdock lists, since what it said of them "
            f"before has a later date: {min(ids)} to {max(ids)}"
        )


async def _unless_erased(engine: Engine, flow_key: int, ids: Sequence[int]) -> list[int]:
    """Those of the messages *ids* from which nobody erased words, which Flowdock still shows."""
    if not ids:
        return []
    keys = [(flow_key, id_) for id_ in ids]
    forms = await when_possible(engine, partial(journal.known, keys=keys))
    erased = {id_ for (_, id_), its in forms.items() if any(one.left for one in its)}
    return [id_ for id_ in ids if id_ not in erased]


def _note_listed_again(look: Look, ids: Collection[int]) -> None:
    if ids:
        look.troubles.append(
            f"{len(ids)} messages are listed by Flowdock, but kept as deleted, since it said so "
            f"before: {min(ids)} to {max(ids)}"
        )


async def _note_unlisted(
    means: Means, look: Look, there: Collection[int], *, listed: Collection[int], since: datetime
) -> None:
    """Note messages that are *there* in the archive, but neither listed nor answered with 404."""
    unlisted = set(there) - set(listed)
    if not unlisted:
        return
    shown = partial(verifying.shown, flow_key=look.flow_key, ids=unlisted, since=since)
    unlisted -= await when_possible(means.source.engine, shown)
    if unlisted:
        look.troubles.append(
            f"{len(unlisted)} archived messages are no longer listed, and are kept: "
            f"{min(unlisted)} to {max(unlisted)}"
        )


async def _let_streams_follow(means: Means, looks: Collection[Look]) -> None:
    """Wait until a daemon has written what streams brought before the flows were listed.

    That is so once the streams' claims reach the message that is the newest now. If they have not
    grown since the verification began, no daemon follows the flow.
    """
    if not looks:
        return
    source = means.source
    heads = {}
    for look in looks:
        with suppress(*UNANSWERED):
            heads[look.flow_key] = await source.look_at_head(look.flow_key)
    clock = asyncio.get_running_loop().time
    until = clock() + PATIENCE * source.heads.settling_seconds
    await asyncio.sleep(source.heads.settling_seconds)
    while clock() < until:
        standings = await when_possible(source.engine, coverage.standings)
        ends = {look.flow_key: _end(standings[look.flow_key].streamed) for look in looks}
        if not any(
            _end(look.before.streamed) < ends[look.flow_key] < heads.get(look.flow_key, 0)
            for look in looks
        ):
            return
        await asyncio.sleep(FOLLOW_SECONDS)


def _end(ranges: Ranges) -> int:
    return ranges.last if ranges else 0


async def _discount(means: Means, look: Look) -> None:
    """Take out the differences that are changes which a stream brought meanwhile."""
    ids = [one.id for one in look.differences.values() if one.kind != "not held"]
    changes_heard = partial(verifying.changes_heard, flow_key=look.flow_key, ids=ids)
    look.excuse(await when_possible(means.source.engine, changes_heard))
