"""A few typical scenarios of the judge; ``./run oracle`` runs many more."""

from collections.abc import AsyncIterator
from dataclasses import replace
from random import Random

import pytest

from tests.oracle.claims import false_claims
from tests.oracle.day import UNFIT, UNJUDGED, choose
from tests.oracle.judging import converge, judge
from tests.oracle.memory import Memory, Sample
from tests.oracle.postgres import Postgres, run_postgres
from tests.oracle.scenario import CATALOGUE, compose, draw, named
from tests.oracle.trial import begin

TELLING = {
    "the service lies": (
        "stream cut inside a character",
        "changes behind our back",
        "events reordered",
        "event dropped silently",
        "page short though there is more",
        "replay too late",
    ),
    "flows come and go": (
        "flow renamed",
        "poison in rows",
        "flow left and joined again",
        "private conversation begun",
        "old export imported",
        "changes while disconnected",
    ),
    "daemons are killed": (
        "two daemons",
        "daemon killed",
        "stream half-open",
        "daemon killed while it starts",
        "daemon killed",
    ),
    "the database dies": (
        "database killed in a commit",
        "database restarted at another address",
        "database out of connections",
    ),
}


@pytest.fixture
async def postgres() -> AsyncIterator[Postgres]:
    async with run_postgres() as (postgres, _):
        yield postgres


@pytest.mark.parametrize("what", TELLING)
async def test_the_archive_becomes_the_truth_and_claims_nothing_falsely(what, tmp_path, postgres):
    scenario = compose(list(TELLING).index(what), named(*TELLING[what]))
    judgment = await judge(scenario, tmp_path, postgres, has_small_disk=False)
    assert judgment.failures == []
    assert judgment.fired.keys() >= set(TELLING[what])
    assert judgment.checks > 0


async def test_an_archive_that_is_empty_is_not_the_truth(tmp_path, postgres):
    size = compose(1, ()).size
    async with begin(
        1, replace(size, history=30), tmp_path, postgres, has_small_disk=False
    ) as trial:
        with pytest.raises(AssertionError, match="is not claimed"):
            await converge(trial, patience_seconds=1)


async def test_a_claim_of_what_is_not_held_is_found(tmp_path, postgres):
    size = compose(1, ()).size
    async with begin(
        1, replace(size, history=30), tmp_path, postgres, has_small_disk=False
    ) as trial:
        flow = trial.flowdock.world.flows[0]
        ids = [message.id for message in flow.timeline]
        claimed = [(flow.id, 1, ids[-2])]
        held = {(flow.id, id_) for id_ in ids if id_ != ids[3]}
        assert list(false_claims(trial.flowdock, claimed, held)) == [(flow.id, ids[3])]


@pytest.mark.parametrize(
    ("held", "grows"),
    [
        (lambda at: 90, False),
        (lambda at: 90 + at % 7, False),
        (lambda at: 90 + at, True),
        (lambda at: 60 if at < 50 else 200, False),  # it grew before the judged hours
        (lambda at: 90 if at < 90 else 200, False),  # killed and grown again: too short to tell
    ],
)
def test_memory_that_grows_in_the_end_is_found(held, grows):
    samples = [
        Sample(life=1 + (at >= 90 and held(at) == 200), hour=at / 10, bytes=held(at) * 2**20)
        for at in range(100)
    ]
    memory = Memory(judged_from=6.0, samples=samples)
    assert memory.grows is grows
    assert f"{max(map(held, range(100))):.1f} MiB at most" in memory.describe()


def test_what_is_measured_in_the_end_of_a_day_is_neither_killed_nor_swamped():
    chance = Random(1)
    last = {choose(chance, is_judged=True).name for _ in range(2000)}
    before = {choose(chance, is_judged=False).name for _ in range(2000)}
    assert not last & UNJUDGED
    assert before - last == UNJUDGED - UNFIT


def test_a_seed_always_means_the_same_scenario():
    assert draw(7, has_small_disk=True) == draw(7, has_small_disk=True)
    assert draw(7, has_small_disk=True) != draw(8, has_small_disk=True)


def test_seeds_in_a_row_go_through_the_whole_catalogue():
    drawn = [draw(seed, has_small_disk=True) for seed in range(len(CATALOGUE))]
    assert {one.name for one in CATALOGUE} == {
        trouble.name for scenario in drawn for _, trouble in scenario.troubles
    }
