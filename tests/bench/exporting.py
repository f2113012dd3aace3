"""Import and export: 200,000 messages in from a file, and out in each format.

The limit of the import is the ingest of as many events; that of an export is ``psql \\copy`` of the
same query to a file, in the same run. The time is what the program tells: as that of the ingest, it
is without the start of Python. The memory is the most that the process ever had.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile

from msgspec import json

from archiver.store.exporting_rows import COLUMNS
from tests.bench import traffic
from tests.bench.figures import Figure, Target
from tests.bench.ingest import ingest
from tests.bench.lab import UNHURRIED, Archive, Lab
from tests.bench.options import Options
from tests.bench.processes import peak_until_it_ends
from tests.oracle.programs import PROGRAM, ROOT, surroundings

EXPORTED_FLOWS = 20
TARGETS = {
    "jsonl": 0.5,
    "csv": 0.5,
    "parquet": 0.3,
    "html": 0.1,
    "text": None,
    "slack": None,
}
QUERY = f"SELECT {', '.join(COLUMNS)} FROM archive.messages ORDER BY flow, id"


def run(lab: Lab, options: Options) -> Iterator[Figure]:
    """Yield messages in a second, in and out, and the memory that it takes."""
    messages = options.amount(200_000, quick=10_000, full=1_000_000)
    files = lab.home / "official"
    write_files(files, messages)
    with lab.archive() as archive:
        took, memory = timed(archive, "import", str(files))
        limit = ingested(lab, min(messages, 500_000))
        yield Figure(
            bench="import",
            unit="messages/s",
            values=[messages / took],
            limits=[limit],
            target=Target("ratio", "at least", 0.7),
        )
        yield within("import, memory", memory)
        archive.sql.execute("VACUUM ANALYZE")
        for style, bound in TARGETS.items():
            yield from exported(lab, archive, style, bound, messages, runs=options.runs(2))
    shutil.rmtree(files)


def exported(
    lab: Lab, archive: Archive, style: str, bound: float | None, messages: int, *, runs: int
) -> Iterator[Figure]:
    """Yield how fast one format is written, against the bare copy, and how much memory it took."""
    values, limits, memories = [], [], []
    to = lab.home / f"export-{style}"
    bare = lab.home / "bare.csv"
    for _ in range(runs):
        copied = lab.psql(archive, f"\\copy ({QUERY}) TO '{bare}' WITH (FORMAT csv)\n")
        limits.append(messages / copied)
        took, memory = timed(archive, "export", str(to), "--format", style)
        values.append(messages / took)
        memories.append(memory)
        shutil.rmtree(to)
    bare.unlink()
    yield Figure(
        bench=f"export {style}",
        unit="messages/s",
        values=values,
        limits=limits,
        target=None if bound is None else Target("ratio", "at least", bound),
    )
    yield within(f"export {style}, memory", max(memories))


def within(bench: str, memory_bytes: int) -> Figure:
    """The memory of a process, which is to stay small whatever the size of the archive."""
    return Figure(
        bench=bench,
        unit="MB",
        values=[memory_bytes / 1e6],
        target=Target("value", "at most", 200),
    )


def write_files(home: Path, messages: int) -> None:
    """Write official exports of some flows, with so many messages in all."""
    for number in range(EXPORTED_FLOWS):
        place = home / f"flow-{number}" / "messages.json"
        place.parent.mkdir(parents=True)
        with place.open("wb") as sink:
            between = b"[\n"
            for one in traffic.messages(messages // EXPORTED_FLOWS, flow=number):
                sink.write(between + one.frame)
                between = b",\n"
            sink.write(b"\n]\n")


def ingested(lab: Lab, events: int) -> float:
    """How many events are ingested from streams in a second."""
    with lab.feeder() as feeder, lab.archive() as archive:
        return events / ingest(lab, archive, feeder, events=events).seconds


def timed(archive: Archive, *arguments: str) -> tuple[float, int]:
    """Run a command on *archive*; returns the seconds it tells, and its most memory, in bytes."""
    settings = {**UNHURRIED, "ARCHIVER_DATABASE_URL": archive.url}
    with TemporaryFile() as said:
        process = subprocess.Popen(
            [*PROGRAM, *arguments, "--json"], env=surroundings(settings), stdout=said, cwd=ROOT
        )
        peak = peak_until_it_ends(process)
        if process.returncode:
            raise AssertionError(f"{arguments[0]} ended with status {process.returncode}")
        said.seek(0)
        return json.decode(said.read())["seconds"], peak
