"""The document on security names tests that exist, for each threat."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs/security.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in DOCUMENT.split("\n")
    if line.startswith("| ") and not line.startswith("| threat |")
]


def functions_in(path: Path) -> set[str]:
    """The names of the tests that *path* defines."""
    tree = ast.parse(path.read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def test_there_are_many_threats() -> None:
    assert len(ROWS) >= 30


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_each_threat_is_met_and_held_by_tests_that_exist(row: list[str]) -> None:
    threat, done, held_by = row
    assert threat.endswith(".")
    assert done
    named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", held_by)
    assert named
    assert len(named) == held_by.count("`") / 2
    for path, name in named:
        assert name in functions_in(ROOT / path), f"{path}::{name}"
