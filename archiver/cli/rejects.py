"""``archiver rejects``: list, show and retry input that could not be placed."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import click
import msgspec
from typing_extensions import override

from archiver.cli.configuration import LoadSettings
from archiver.cli.database import Place, open_database, require_archive, serve_database
from archiver.cli.numbers import LARGEST, Whole
from archiver.cli.options import HelpfulGroup, refuse_beside
from archiver.cli.tables import Column, counted, first_of, moment, show_table
from archiver.cli.terminal import make_safe
from archiver.errors import ArchiverError
from archiver.ingest import rejects as rejecting
from archiver.ingest.rejects import Retried
from archiver.store import rejecting as stored
from archiver.store.connection import Engine
from archiver.store.rejecting import Kept, Listed

T = TypeVar("T")

COLUMNS = (
    Column("id", is_number=True),
    Column("received", is_short=True),
    Column("origin"),
    Column("bytes", is_number=True),
    Column("reason"),
)
TOLD = 20


class Commands(HelpfulGroup):
    """A group that says, when a command is mistyped, what it does without a command."""

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            told = f"{error.message} archiver rejects alone lists them."
            raise click.UsageError(told, ctx) from error


@click.group(cls=Commands, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--limit",
    type=Whole(1, LARGEST),
    default=50,
    show_default=True,
    help="List at most so many, the newest.",
)
@click.pass_context
def rejects(ctx: click.Context, /, *, as_json: bool, limit: int) -> None:
    """List input that could not be placed: no JSON, no id, no flow, or refused by Postgres.

    It is kept byte for byte. A newer release may understand it: archiver rejects retry --all.
    """
    if ctx.invoked_subcommand is not None:
        refuse_beside(f"rejects {ctx.invoked_subcommand} does not list rejects", "as_json", "limit")
        return
    load: LoadSettings = ctx.obj
    found, count = _with_archive(load, partial(_list, most=limit))
    if as_json:
        click.echo(json.dumps({"rejects": msgspec.to_builtins(found), "total": count}))
        return
    if found:
        show_table(COLUMNS, [_cells(one) for one in found])
    shown = "newest is" if len(found) == 1 else f"newest {len(found):,} are"
    more = f", of which the {shown} shown" if count > len(found) else ""
    click.echo(f"{counted(count, 'reject')}{more}" if count else "no rejects")


@rejects.command(short_help="Show one reject, and its bytes.")
@click.argument("id_", metavar="ID", type=Whole(1, LARGEST))
@click.option("--raw", "as_raw", is_flag=True, help="Write its bytes, and nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; bytes in base64.")
@click.pass_obj
def show(load: LoadSettings, /, *, id_: int, as_raw: bool, as_json: bool) -> None:
    """Show one reject: what is known of it, and its bytes, made safe for a terminal."""
    if as_raw and as_json:
        raise click.UsageError("--raw and --json exclude each other")
    reject = _with_archive(load, partial(_show, id_=id_))
    if reject is None:
        raise ArchiverError(f"there is no reject {id_}: archiver rejects lists them")
    if as_raw:
        sys.stdout.buffer.write(reject.raw)
        return
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(reject)))
        return
    click.echo(f"received  {moment(reject.received_at)}")
    click.echo(f"origin    {make_safe(reject.origin)}")
    click.echo(f"reason    {make_safe(reject.reason)}")
    click.echo(f"bytes     {len(reject.raw):,}\n")
    click.echo(make_safe(reject.raw.decode(errors="backslashreplace")))


@rejects.command(short_help="Read rejects again, and archive what can be placed.")
@click.argument("ids", metavar="[ID]...", type=Whole(1, LARGEST), nargs=-1)
@click.option("--all", "of_all", is_flag=True, help="Retry all of them.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def retry(load: LoadSettings, /, *, ids: tuple[int, ...], of_all: bool, as_json: bool) -> int:
    """Read rejects again; what can be placed now is archived, and no longer a reject.

    Exit status: 0 when all of them were placed, 1 when some were not.
    """
    if bool(ids) == of_all:
        raise click.UsageError("give the ids of rejects, or --all")
    tried = _with_archive(load, partial(_retry, ids=ids))
    placed = sum(one.reason is None for one in tried)
    missing = sum(not one.is_there for one in tried)
    left = len(tried) - placed - missing
    if as_json:
        click.echo(json.dumps({"placed": placed, "left": left, "missing": missing,
                               "rejects": msgspec.to_builtins(tried)}))  # fmt: skip
    else:
        for line in first_of([_told(one) for one in tried], TOLD):
            click.echo(line)
        not_there = f", {missing:,} not found" if missing else ""
        click.echo(f"{placed:,} placed, {left:,} left{not_there}")
    return 0 if placed == len(tried) else 1


def _with_archive(load: LoadSettings, work: Callable[[Engine], Awaitable[T]]) -> T:
    settings = load()
    require_archive(settings)

    async def run(place: Place) -> T:
        async with open_database(place) as engine:
            return await work(engine)

    with serve_database(settings) as place:
        return asyncio.run(run(place))


async def _list(engine: Engine, *, most: int) -> tuple[list[Listed], int]:
    async with engine.connect() as tx:
        return await stored.newest(tx, most=most), await stored.count(tx)


async def _show(engine: Engine, *, id_: int) -> Kept | None:
    async with engine.connect() as tx:
        return await stored.kept(tx, id_)


async def _retry(engine: Engine, *, ids: Sequence[int]) -> list[Retried]:
    async with engine.connect() as tx:
        wanted = ids or await stored.ids(tx)
    return [await rejecting.retry(engine, id_, now=datetime.now(UTC)) for id_ in wanted]


def _cells(one: Listed) -> Sequence[str]:
    return str(one.id), moment(one.received_at), one.origin, f"{one.size_bytes:,}", one.reason


def _told(one: Retried) -> str:
    if one.reason is not None:
        return f"{one.id}: {make_safe(one.reason)}"
    event = f"{make_safe(one.event or '')} {one.event_id or ''}".strip()
    return f"{one.id}: {event} of {make_safe(one.flow or 'no flow')}"
