"""Export onto a full disk: the command says so, leaves nothing that looks complete, and can resume.

``./run fulldisk`` mounts a small file system and exports into it in every format, as a directory
and as a zip. There is room for nothing, for a half, and for all but the end. Each time, the command
must report that no space is left and fail, what is there must not pass for an export, and finished
files must be kept. With enough room, the same command must then produce, byte for byte, what an
export with plenty of room produces.

It needs Linux, and root to mount.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from archiver.cli.export import FORMATS
from archiver.export.book import BOOK
from archiver.export.folder import partial_of
from tests.export.conftest import content
from tests.export.sample import archive
from tests.oracle.programs import run_once

STYLES = (*FORMATS, "events")
PAGE_BYTES = 4096
FULL = "no space is left; what is finished is kept in"


def main() -> int:
    """Run the exports that the command line asks for; returns 1 if anything is wrong."""
    parser = argparse.ArgumentParser(
        prog="./run fulldisk",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--messages", type=int, default=1000, help="of ordinary chat")
    parser.add_argument("--format", dest="styles", action="append", choices=STYLES)
    options = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        print("a file system has to be mounted: sudo ./run fulldisk, on Linux", file=sys.stderr)
        return 2
    findings = []
    with (
        tempfile.TemporaryDirectory(prefix="archiver-fulldisk-") as path,
        archive(Path(path), messages=options.messages) as url,
    ):
        for style in options.styles or STYLES:
            findings += list(try_style(Path(path), style, url))
    for finding in findings:
        print(f"FAILED  {finding}")
    print(f"{len(findings)} findings")
    return 1 if findings else 0


def try_style(home: Path, style: str, url: str) -> Iterator[str]:
    """Yield what is wrong with exports of one format."""
    options = ["--events"] if style == "events" else ["--format", style]
    whole = {name: home / f"{style}-{name}" for name in ("out", "out.zip")}
    for to in whole.values():
        export(to, options, url).check_returncode()
    pages = sum(map(on_disk, whole["out"].rglob("*")))
    packed = on_disk(whole["out.zip"])
    rooms = {
        "out": [PAGE_BYTES, pages // 2, pages - PAGE_BYTES],
        "out.zip": [pages // 3, pages + packed // 2],
    }
    for name, sizes in rooms.items():
        disk = home / f"{style}-disk-{name}"
        disk.mkdir()
        with mounted(disk, sizes[0]):
            told = list(fill_up(disk, name, sizes, options, url, whole[name]))
        yield from (f"{style}, {name}: {one}" for one in told)
        verdict = "FAILED" if told else "ok"
        print(f"{style:<8} {name:<8} full {len(sizes)} times, then whole: {verdict}", flush=True)


def fill_up(
    disk: Path, name: str, sizes: Sequence[int], options: Sequence[str], url: str, whole: Path
) -> Iterator[str]:
    """Export onto *disk* again and again, enlarging it each time; yield what is wrong."""
    to = disk / name
    before: dict[str, tuple[int, int]] = {}
    for size in sizes:
        enlarge(disk, size)
        done = export(to, options, url)
        if done.returncode != 2 or FULL not in done.stderr or done.stderr.count("\n") != 1:
            yield f"with {size:,} bytes: status {done.returncode}, {done.stderr!r}"
        if to.exists():
            yield f"with {size:,} bytes: {name} is there"
        for looked in (to, partial_of(to)):
            if run_once("export", "--check", str(looked), settings={}).returncode == 0:
                yield f"with {size:,} bytes: {looked.name} passes for an export"
        after = finished(partial_of(to))
        if not before.items() <= after.items():
            yield f"with {size:,} bytes: what was finished was written anew"
        before = after
    if not before:
        yield "nothing was ever finished"
    enlarge(disk, 10 * (size + on_disk(whole)) + 2**24)
    done = export(to, options, url)
    if done.returncode != 0:
        yield f"with room: status {done.returncode}, {done.stderr!r}"
    elif held(to) != held(whole):
        yield "it is not what is made where there is room"
    elif run_once("export", "--check", str(to), settings={}).returncode != 0:
        yield "it is not as its manifest says"
    if [one.name for one in disk.iterdir()] != [name]:
        yield f"left behind: {', '.join(one.name for one in disk.iterdir())}"


def export(to: Path, options: Sequence[str], url: str) -> subprocess.CompletedProcess[str]:
    """Run ``archiver export`` until it ends."""
    return run_once("export", str(to), *options, settings={"ARCHIVER_DATABASE_URL": url})


def held(to: Path) -> object:
    """All contents of an export, to be compared."""
    return content(to) if to.is_dir() else to.read_bytes()


def finished(home: Path) -> dict[str, tuple[int, int]]:
    """The files that the export's book names, each with what would change if it were rewritten."""
    book = (home / BOOK).read_text() if (home / BOOK).exists() else ""
    stats = {name: (home / name).stat() for name in content(home) if f'"{name}"' in book}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def on_disk(file: Path) -> int:
    """How many bytes *file* takes on a file system, in whole pages."""
    return -(-file.stat().st_size // PAGE_BYTES) * PAGE_BYTES if file.is_file() else 0


@contextmanager
def mounted(disk: Path, size: int) -> Iterator[None]:
    """Mount a file system of *size* bytes at *disk* while the block lasts."""
    told = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "fulldisk", str(disk)]
    subprocess.run(told, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def enlarge(disk: Path, size: int) -> None:
    """Enlarge the file system at *disk* to *size* bytes."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


if __name__ == "__main__":
    sys.exit(main())
