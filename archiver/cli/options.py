"""Options that do not go together: none is passed over in silence."""

import click
from click.core import ParameterSource


def refuse_beside(reason: str, *names: str) -> None:
    """Refuse those of the command's parameters *names* that were given, for this *reason*.

    Raises:
        click.UsageError: some were; it tells which.
    """
    ctx = click.get_current_context()
    given = [
        _called(one)
        for one in ctx.command.params
        if one.name in names and ctx.get_parameter_source(one.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(f"{reason}: {' and '.join(given)} cannot go with it")


def _called(parameter: click.Parameter) -> str:
    """What people call *parameter*: ``--format``, ``QUERY``."""
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return parameter.make_metavar(click.get_current_context()).strip("[]")
