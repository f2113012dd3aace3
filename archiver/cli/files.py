"""``archiver files``: list the files of messages that are not archived, and save those that are."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import IO
from unicodedata import category
from uuid import uuid4

import click
import msgspec
from msgspec import Struct

from archiver.cli.choice import choose_flows, find_flow
from archiver.cli.configuration import LoadSettings
from archiver.cli.database import Place, open_database, require_archive, serve_database
from archiver.cli.measures import FILES_OFF, describe_files, format_bytes, why_not_kept
from archiver.cli.numbers import LARGEST, Whole
from archiver.cli.options import FileName, HelpfulGroup, refuse_beside
from archiver.cli.tables import Column, show_table
from archiver.cli.terminal import make_safe, show_json
from archiver.errors import ArchiverError, Corruption
from archiver.store import files as stored
from archiver.store.connection import Transaction
from archiver.store.engine import see_one_moment
from archiver.store.files import Counts, MessageFile, Missing

COLUMNS = (
    Column("flow"),
    Column("message", is_number=True),
    Column("file"),
    Column("size", is_number=True, is_short=True),
    Column("asked", is_number=True),
    Column("why it is not kept"),
)
NAMELESS = "file"
LONGEST_NAME_BYTES = 200


class Found(Struct, frozen=True, kw_only=True):
    """The files of the chosen flows."""

    counts: Counts
    missing: list[Missing]


@click.group(cls=HelpfulGroup, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--flow", "patterns", multiple=True, metavar="PATTERN", help="Only flows like this: 'acme/*'."
)
@click.option(
    "--limit", type=Whole(1, LARGEST), default=50, show_default=True, help="List at most so many."
)
@click.pass_context
def files(
    ctx: click.Context, /, *, as_json: bool, patterns: tuple[str, ...], limit: int
) -> int | None:
    """List the files that messages name but the archive does not hold, and why.

    The daemon fetches each file as soon as a message names it. What it does not get, it asks for
    again, ever more rarely, at last once a month; archiver backfill asks for all of them at once.

    Exit status: 0 when all are in the archive, 1 when some are not.
    """
    if ctx.invoked_subcommand is not None:
        told = f"files {ctx.invoked_subcommand} does not list files"
        refuse_beside(told, "as_json", "patterns", "limit")
        return None
    load: LoadSettings = ctx.obj
    settings = load()
    require_archive(settings)
    with serve_database(settings) as place:
        found = asyncio.run(_list(place, patterns, most=limit))
    if as_json:
        show_json(msgspec.json.encode(found).decode())
    else:
        if found.missing:
            show_table(COLUMNS, [_cells(one) for one in found.missing])
        click.echo(describe_files(found.counts))
        if found.missing and not settings.files.enabled:
            click.echo(FILES_OFF)
    return 1 if found.missing else 0


@files.command(short_help="Save the files of one message.")
@click.argument("flow")
@click.argument("id_", metavar="ID", type=Whole(1, LARGEST))
@click.argument("to", metavar="[DIRECTORY]", type=FileName(file_okay=False), default=Path())
@click.pass_obj
def save(load: LoadSettings, /, *, flow: str, id_: int, to: Path) -> int:
    """Save the files that the message ID of FLOW names into DIRECTORY, or here.

    DIRECTORY is created if need be; existing files are never overwritten.

    Exit status: 0 when all of them were saved, 1 when some are not in the archive.
    """
    settings = load()
    require_archive(settings)
    with serve_database(settings) as place:
        left = asyncio.run(_save(place, flow, id_, to))
    for one in left:
        told = f"{one.file_name or NAMELESS} is not in the archive: {why_not_kept(one)}"
        click.echo(make_safe(told), err=True)
    return 1 if left else 0


async def _list(place: Place, patterns: Sequence[str], *, most: int) -> Found:
    async with open_database(place) as engine, engine.connect() as tx:
        await see_one_moment(tx)
        chosen = await choose_flows(tx, patterns)
        return Found(
            counts=await stored.counts(tx, list(chosen)),
            missing=await stored.missing(tx, list(chosen.values()), most=most),
        )


async def _save(place: Place, flow: str, id_: int, to: Path) -> list[MessageFile]:
    """Save the files of a message; returns those that are not in the archive."""
    async with open_database(place) as engine, engine.connect() as tx:
        await see_one_moment(tx)
        _, path = await find_flow(tx, flow)
        named = await stored.of_message(tx, path, id_)
        if not named:
            raise ArchiverError(f"no message {id_} of {make_safe(path)} names a file")
        for one, name in zip(named, _names_of(named), strict=True):
            if one.sha256 is not None:
                click.echo(await _write(tx, one.sha256, to / name))
    return [one for one in named if one.sha256 is None]


async def _write(tx: Transaction, sha256: str, target: Path) -> str:
    """Write a file's bytes to *target*, completely or not at all."""
    if target.parent.exists() and not target.parent.is_dir():
        raise ArchiverError(f"{make_safe(str(target.parent))} is not a directory")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _becoming(target) as sink:
            async with aclosing(stored.content(tx, sha256)) as pieces:
                async for piece in pieces:
                    sink.write(piece)
    except Corruption as error:
        raise ArchiverError(str(error)) from error
    except OSError as error:
        told = f"cannot write {make_safe(str(target))}: {error.strerror or error}"
        raise ArchiverError(told) from error
    return make_safe(str(target))


@contextmanager
def _becoming(target: Path) -> Iterator[IO[bytes]]:
    """A file that becomes *target* when the block ends without an error; *target* must be new."""
    target.touch(exist_ok=False)
    partial = target.with_name(f".{uuid4()}.part")
    try:
        with partial.open("xb") as sink:
            yield sink
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        target.unlink(missing_ok=True)
        raise


def _names_of(named: Sequence[MessageFile]) -> list[str]:
    """The names under which to save the files of a message; repeated ones begin with a position."""
    names: list[str] = []
    for one in named:
        name = _name_of(one)
        while name in names:
            name = f"{one.position}-{name}"
        names.append(name)
    return names


def _name_of(one: MessageFile) -> str:
    """The name under which to save a file: its own, made safe so that it leads nowhere else."""
    told = "".join(
        "_" if letter in "/\\" or category(letter).startswith("C") else letter
        for letter in one.file_name or ""
    )
    return told.lstrip(".").encode()[:LONGEST_NAME_BYTES].decode(errors="ignore") or NAMELESS


def _cells(one: Missing) -> Sequence[str]:
    size = "-" if one.file_size is None else format_bytes(one.file_size)
    asked = "-" if one.attempts is None else f"{one.attempts:,}"
    return one.flow, str(one.message_id), one.file_name or NAMELESS, size, asked, why_not_kept(one)
