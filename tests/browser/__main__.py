"""The exported pages in a real browser, from disk, with messages that mean harm.

``./run browser`` makes an archive with ordinary chat and with texts, names, tags and files that are
HTML, scripts and worse; exports it as pages; and opens them as a person would. No script of theirs
may run, nothing may be asked for outside the folder, and the search, the links to single messages
and the pages without JavaScript must work, wide and narrow, light and dark.

It needs Chromium (on Debian: apt-get install chromium); ``--pictures`` keeps what was seen.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from archiver.embedded import run_server
from archiver.simulator.official import write_exports
from archiver.simulator.seeding import HISTORY_ENDS_AT, settle, write_history
from archiver.simulator.world import World
from tests.browser.looking import BROWSERS, look
from tests.export.conftest import exporter, fill
from tests.ingest.arriving import query, running
from tests.oracle.programs import PROGRAM, ROOT, migrate, surroundings


def main() -> int:
    """Look at the pages; 1 if anything is not as it should be."""
    parser = argparse.ArgumentParser(
        prog="./run browser",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="keep pictures there")
    parser.add_argument("--messages", type=int, default=600, help="of ordinary chat")
    options = parser.parse_args()
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        print("no Chromium is here: apt-get install chromium", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="archiver-browser-") as path:
        home = Path(path)
        pages = export(home, messages=options.messages)
        pictures = options.pictures or home / "pictures"
        pictures.mkdir(parents=True, exist_ok=True)
        with browser(program) as opened:
            findings = look(opened, pages, pictures)
    for finding in findings:
        print(f"FAILED  {finding}")
    kept = f", pictures in {options.pictures}" if options.pictures else ""
    print(f"{len(findings)} findings{kept}")
    return 1 if findings else 0


def export(home: Path, *, messages: int) -> Path:
    """The pages of an archive with ordinary chat, and with all that means harm."""
    world = World(seed=5, clock=lambda: HISTORY_ENDS_AT)
    settle(world, flows=3, users=12, token=None)
    write_history(world, seed=5, messages=messages)
    (home / "official").mkdir()
    write_exports(world, home / "official")
    given = os.environ.get("ARCHIVER_TEST_DATABASE_URL")
    with serving(home, given) as url:
        settings = {"ARCHIVER_DATABASE_URL": url}
        migrate(home, settings)
        with running(url) as (run, engine):
            run(fill(engine))
        users = home / "official" / "users.json"
        for file in sorted((home / "official").glob("*.zip")):
            flow = f"chat/{file.stem.partition('-')[2]}"
            command = [*PROGRAM, "import", str(file), "--users", str(users), "--flow", flow]
            subprocess.run(
                command, env=surroundings(settings), cwd=ROOT, check=True, stdout=subprocess.DEVNULL
            )
        flows = [path for (path,) in query(url, "SELECT flow FROM archive.flows ORDER BY 1")]
        exporter(url)(home / "pages", "html", flows=flows)
    return home / "pages"


@contextmanager
def serving(home: Path, given: str | None) -> Iterator[str]:
    """The URL of a database: an empty one that is *given*, or that of a private server."""
    if given:
        yield given
        return
    with run_server(home / "postgres") as server:
        yield server.url


@contextmanager
def browser(program: str) -> Iterator[Browser]:
    """Chromium, closed with the block."""
    with sync_playwright() as playwright:
        # Root may not use Chromium's sandbox; others keep it.
        opened = playwright.chromium.launch(
            executable_path=program, chromium_sandbox=os.geteuid() != 0
        )
        try:
            yield opened
        finally:
            opened.close()


if __name__ == "__main__":
    sys.exit(main())
