"""``archiver migrate``: bring the database to this release's schema."""

import asyncio
import json

import click

from archiver.cli.configuration import LoadSettings
from archiver.cli.database import Place, connect, serve_database
from archiver.store import migrating


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def migrate(load_settings: LoadSettings, *, as_json: bool) -> None:
    """Bring the database to this release's schema.

    Safe to repeat. A private database needs none of this: it is migrated when it is used.
    """
    with serve_database(load_settings()) as place:
        before, after = asyncio.run(_migrate(place))
    if as_json:
        click.echo(json.dumps({"before": before, "after": after}))
    elif before == after:
        click.echo(f"schema already at {after}")
    else:
        click.echo(f"schema {before or 'none'} → {after}")


async def _migrate(place: Place) -> tuple[str | None, str]:
    async with connect(place) as engine:
        return await migrating.migrate(engine)
