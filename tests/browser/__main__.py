"""Open the exported pages, with malicious messages, in a real browser, from disk.

``./run browser`` makes an archive with ordinary chat and with texts, names, tags and files that are
HTML, scripts and worse; exports it as pages; and opens them as a person would. No script of theirs
may run, and nothing outside the folder may be requested. The search, the links to single messages
and the pages without JavaScript must work, wide and narrow, light and dark.

It needs Chromium (on Debian: apt-get install chromium); ``--pictures`` keeps screenshots.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser.looking import BROWSERS, look
from tests.export.conftest import exporter
from tests.export.sample import archive
from tests.ingest.arriving import query


def main() -> int:
    """Check the pages; returns 1 if anything is wrong."""
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
    """Export an archive with ordinary chat and malicious messages as pages; returns their path."""
    with archive(home, messages=messages) as url:
        flows = [path for (path,) in query(url, "SELECT flow FROM archive.flows ORDER BY 1")]
        exporter(url)(home / "pages", "html", flows=flows, files=True)
    return home / "pages"


@contextmanager
def browser(program: str) -> Iterator[Browser]:
    """Run Chromium while the block lasts."""
    with sync_playwright() as playwright:
        # As root, Chromium's sandbox cannot be used.
        opened = playwright.chromium.launch(
            executable_path=program, chromium_sandbox=os.geteuid() != 0
        )
        try:
            yield opened
        finally:
            opened.close()


if __name__ == "__main__":
    sys.exit(main())
