"""Formats with one line for each row, JSON and CSV: Postgres makes the lines, and none is parsed.

``jsonl`` is for messages, or for the journal as it was received (``--events``). The journal comes
with all that is needed to make the same archive from it: flows, people and rejects; what was proven
is in the manifest.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from archiver.export.files import plain_place
from archiver.export.folder import Shelf, Sink
from archiver.export.names import path_of
from archiver.export.reading import Reading
from archiver.store import exporting, exporting_files, exporting_rows
from archiver.store.exporting import Table
from archiver.store.exporting_choice import Part, Subject
from archiver.store.exporting_rows import COLUMNS, Block

KEPT = "files.jsonl"
"""The file that maps paths of files, as messages name them, to the digests of their contents."""


class JsonLines:
    """Messages, each as a JSON object with the columns of ``archive.messages``."""

    subject: Subject = "messages"
    by_month = True
    tables: tuple[Table, ...] = ("messages",)
    omits = ""
    place = staticmethod(plain_place)

    async def write_part(self, reading: Reading, part: Part, shelf: Shelf) -> int:
        """Write ``organization/flow/2024-05.jsonl``."""
        lines = exporting_rows.as_json(reading.tx, self.subject, part, reading.chosen)
        with shelf.file(f"{path_of(part.flow)}/{part.month}.jsonl") as sink:
            return await _pour(lines, sink, reading, part)

    async def write_summary(self, reading: Reading, shelf: Shelf) -> None:
        """Write nothing: all is in the parts."""


class Csv:
    """Messages as CSV, each file with a header; lists and objects as JSON."""

    subject: Subject = "messages"
    by_month = True
    tables: tuple[Table, ...] = ("messages",)
    omits = ""
    place = staticmethod(plain_place)

    async def write_part(self, reading: Reading, part: Part, shelf: Shelf) -> int:
        """Write ``organization/flow/2024-05.csv``."""
        lines = exporting_rows.as_csv(reading.tx, part, reading.chosen)
        with shelf.file(f"{path_of(part.flow)}/{part.month}.csv") as sink:
            sink.write(",".join(COLUMNS).encode() + b"\n")
            return await _pour(lines, sink, reading, part)

    async def write_summary(self, reading: Reading, shelf: Shelf) -> None:
        """Write nothing: all is in the parts."""


class Events:
    """The journal: every form of every event, and what is needed to import it."""

    subject: Subject = "events"
    by_month = True
    tables: tuple[Table, ...] = ("journal", "sightings")
    omits = ""
    place = staticmethod(plain_place)

    async def write_part(self, reading: Reading, part: Part, shelf: Shelf) -> int:
        """Write ``events/organization/flow/2024-05.jsonl``."""
        lines = exporting_rows.as_json(reading.tx, self.subject, part, reading.chosen)
        with shelf.file(f"events/{path_of(part.flow)}/{part.month}.jsonl") as sink:
            return await _pour(lines, sink, reading, part)

    async def write_summary(self, reading: Reading, shelf: Shelf) -> None:
        """Write the chosen flows, all people, all rejects, and which contents each file has."""
        chosen = set(reading.chosen.flows)
        flows = await exporting.table(reading.tx, "flows")
        tables = {
            "flows": [flow for flow in flows if flow["path"] in chosen],
            "users": await exporting.table(reading.tx, "users"),
        }
        for name, rows in tables.items():
            with shelf.file(f"{name}.jsonl") as sink:
                for row in rows:
                    sink.write(msgspec.json.encode(row, order="deterministic") + b"\n")
        with shelf.file("rejects.jsonl") as sink:
            async with aclosing(exporting_rows.rejects(reading.tx)) as blocks:
                async for block in blocks:
                    sink.write(block.data)
        if reading.files:
            with shelf.file(KEPT) as sink:
                async with aclosing(exporting_files.paths(reading.tx, list(chosen))) as paths:
                    async for one in paths:
                        if one.sha256 in reading.files.contents:
                            sink.write(msgspec.json.encode(one) + b"\n")


async def _pour(blocks: AsyncGenerator[Block], sink: Sink, reading: Reading, part: Part) -> int:
    """Write *blocks* into *sink*; returns how many rows they hold."""
    rows = 0
    async with aclosing(blocks):
        async for block in blocks:
            sink.write(block.data)
            rows += block.rows
            reading.tally.count(block.rows, part)
    return rows
