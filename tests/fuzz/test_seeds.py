"""Check the laws on the fuzzer's seeds and all that it ever found; ``./run fuzz`` finds more."""

import gc
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


def test_a_collection_of_garbage_does_not_end_the_counting() -> None:
    deepest = Path(__file__).with_name("seeds") / "abyss.json"
    alone = coverage([deepest.read_bytes()])
    threshold = gc.get_threshold()
    gc.callbacks.append(noticed := lambda _phase, _info: None)
    gc.set_threshold(1)
    try:
        assert coverage([deepest.read_bytes()]) == alone
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(noticed)
