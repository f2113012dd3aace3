"""``archiver config``: which settings there are, and their values in effect."""

import json
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from archiver.cli.configuration import LoadSettings
from archiver.cli.tables import Column, show_table
from archiver.settings.reading import DEFAULT, FILE
from archiver.settings.telling import Effective, example

COLUMNS = (Column("setting", is_short=True), Column("value"), Column("from"))


@click.command
@click.option(
    "--example", "wants_example", is_flag=True, help="Print a file that explains all settings."
)
@click.option("--show", is_flag=True, help="Show the settings in effect; the default.")
@click.option("--changed", is_flag=True, help="Only settings that are not at their default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def config(
    load: LoadSettings, /, *, wants_example: bool, show: bool, changed: bool, as_json: bool
) -> None:
    """Show the settings in effect and where each comes from, secrets masked.

    With --example, print a TOML file in which every setting is explained and commented out. Start
    with it:

    \b
      archiver config --example > archiver.toml
    """  # noqa: D301
    if wants_example and (show or changed or as_json):
        raise click.UsageError("--example goes alone")
    if wants_example:
        click.echo(example(), nl=False)
        return
    found = [one for one in load.tell() if not changed or one.source != DEFAULT]
    if as_json:
        told = [{**msgspec.to_builtins(one), "source": _source(one, load)} for one in found]
        click.echo(json.dumps({"settings": told}))
    elif found:
        show_table(COLUMNS, _rows(found, load))
    else:
        click.echo("every setting is at its default")


def _rows(found: Sequence[Effective], load: LoadSettings) -> list[tuple[str, str, str]]:
    return [(one.name, _value(one.value), _source(one, load)) for one in found]


def _source(one: Effective, load: LoadSettings) -> str:
    return str(load.config) if one.source == FILE else one.source


def _value(value: Any) -> str:
    """*value* as it would be written in the file; ``-`` for none."""
    return "-" if value is None else json.dumps(value, ensure_ascii=False)
