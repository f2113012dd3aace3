"""The reader's time zone: the machine's clock is read like the zone of the same name."""

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, reset_tzpath

import click
import pytest

from archiver.cli.search import _last
from archiver.cli.searching.finding import Asked, Outcome
from archiver.cli.tables import moment
from archiver.cli.zones import Zone, localize, on_clock
from archiver.domain.query import Query
from archiver.store.search import Hit, Page
from archiver.store.search_queue import Backlog

ZONES = ("Europe/Helsinki", "America/Sao_Paulo", "America/Havana", "Australia/Lord_Howe", "UTC")


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of the zone that the machine is in."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


@pytest.mark.parametrize(
    "told",
    [
        "2024-03-31T03:30:00.123457",  # skipped in Helsinki
        "2024-10-27T03:30:00",  # occurs twice there
        "2018-11-04T00:00:00",  # a day that begins at 01:00 in Sao Paulo
        "2018-02-17T23:30:00",
        "2024-03-10T00:00:00",  # and in Havana
        "2024-11-03T00:30:00",
        "2024-10-06T02:15:00",  # half an hour is skipped on Lord Howe
        "2024-02-29T12:00:00",
        "0002-01-01T00:00:00",
        "9998-12-31T23:59:59.999999",
    ],
)
def test_the_machine_tells_a_moment_as_its_zone_does(zone: str, told: str) -> None:
    at = datetime.fromisoformat(told)
    assert localize(at, None) == localize(at, ZoneInfo(zone)).astimezone(UTC)


@pytest.fixture
def without_zones(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without a database of time zones, such as a small container."""
    monkeypatch.setitem(sys.modules, "tzdata", None)
    reset_tzpath(to=())
    ZoneInfo.clear_cache()
    yield
    reset_tzpath()


@pytest.mark.usefixtures("without_zones")
def test_a_machine_without_zones_says_so_and_blames_no_name() -> None:
    with pytest.raises(click.BadParameter, match="has no time zones but UTC: install"):
        Zone().convert("Europe/Helsinki", None, None)
    assert Zone().convert("utc", None, None) is UTC


@pytest.mark.parametrize(
    ("at", "told"),
    [
        (None, "-"),
        (datetime(1, 1, 1, 0, 0, 59, 999_999, UTC), "0001-01-01 00:00:59Z"),
        (datetime(2024, 2, 29, 12, tzinfo=ZoneInfo("Asia/Tokyo")), "2024-02-29 03:00:00Z"),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), "9999-12-31 23:59:59Z"),
    ],
)
def test_a_time_has_four_digits_of_its_year(at: datetime | None, told: str) -> None:
    assert moment(at) == told


@pytest.mark.parametrize("zone", ["Europe/Helsinki"], indirect=True)
@pytest.mark.usefixtures("zone")
def test_how_far_back_a_search_came_is_told_on_the_clock_of_then() -> None:
    since = datetime(2024, 7, 1, 12, tzinfo=UTC)
    page = Page(hits=(), is_last=False, searched_from=Hit(since, 0, 0))
    outcome = Outcome(
        shown=(),
        page=page,
        backlog=Backlog(changes=0, since=None, flows=0),
        is_made=True,
        lacks_parts=False,
        next_hit=None,
    )
    winter = on_clock(datetime(2024, 12, 1, tzinfo=UTC), None)
    asked = Asked(query=Query(None), now=winter, localize=lambda at: localize(at, None), most=1)
    assert "the time limit was reached: searched back to 2024-07-01 15:00+03:00" in _last(
        outcome, asked, None
    )
