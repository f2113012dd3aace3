"""Check the laws on the fuzzer's seeds and all that it ever found; ``./run fuzz`` finds more."""

from pathlib import Path

import pytest

from tests.fuzz.coverage import coverage
from tests.fuzz.laws import check

SEEDS = sorted(Path(__file__).with_name("seeds").iterdir())


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_no_seed_breaks_a_law(seed: Path) -> None:
    check(seed.read_bytes())


def test_the_seeds_reach_nearly_all_of_framing_and_decoding() -> None:
    reached = coverage(seed.read_bytes() for seed in SEEDS)
    assert min(lines / all_ for lines, all_ in reached.values()) > 0.85, reached
