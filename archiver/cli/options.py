"""What commands share: types of parameters, hints on mistyped commands, exclusive options."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from typing_extensions import override


class FileName(click.Path):
    """The name of a file or a directory; an empty one, as of an unset variable, is refused."""

    def __init__(self, *, file_okay: bool = True, dir_okay: bool = True) -> None:
        super().__init__(path_type=Path, file_okay=file_okay, dir_okay=dir_okay)

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value:
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


class Words(click.types.StringParamType):
    """A text; bytes that are not UTF-8 are refused, as any database or host would refuse them."""

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            str(value).encode()
        except UnicodeEncodeError:
            self.fail(f"{value!r} is not UTF-8", param, ctx)
        return super().convert(value, param, ctx)


class HelpfulGroup(click.Group):
    """A group that suggests the most similar command when one is mistyped."""

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = get_close_matches(args[0], self.list_commands(ctx), n=1)
            if not close:
                raise
            told = f"{error.message} Did you mean {close[0]!r}?"
            raise click.UsageError(told, ctx) from error


def refuse_beside(reason: str, *names: str) -> None:
    """Refuse the parameters *names* if any is on the command line, for this *reason*.

    Raises:
        click.UsageError: some are; it says which.
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
    """The name of *parameter* for people: ``--format``, ``QUERY``."""
    if isinstance(parameter, click.Option):
        return max(parameter.opts, key=len)
    return parameter.make_metavar(click.get_current_context()).strip("[]")
