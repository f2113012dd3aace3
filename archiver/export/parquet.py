"""Parquet: typed columns, in Hive-style partitions by flow and month.

Paths are like ``flow=acme%2Fmain/month=2024-05/messages.parquet``; readers that know this naming
give each row its flow and month. Rows come from Postgres as CSV, which Arrow parses into columns
faster than Python could. Lists and objects, which CSV cannot express, are JSON in it.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from io import BytesIO
from typing import Any
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from archiver.export.files import plain_place
from archiver.export.folder import Shelf
from archiver.export.names import shortened
from archiver.export.reading import Reading
from archiver.store import exporting_rows
from archiver.store.exporting import Table
from archiver.store.exporting_choice import Part, Subject
from archiver.store.exporting_rows import COLUMNS, Block

GROUP_BYTES = 2_000_000
"""Size from which a block of CSV becomes a row group."""
LONGEST_FLOW = 240
"""Limit for the escaped name of a flow, in characters; file systems take a few more."""

_TIME = pa.timestamp("us", tz="UTC")
_FILE = pa.struct(
    [
        ("file_name", pa.string()),
        ("content_type", pa.string()),
        ("size_bytes", pa.int64()),
        ("path", pa.string()),
    ]
)
TYPES: dict[str, pa.DataType] = dict.fromkeys(COLUMNS, pa.string()) | {
    "id": pa.int64(),
    "sent": _TIME,
    "tags": pa.list_(pa.string()),
    "parent_id": pa.int64(),
    "edited_at": _TIME,
    "edits": pa.int32(),
    "deleted_at": _TIME,
    "attachments": pa.list_(_FILE),
    "reactions": pa.map_(pa.string(), pa.list_(pa.string())),
}
SCHEMA = pa.schema([(name, TYPES[name]) for name in COLUMNS if name != "flow"])
WITH_DIGESTS = SCHEMA.set(
    SCHEMA.get_field_index("attachments"),
    pa.field("attachments", pa.list_(pa.struct([*_FILE, ("sha256", pa.string())]))),
)
"""The schema of an export that includes the contents of files."""
_NESTED = {name for name, type_ in TYPES.items() if pa.types.is_nested(type_)}
_PARSE = pyarrow.csv.ParseOptions(newlines_in_values=True)
_CONVERT = pyarrow.csv.ConvertOptions(
    column_types={name: pa.string() if name in _NESTED else TYPES[name] for name in COLUMNS},
    # A null is an empty field; an empty text is a pair of quotes.
    null_values=[""],
    strings_can_be_null=True,
    quoted_strings_can_be_null=False,
    include_columns=SCHEMA.names,
    timestamp_parsers=[pyarrow.csv.ISO8601],
)


class Parquet:
    """Messages in the columns of ``archive.messages``."""

    subject: Subject = "messages"
    by_month = True
    tables: tuple[Table, ...] = ("messages",)
    omits = ""
    place = staticmethod(plain_place)

    def __init__(self) -> None:
        # Arrow's own pool keeps the memory that it frees, and memory use is to stay small.
        pa.set_memory_pool(pa.system_memory_pool())

    async def write_part(self, reading: Reading, part: Part, shelf: Shelf) -> int:
        """Write the file of one partition."""
        place = f"{partition_of(part.flow)}/month={part.month}/messages.parquet"
        lines = exporting_rows.as_csv(reading.tx, part, reading.chosen)
        schema = WITH_DIGESTS if reading.chosen.files else SCHEMA
        rows = 0
        with (
            shelf.file(place) as sink,
            pyarrow.parquet.ParquetWriter(sink, schema, compression="zstd") as writer,
        ):
            async with aclosing(_blocks(lines)) as blocks:
                async for block in blocks:
                    table = _table(block, schema)
                    writer.write_table(table)
                    rows += table.num_rows
                    reading.tally.count(table.num_rows, part)
                    # Two parts may be written at once; memory that one frees is not to lie idle.
                    del table
                    pa.default_memory_pool().release_unused()
        return rows

    async def write_summary(self, reading: Reading, shelf: Shelf) -> None:
        """Write nothing: all is in the parts."""


def partition_of(flow: str) -> str:
    """The name of the directory that tells readers the *flow* of the rows in it."""
    return f"flow={shortened(quote(flow, safe=''), flow, longest=LONGEST_FLOW)}"


async def _blocks(blocks: AsyncGenerator[Block]) -> AsyncGenerator[bytes]:
    """Join *blocks* into larger ones."""
    block = bytearray()
    async with aclosing(blocks):
        async for one in blocks:
            block += one.data
            if len(block) >= GROUP_BYTES:
                yield bytes(block)
                block.clear()
    if block:
        yield bytes(block)


def _table(block: bytes, schema: pa.Schema) -> pa.Table:
    # All in one block: Arrow could otherwise end a block inside a text of several lines.
    read = pyarrow.csv.ReadOptions(
        column_names=list(COLUMNS), use_threads=False, block_size=len(block) + 1
    )
    table = pyarrow.csv.read_csv(
        BytesIO(block), read_options=read, parse_options=_PARSE, convert_options=_CONVERT
    )
    columns = [
        _nested(field, table.column(field.name))
        if field.name in _NESTED
        else table.column(field.name)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _nested(field: pa.Field, texts: pa.ChunkedArray) -> pa.Array:
    # Most messages have no files and no reactions, and many share their tags: each different text
    # is decoded once.
    coded = texts.combine_chunks().dictionary_encode()
    values: list[Any] = [msgspec.json.decode(text) for text in coded.dictionary.to_pylist()]
    if field.name == "reactions":
        values = [list(value.items()) for value in values]
    return pa.array(values, type=field.type).take(coded.indices)
