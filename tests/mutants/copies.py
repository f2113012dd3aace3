"""Copies of the tree, in which code is broken and tests are run; the tree itself is unchanged."""

import asyncio
import compileall
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode

LEFT_OUT = shutil.ignore_patterns(
    ".*", "__pycache__", "*.pyc", "dist", "build", "node_modules", "archiver-venv"
)
TEST_SECONDS = 60
"""The timeout of a test; one that hangs because of the fault counts as failed."""
RUN_SECONDS = 1200
"""The timeout of all tests of a run: that of a test raises in it, and asyncio's callbacks lose what
is raised in them."""
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+?\.py(?:::.*?)?)(?: - .*)?$", re.MULTILINE)


class Unusable(Exception):
    """The tests cannot judge a mutant; the text says why."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of the tree, and a database server for its tests."""

    root: Path
    database_url: str

    @contextmanager
    def broken(self, files: Mapping[str, str]) -> Iterator[None]:
        """Replace the files of these paths by the given contents until the block ends."""
        whole = {path: (self.root / path).read_text() for path in files}
        try:
            for path, text in files.items():
                (self.root / path).write_text(text)
            yield
        finally:
            for path, text in whole.items():
                (self.root / path).write_text(text)

    async def test(self, tests: Sequence[str]) -> str | None:
        """Run *tests*, in their order, until one fails; returns its name, or None if all pass.

        Raises:
            Unusable: pytest could not run them.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=no", "--no-header",
            "-p", "no:cacheprovider", "-p", "tests.mutants.hasty", "--hypothesis-seed=0",
            f"--timeout={TEST_SECONDS}", "--ignore=tests/mutants", *tests,
            cwd=self.root, env=self.environment(), start_new_session=True,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(RUN_SECONDS):
                said = (await process.communicate())[0].decode(errors="replace")
        except TimeoutError:
            hanging = " ".join(tests)
            raise Unusable(f"no end after {RUN_SECONDS} s, so a test hangs: {hanging}") from None
        finally:
            # Kill everything that the tests started, too.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        match process.returncode:
            case 0:
                return None
            case 1:
                found = _FAILED.search(said)
                return found[1] if found else "a test that ended pytest"
            case _:
                raise Unusable(f"pytest ended with {process.returncode}:\n{said[-3000:]}")

    def environment(self) -> dict[str, str]:
        """The caller's environment, with the copy's code and without settings of the archiver."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ARCHIVER_", "PG"))
        }
        own = {"PYTHONPATH": str(self.root), "ARCHIVER_TEST_DATABASE_URL": self.database_url}
        return {**kept, **own, "COLUMNS": "250"}


def make_copy(tree: Path, place: Path, database_url: str) -> Copy:
    """Copy *tree* to *place*.

    Raises:
        Unusable: Python would run the code of another tree.
    """
    shutil.copytree(tree, place, ignore=LEFT_OUT, symlinks=True)
    # Hashes instead of times: a file that is broken and restored within a second keeps its time.
    compileall.compile_dir(
        place, quiet=2, workers=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH
    )
    copy = Copy(place, database_url)
    ask = "import archiver; print(archiver.__file__)"
    told = subprocess.run(
        [sys.executable, "-c", ask],
        cwd=tempfile.gettempdir(),
        env=copy.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    if not Path(told.stdout.strip()).is_relative_to(place):
        raise Unusable(f"the tests would run the code of {told.stdout.strip()}")
    return copy
