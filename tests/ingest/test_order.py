"""A service that lists the newest messages where the oldest are asked for proves nothing by it."""

import dataclasses
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import pytest

from archiver import daemon
from archiver.flowdock.client import Limits
from archiver.ingest.order import NOT_OLDEST
from archiver.ingest.source import Source
from archiver.simulator import listing
from archiver.simulator.server import Simulator
from archiver.store.engine import connect
from tests.ingest.arriving import query
from tests.test_daemon import settings_for


class Asked:
    """A flow, and the pages that were requested of it."""

    def __init__(self, flowdock: Simulator, source: Source, url: str) -> None:
        self.source, self.url = source, url
        (self.flow_key,) = source.paths
        self.ids = [one.id for one in flowdock.world.flows[0].timeline]
        self.pages: list[dict[str, Any]] = []
        self._page = source.client.page
        source.client.page = self._note  # type: ignore[method-assign]

    async def _note(self, *given: Any, **wanted: Any) -> Any:
        self.pages.append(wanted)
        return await self._page(*given, **wanted)

    @property
    def hole(self) -> int:
        """The first id that is no message's; a page asked for from there begins later."""
        return next(before + 1 for before, id_ in pairwise(self.ids) if id_ > before + 1)

    async def ask(self, first: int = 1, last: int | None = None, *, newest: bool = False) -> Any:
        return await self.source.ask(
            self.flow_key, first, last or self.ids[-1], newest=newest, purpose="backfill"
        )


@pytest.fixture
async def asked(database_url: str) -> AsyncIterator[Asked]:
    async with Simulator.start(flows=1, history=250, listing_delay_seconds=0) as flowdock:
        settings = settings_for(flowdock, database_url, private=False)
        async with connect(database_url) as engine, daemon.works(settings, engine) as shared:
            account = shared.account(settings.require_accounts()[0])
            await account.look_up()
            yield Asked(flowdock, account.source, database_url)


@pytest.fixture
def unsorted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the service ignore ``sort=asc``."""
    change(monkeypatch, lambda asked: {"ascending": False})


def change(
    monkeypatch: pytest.MonkeyPatch, ignored: Callable[[listing.Query], dict[str, Any]]
) -> None:
    """Make the service answer another request for messages than it was sent."""
    parse = listing.parse

    def deaf(*given: Any, **wanted: Any) -> listing.Query:
        asked = parse(*given, **wanted)
        return dataclasses.replace(asked, **ignored(asked))

    monkeypatch.setattr(listing, "parse", deaf)


async def test_the_order_of_a_flow_is_looked_at_once(asked: Asked) -> None:
    for _ in range(2):
        assert (await asked.ask(asked.hole)).trouble is None
    assert [one["limit"] for one in asked.pages] == [100, 1, 100]


async def test_a_page_that_holds_all_there_is_needs_no_look(asked: Asked) -> None:
    assert 1 < len((await asked.ask(asked.hole, asked.ids[28])).ids) < 30
    assert len(asked.pages) == 1


@pytest.mark.usefixtures("unsorted")
async def test_nor_does_one_of_which_the_newest_messages_are_asked_for(asked: Asked) -> None:
    reading = await asked.ask(newest=True)
    assert (reading.ids, reading.trouble) == (tuple(asked.ids[-100:]), None)
    assert len(asked.pages) == 1


@pytest.mark.usefixtures("unsorted")
async def test_the_newest_messages_are_not_taken_for_the_oldest(asked: Asked) -> None:
    reading = await asked.ask()
    assert reading.ids == tuple(asked.ids[-100:])
    assert (reading.trouble, reading.proven.spans) == (NOT_OLDEST, ())
    assert query(asked.url, "SELECT count(*) FROM archive.messages") == [(100,)]
    assert query(asked.url, "SELECT * FROM archive.coverage") == []
    assert query(asked.url, "SELECT error FROM store.pages") == [(NOT_OLDEST,)]


@pytest.mark.parametrize("most", [30, 50, 99])
@pytest.mark.parametrize("is_deaf", [True, False])
async def test_nor_are_they_if_pages_are_shorter_than_was_asked_for(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, most: int, is_deaf: bool
) -> None:
    """A service has a limit of its own, which it applies to each request or to large ones."""
    change(
        monkeypatch,
        lambda one: {"ascending": False, "limit": most if is_deaf else min(most, one.limit)},
    )
    reading = await asked.ask()
    assert reading.ids == tuple(asked.ids[-most:])
    assert (reading.trouble, reading.proven.spans) == (NOT_OLDEST, ())
    assert query(asked.url, "SELECT * FROM archive.coverage") == []


async def test_a_page_of_another_length_proves_what_it_reaches_if_it_has_the_oldest(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(monkeypatch, lambda _: {"limit": 30})
    hole = asked.hole
    reading = await asked.ask(hole)
    assert (len(reading.ids), reading.trouble) == (30, None)
    assert reading.proven.spans == ((hole, reading.ids[-1]),)


@pytest.mark.usefixtures("unsorted")
async def test_nor_is_one_that_is_too_large_for_others_to_come_with_it(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked.source.client, "_limits", Limits(page_bytes=10))
    reading = await asked.ask()
    assert reading.ids == (asked.ids[-1],)
    assert (reading.trouble, reading.proven.spans) == (NOT_OLDEST, ())


async def test_one_that_is_too_large_is_the_oldest_if_none_lies_below(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked.source.client, "_limits", Limits(page_bytes=10))
    hole = asked.hole
    reading = await asked.ask(hole)
    assert reading.trouble is None
    assert reading.proven.spans == ((hole, next(id_ for id_ in asked.ids if id_ > hole)),)
    # Two pages that were too large, a single message, a look below it, and one at the flow.
    assert [one["limit"] for one in asked.pages] == [100, 10, 1, 1, 1]
