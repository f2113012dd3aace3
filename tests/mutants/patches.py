"""Mutants: faults in our own code, each a patch with a short description.

A patch is a unified diff below a few lines of text: a sentence that says what the fault is, the
promise that it breaks, and the tests that should notice it, the most likely one first::

    An edit to nothing is read as an edit that leaves the text alone.

    Breaks: a row is the replay of its journal
    Tests: tests/flowdock/test_decode.py tests/domain/test_fold.py
    --- a/archiver/flowdock/decode.py
    +++ b/archiver/flowdock/decode.py
    @@ -165,3 +165,3 @@
    …

Hunks are located by their text, not by their line numbers, and contain no more lines than they
must, so that other changes in a module do not make a patch stale. Their text must occur exactly
once. ``git apply --unidiff-zero`` accepts these patches as well, and ``git diff -U0`` writes them.
"""

import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


class Rotten(Exception):
    """A patch no longer fits the code; the text says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One fault."""

    name: str
    fault: str
    breaks: str
    """The promise that it breaks."""
    tests: tuple[str, ...]
    """Files or node ids, as arguments for pytest."""
    hunks: tuple[tuple[str, str, str], ...]
    """Each hunk: path, old text, new text."""


def mutants() -> list[Mutant]:
    """All mutants, ordered by name."""
    return [read(path) for path in sorted(HERE.glob("*.patch"))]


def read(path: Path) -> Mutant:
    """The mutant that the file at *path* describes.

    Raises:
        Rotten: the file lacks a part of the description.
    """
    about, mark, diff = path.read_text().partition("\n--- a/")
    told = re.fullmatch(r"(.+?)\n\nBreaks: (.+?)\nTests: (.+)", about.strip(), re.DOTALL)
    if not mark or told is None:
        raise Rotten(f"{path.name}: no fault, promise, tests and diff")
    hunks: list[tuple[str, str, str]] = []
    for part in re.split(r"^--- a/", diff, flags=re.MULTILINE):
        file = part.partition("\n")[0].strip()
        for hunk in re.split(r"^@@ .*\n", part, flags=re.MULTILINE)[1:]:
            lines = hunk.splitlines(keepends=True)
            before = "".join(line[1:] for line in lines if line[0] in " -")
            after = "".join(line[1:] for line in lines if line[0] in " +")
            hunks.append((file, before, after))
    return Mutant(
        name=path.stem,
        fault=" ".join(told[1].split()),
        breaks=" ".join(told[2].split()),
        tests=tuple(told[3].split()),
        hunks=tuple(hunks),
    )


def mutated(mutant: Mutant, root: Path) -> dict[str, str]:
    """The contents, by path, that *mutant* gives to files below *root*; nothing is written.

    Raises:
        Rotten: the text of a hunk is not in the file, or more than once.
    """
    files: dict[str, str] = {}
    for path, before, after in mutant.hunks:
        if path not in files:
            files[path] = (root / path).read_text() if (root / path).exists() else ""
        places = list(re.finditer("^" + re.escape(before), files[path], re.MULTILINE))
        if len(places) != 1:
            told = f"what it changes stands {len(places)} times in {path}"
            raise Rotten(f"{mutant.name}: {told}:\n{before}")
        start, end = places[0].span()
        files[path] = files[path][:start] + after + files[path][end:]
    return files
