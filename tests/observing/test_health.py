"""When a daemon counts as alive, and when as capturing."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from archiver.ingest.tally import AccountTally, Tally
from archiver.observing.health import (
    Observed,
    ProcessTally,
    captures_any,
    is_alive,
    problems,
    summarize,
)
from tests.observing.conftest import NOW


async def test_one_that_captures_ails_from_nothing(observed: Observed) -> None:
    assert problems(observed, now=NOW) == []
    assert is_alive(observed, now=NOW)
    assert summarize(observed, now=NOW) == (
        "capturing 2 flows on 1 stream, 0 events since the start"
    )


async def test_one_whose_flows_others_capture_ails_from_nothing_and_says_so(
    observed: Observed,
) -> None:
    account = observed.tally.accounts["work"]
    account.paths, account.elsewhere = {}, 2
    account.links.clear()
    assert problems(observed, now=NOW) == []
    assert summarize(observed, now=NOW) == "other daemons capture 2 flows; ready to take over"


def away(observed: Observed) -> None:
    observed.tally.writer_failed(now=NOW - 7)


def not_begun(observed: Observed) -> None:
    observed.tally.writer_turned_at = 0.0


def stuck(observed: Observed) -> None:
    observed.tally.writer_turned_at = NOW - 500


def refused(observed: Observed) -> None:
    observed.tally.accounts["work"].state = "locked out"


def waiting(observed: Observed) -> None:
    observed.tally.accounts["work"].state = "waiting"


def unlisted(observed: Observed) -> None:
    observed.tally.accounts["work"].links.clear()


def cut(observed: Observed) -> None:
    account = observed.tally.accounts["work"]
    account.end(next(iter(account.links)), "silence")


def unlooked(observed: Observed) -> None:
    observed.tally.accounts["work"].matched_at.clear()


def kept_back(observed: Observed) -> None:
    observed.tally.accounts["work"].matched_at = {1: NOW - 301, 2: NOW - 400}
    observed.tally.accounts["work"].working_since = 0.0


@pytest.mark.parametrize(
    ("befall", "told"),
    [
        (away, "the database has been away for 7 s"),
        (not_begun, "nothing has been written yet"),
        (stuck, "the writer has been stuck for 500 s"),
        (refused, "account work: Flowdock refuses its token"),
        (waiting, "account work: Flowdock does not answer yet"),
        (unlisted, "account work: it follows no flow"),
        (cut, "account work: 0 of 1 streams are open"),
        (unlooked, "account work: no flow's newest message has been checked yet"),
        (kept_back, "account work: no flow's newest message was found in the archive for 301 s"),
    ],
)
async def test_each_thing_that_keeps_it_from_capturing_is_told(
    observed: Observed, befall: Callable[[Observed], None], told: str
) -> None:
    befall(observed)
    assert problems(observed, now=NOW) == [told]
    assert summarize(observed, now=NOW) == f"not capturing: {told}"


async def test_only_a_writer_that_neither_comes_round_nor_is_refused_is_dead(
    observed: Observed,
) -> None:
    away(observed)
    observed.tally.writer_failed(now=NOW - 1)
    assert is_alive(observed, now=NOW, within_seconds=5)
    stuck(observed)
    assert not is_alive(observed, now=NOW)
    assert not is_alive(observed, now=NOW, within_seconds=499)
    assert is_alive(observed, now=NOW, within_seconds=501)


async def test_without_a_flow_there_is_no_head_to_match(observed: Observed) -> None:
    account = observed.tally.accounts["work"]
    account.paths = {}
    account.matched_at.clear()
    assert problems(observed, now=NOW) == []


async def test_an_account_that_is_refused_does_not_keep_the_others_from_being_captured(
    observed: Observed,
) -> None:
    other = AccountTally(name="club", state="locked out")
    both = replace(observed, tally=Tally(accounts={**observed.tally.accounts, "club": other}))
    both.tally.turned(now=NOW - 0.2)
    assert problems(both, now=NOW) == ["account club: Flowdock refuses its token"]
    assert captures_any(both, now=NOW)
    refused(both)
    assert not captures_any(both, now=NOW)
    observed.tally.writer_failed(now=NOW)
    assert not captures_any(observed, now=NOW)


async def test_what_ails_another_process_of_the_daemon_ails_the_daemon(observed: Observed) -> None:
    others = [
        ProcessTally(number=2),
        ProcessTally(number=3, is_well=True, status="capturing 7 flows"),
    ]
    observed = replace(observed, processes=others)
    assert problems(observed, now=NOW) == ["process 2: starting"]
    others[0].status = "not capturing: nothing has been written yet"
    assert problems(observed, now=NOW) == ["process 2: nothing has been written yet"]
    assert summarize(observed, now=NOW) == (
        "capturing 2 flows on 1 stream, 0 events since the start; "
        "process 2: not capturing: nothing has been written yet; process 3: capturing 7 flows"
    )
    assert captures_any(observed, now=NOW)
    others[0].is_well, others[0].status = True, "capturing 1 flow"
    assert problems(observed, now=NOW) == []
    assert summarize(observed, now=NOW) == (
        "capturing 2 flows on 1 stream, 0 events since the start; "
        "process 2: capturing 1 flow; process 3: capturing 7 flows"
    )
