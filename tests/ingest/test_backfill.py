"""What the backfill does without proper answers. The loop's clock jumps to the next timer."""

import asyncio
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import cast

import pytest
from typing_extensions import override

from archiver.domain.coverage import Ranges
from archiver.flowdock.client import MAX_PAGE
from archiver.flowdock.refusals import FlowRefused, StatusRefused
from archiver.ingest.backfill import HANDS, MOST_MESSAGES, Desk, audit, backfill
from archiver.ingest.pages import Reading
from archiver.ingest.source import Source
from archiver.store.wanted import Wanting
from tests.jumping import run

LOST, KEPT = 1, 2


class Service:
    """Two flows with five messages each; the account has just left one of them."""

    def __init__(self) -> None:
        self.paths = {LOST: "acme/lost", KEPT: "acme/kept"}
        self.missing = {key: Ranges(((1, 5),)) for key in self.paths}

    async def wanting(self) -> dict[int, Wanting]:
        return {
            key: Wanting(missing=self.missing[key], doubted=Ranges(), due=5, epoch=0)
            for key in self.paths
        }

    async def ask(self, flow_key: int, *_: object, **__: object) -> Reading:
        if flow_key == LOST:
            raise FlowRefused("acme/lost", 404)
        self.missing[flow_key] = Ranges()
        all_ = Ranges(((1, 5),))
        return Reading(arrivals=(), ids=(1, 2, 3, 4, 5), reach=all_, proven=all_, trouble=None)

    async def lose(self, flow_key: int, *, reason: str) -> None:
        assert "acme/lost" in reason
        del self.paths[flow_key]


class Silent(Service):
    """A service that does not answer in time for one flow."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: list[str] = []

    @override
    async def ask(self, flow_key: int, *asked: object, **options: object) -> Reading:
        if flow_key == LOST:
            raise TimeoutError
        return await super().ask(flow_key, *asked, **options)

    async def fail(self, flow_key: int, *_: object, error: str, **__: object) -> None:
        self.reasons.append(error)
        del self.paths[flow_key]


class Hiccup(Service):
    """A service that at first refuses the pages of one flow with the status *status*."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.refusals = [StatusRefused("/flows/acme/kept/messages", status)] * 2
        del self.paths[LOST]

    @override
    async def ask(self, flow_key: int, *asked: object, **options: object) -> Reading:
        if self.refusals:
            raise self.refusals.pop()
        return await super().ask(flow_key, *asked, **options)

    async def fail(self, *_: object, **__: object) -> None:
        pass


class Long(Service):
    """One flow of very many messages; it counts the pages that each worker asks for."""

    def __init__(self, ids: Iterable[int]) -> None:
        self.paths = {KEPT: "acme/kept"}
        self.ids = sorted(ids)
        self.missing = {KEPT: Ranges(((1, self.ids[-1]),))}
        self.pages = Counter[object]()

    @override
    async def ask(self, flow_key: int, *asked: object, **options: object) -> Reading:
        first, last = cast("tuple[int, int]", asked)
        newest = options["newest"]
        self.pages[asyncio.current_task()] += 1
        await asyncio.sleep(0.02)
        inside = self.ids[bisect_left(self.ids, first) : bisect_right(self.ids, last)]
        ids = inside[-MAX_PAGE:] if newest else inside[:MAX_PAGE]
        from_, to = (ids[0], last) if newest and ids else (first, ids[-1] if ids else last)
        reach = Ranges(((from_, to),))
        self.missing[flow_key] -= reach
        return Reading(arrivals=(), ids=tuple(ids), reach=reach, proven=reach, trouble=None)


class Away(Long):
    """A service that refuses each worker one page, after its first two."""

    @override
    async def ask(self, flow_key: int, *asked: object, **options: object) -> Reading:
        worker = asyncio.current_task()
        if self.pages[worker] == 2:
            self.pages[worker] += 1
            await asyncio.sleep(0.1)
            raise StatusRefused("/flows/acme/kept/messages", 503)
        return await super().ask(flow_key, *asked, **options)

    async def fail(self, *_: object, **__: object) -> None:
        """Record nothing."""


class Doubted(Service):
    """Two flows of 9,000 messages each, all of them doubted."""

    def __init__(self) -> None:
        super().__init__()
        self.missing = dict.fromkeys(self.paths, Ranges(((1, 9000),)))
        self.furthest_apart = 0

    @override
    async def wanting(self) -> dict[int, Wanting]:
        return {
            key: Wanting(missing=Ranges(), doubted=doubted, due=9000, epoch=0)
            for key, doubted in self.missing.items()
        }

    @override
    async def ask(self, flow_key: int, *asked: object, **options: object) -> Reading:
        assert options["newest"]
        _, last = cast("tuple[int, int]", asked)
        listed = Ranges(((last - MAX_PAGE + 1, last),))
        await asyncio.sleep(0)
        self.missing[flow_key] -= listed
        ends = [doubted.last if doubted else 0 for doubted in self.missing.values()]
        self.furthest_apart = max(self.furthest_apart, max(ends) - min(ends))
        ids = tuple(range(last - MAX_PAGE + 1, last + 1))
        return Reading(arrivals=(), ids=ids, reach=listed, proven=listed, trouble=None)

    async def doubt_oldest(self, _: timedelta) -> None:
        raise EOFError


def fill(service: Service, *, workers: int = 1) -> None:
    filling = backfill(cast("Source", service), workers=workers, until_done=True)
    run(asyncio.wait_for(filling, 60))


def filled(service: Long) -> Counter[object]:
    """The number of pages of *service* by worker, once nothing is missing."""
    fill(service, workers=4)
    assert not service.missing[KEPT]
    return service.pages


def test_what_is_sparse_further_back_is_not_asked_for_in_many_empty_pages():
    """Like a private conversation, whose ids grow with all that is said anywhere on the service."""
    lately = range(9_000_000_000, 9_000_100_000, 100)
    before = range(1_000_000, 9_000_000_000, 90_000_000)
    assert filled(Long([*lately, *before])).total() < 100


def test_what_is_dense_further_back_is_asked_for_side_by_side():
    lately = range(1_000_000, 1_000_000_000, 10_000_000)
    pages = filled(Long([*range(1, 20_001), *lately]))
    assert pages.total() < 400
    assert max(pages.values()) < 60


def test_a_flow_that_is_refused_is_set_aside_and_the_others_are_filled():
    service = Service()
    fill(service)
    assert service.paths == {KEPT: "acme/kept"}
    assert not service.missing[KEPT]


def test_a_page_that_did_not_come_is_told_with_a_reason_though_the_error_says_nothing():
    service = Silent()
    fill(service)
    assert service.reasons == ["no answer in time"]


def test_who_wants_to_be_done_waits_for_a_service_that_is_away_for_a_moment():
    service = Hiccup(503)
    fill(service)
    assert not service.missing[KEPT]


def test_who_is_given_no_page_by_many_at_once_waits_as_for_one(monkeypatch):
    monkeypatch.setattr("archiver.ingest.agenda.FIRST_PAUSE_SECONDS", 0.1)
    assert len(filled(Away(range(1, 20_001)))) == HANDS * 4


def test_what_asking_again_cannot_help_is_not_waited_for():
    service = Hiccup(400)
    fill(service)
    assert len(service.refusals) == 1


def test_an_audit_lists_no_flow_to_its_beginning_before_what_is_newer_in_another():
    service = Doubted()
    with pytest.raises(ExceptionGroup) as ended:
        run(asyncio.wait_for(audit(cast("Source", service), cycle=timedelta(days=1)), 60))
    assert ended.group_contains(EOFError)
    assert not any(service.missing.values())
    assert service.furthest_apart <= MOST_MESSAGES


def test_doubts_that_no_listing_can_lift_yet_are_doubts_all_the_same():
    """Otherwise the audit would doubt more and more flows while these wait."""
    desk = Desk("audit")
    early = Wanting(missing=Ranges(), doubted=Ranges(), due=5, epoch=1, is_early=True)
    assert desk.choose({KEPT: early}) == {KEPT: Ranges()}
    assert desk.is_doubtful
    desk.choose({})
    assert not desk.is_doubtful


def test_what_rests_keeps_nothing_else_from_being_listed_again():
    desk = Desk("audit")
    doubted = Wanting(missing=Ranges(), doubted=Ranges(((1, 5),)), due=5, epoch=1)
    desk.agenda.rest(KEPT, doubted.doubted, asked_at=0, now=0)
    told = []
    for now in (0.5, 60.0):
        desk.agenda.plan(desk.choose({KEPT: doubted}), now=now)
        told.append(desk.is_doubtful)
    assert told == [False, True]
