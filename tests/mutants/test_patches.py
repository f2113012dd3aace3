"""Each patch still fits the code and describes its fault; ``./run mutants`` runs the mutants."""

import ast
from pathlib import Path

import pytest

from tests.mutants.patches import Mutant, Rotten, mutants, mutated, read

ROOT = Path(__file__).parents[2]
MUTANTS = mutants()


def test_each_mutant_fits_the_code_and_is_other_code() -> None:
    rotten = [said for mutant in MUTANTS if (said := why_rotten(mutant))]
    assert not rotten, "\n".join(rotten)


def why_rotten(mutant: Mutant) -> str | None:
    """The reason why a mutant's patch is stale, or None."""
    try:
        files = mutated(mutant, ROOT)
    except Rotten as told:
        return str(told)
    for path, text in files.items():
        assert path.startswith("archiver/"), mutant.name
        if ast.dump(ast.parse(text)) == ast.dump(ast.parse((ROOT / path).read_text())):
            return f"{mutant.name}: changes nothing"
    return None


def test_each_mutant_names_tests_that_exist() -> None:
    for mutant in MUTANTS:
        for test in mutant.tests:
            file, _, name = test.partition("::")
            assert (ROOT / file).is_file(), f"{mutant.name}: {test}"
            told = f"def {name.partition('[')[0]}("
            assert not name or told in (ROOT / file).read_text(), f"{mutant.name}: {test}"


def test_there_are_enough_and_no_two_are_the_same() -> None:
    assert len(MUTANTS) >= 40
    assert len({mutant.hunks for mutant in MUTANTS}) == len(MUTANTS)


def test_a_patch_that_does_not_fit_any_more_is_told(tmp_path: Path) -> None:
    patch = tmp_path / "old.patch"
    about = "It is wrong.\n\nBreaks: truth\nTests: tests/test_x.py\n"
    patch.write_text(f"{about}--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@\n a = 1\n-b = 2\n+b = 3\n")
    mutant = read(patch)
    for text in ("a = 1\nb = 4\n", "", "a = 1\nb = 2\n" * 2):
        (tmp_path / "x.py").write_text(text)
        with pytest.raises(Rotten, match=r"old: what it changes stands \d times in x\.py"):
            mutated(mutant, tmp_path)
    (tmp_path / "x.py").write_text("\nxa = 1\na = 1\nb = 2\n")
    assert mutated(mutant, tmp_path) == {"x.py": "\nxa = 1\na = 1\nb = 3\n"}


def test_a_patch_that_says_nothing_is_refused(tmp_path: Path) -> None:
    patch = tmp_path / "mute.patch"
    patch.write_text("--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-b = 2\n+b = 3\n")
    with pytest.raises(Rotten, match="mute"):
        read(patch)
