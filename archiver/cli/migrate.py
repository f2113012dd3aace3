"""``archiver migrate``: bring the database to this release's schema."""

import asyncio
import json

import click

from archiver.cli.configuration import LoadSettings
from archiver.cli.database import STANDSTILL_SECONDS, Place, connect, serve_database
from archiver.cli.options import refuse_beside
from archiver.cli.tables import counted
from archiver.store import granting, migrating
from archiver.store.granting import READER, WRITER, Granted


@click.command()
@click.option("--roles", is_flag=True, help="Also create the roles of the daemon and of readers.")
@click.option(
    "--writer", metavar="NAME", default=WRITER, show_default=True, help="Name of the daemon's role."
)
@click.option(
    "--reader", metavar="NAME", default=READER, show_default=True, help="Name of the readers' role."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def migrate(load: LoadSettings, /, *, roles: bool, writer: str, reader: str, as_json: bool) -> None:
    """Upgrade the database to this release's schema.

    It may be repeated, and the daemon may run meanwhile. A private database does not need it: the
    first command that uses it upgrades it.

    --roles also creates two roles, or grants them their rights: one for the daemon, which does not
    own the archive, and one for readers, which can read the views and nothing else.
    """
    if not roles:
        refuse_beside("without --roles none are made", "writer", "reader")
    with serve_database(load()) as place:
        before, after, granted = asyncio.run(_migrate(place, (writer, reader) if roles else None))
    if as_json:
        told: dict[str, object] = {"before": before, "after": after}
        if granted:
            told["roles"] = {"writer": writer, "reader": reader, "made": granted.made}
            told["left"] = granted.left
        click.echo(json.dumps(told))
        return
    if before == after:
        click.echo(f"schema already at {after}")
    else:
        click.echo(f"schema {before or 'none'} → {after}")
    if granted:
        _tell(granted, writer, reader)


def _tell(granted: Granted, writer: str, reader: str) -> None:
    for name, duty in ((writer, "writes"), (reader, "reads")):
        made = "created, without a password" if name in granted.made else "existed already"
        click.echo(f"role {name} {duty}: {made}")
    if granted.left:
        click.echo(f"\n{counted(len(granted.left), 'statement')} to be run by a user who may:")
        for statement in granted.left:
            click.echo(f"  {statement};")


async def _migrate(
    place: Place, roles: tuple[str, str] | None
) -> tuple[str | None, str, Granted | None]:
    async with connect(place, standstill_seconds=STANDSTILL_SECONDS) as engine:
        before, after = await migrating.migrate(engine)
        if roles is None:
            return before, after, None
        writer, reader = roles
        return before, after, await granting.grant(engine, writer=writer, reader=reader)
