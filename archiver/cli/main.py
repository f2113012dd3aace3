"""The command line: which commands there are, and how errors are reported.

Each command is a click command of the same name in a module of its own, which is imported only when
the command is invoked (``import_`` is the one whose name is a keyword of Python). Its click object
is a `archiver.cli.configuration.LoadSettings`. It returns the exit status, or None for 0.
"""

import logging
import os
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from typing import NoReturn

import click
from typing_extensions import override

from archiver import logs
from archiver.cli.configuration import LoadSettings
from archiver.cli.options import FileName, HelpfulGroup, Words
from archiver.cli.output import ReaderGone, open_standard_streams
from archiver.cli.terminal import make_safe
from archiver.errors import ArchiverError, leaves

log = logging.getLogger("archiver")

COMMANDS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "Archive": {
        "run": ("archiver.cli.run", "Follow the streams and fill the gaps, until stopped."),
        "backfill": ("archiver.cli.backfill", "Fill the gaps up to now, then exit."),
        "import": ("archiver.cli.importing", "Archive official exports, or another archive."),
    },
    "Query it": {
        "search": ("archiver.cli.search", "Find messages by what they say."),
        "sql": ("archiver.cli.sql", "Answer one SQL query."),
        "export": ("archiver.cli.export", "Write messages to files: JSON, CSV, HTML, ..."),
    },
    "Look after it": {
        "status": ("archiver.cli.status", "Show what is archived, proven and missing."),
        "files": ("archiver.cli.files", "List files that are not archived, or save some."),
        "gaps": ("archiver.cli.gaps", "List ranges of ids that nothing proves, and why."),
        "verify": ("archiver.cli.verify", "Compare the archive with Flowdock, and repair it."),
        "explain": ("archiver.cli.explain", "Show all that is known of one message or event."),
        "rejects": ("archiver.cli.rejects", "Show input that could not be placed; retry it."),
        "rebuild": ("archiver.cli.rebuild", "Recreate all derived rows from the journal."),
        "erase": ("archiver.cli.erase", "Erase what somebody said, for good."),
        "migrate": ("archiver.cli.migrate", "Upgrade the database to this release's schema."),
        "check": ("archiver.cli.check", "Test all that is needed; say how to fix the rest."),
        "config": ("archiver.cli.config", "Show the settings, or an example file of all."),
    },
    "Try it out": {
        "demo": ("archiver.cli.demo", "Archive a simulated Flowdock before your eyes."),
        "simulate": ("archiver.cli.simulate", "Serve a simulated Flowdock."),
    },
}
"""By group: name to module and one line of help."""

HEARS_HANGUPS = frozenset({"run"})
"""Commands that SIGHUP does not end; each unblocks the signal once it can handle it."""

CONFIG = FileName(dir_okay=False)

INTERRUPTED = 128 + signal.SIGINT
UNREAD = 128 + signal.SIGPIPE
"""The status of a program that SIGPIPE has ended, since nobody reads its output any more."""
TERMINATED = 128 + signal.SIGTERM

DROPPED = {SystemExit: signal.SIGTERM, KeyboardInterrupt: signal.SIGINT}
"""By the exception that the signal's handler raises: the signal, which is sent again."""
AGAIN_SECONDS = 0.01


class Commands(HelpfulGroup):
    """The commands of the table, imported when they are invoked."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for group in COMMANDS.values() for name in group]

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for group in COMMANDS.values():
            if cmd_name in group:
                attribute = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
                found = getattr(import_module(group[cmd_name][0]), attribute)
                if not isinstance(found, click.Command):
                    raise TypeError(f"{group[cmd_name][0]}.{cmd_name} is no click command")
                return _completed(found)
        return None

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for title, group in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), told) for name, (_, told) in group.items()])


def _completed(command: click.Command) -> click.Command:
    """Make *command* refuse texts that are not UTF-8, and accept --config.

    To a user it makes no difference whether --config comes before or after the command's name.
    """
    if isinstance(command, click.Group):
        for one in command.commands.values():
            _completed(one)
    for parameter in command.params:
        if parameter.type is click.STRING:
            parameter.type = Words()
    if all(one.name != "config" for one in command.params):
        command.params.append(
            click.Option(
                ["--config"],
                type=CONFIG,
                expose_value=False,
                callback=_choose_config,
                help="TOML file with the settings; may also stand before the command.",
            )
        )
    return command


def _choose_config(ctx: click.Context, _option: click.Parameter, config: Path | None) -> None:
    if config is not None:
        ctx.obj = LoadSettings(config)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=CONFIG,
    envvar="ARCHIVER_CONFIG",
    help="TOML file with the settings; ARCHIVER_CONFIG names it otherwise.",
)
@click.version_option(package_name="flowdock-archiver", message="archiver %(version)s")
@click.pass_context
def cli(ctx: click.Context, config: Path | None) -> None:
    """Keep every event of many Flowdock flows in Postgres.

    Settings come from a TOML file and from ARCHIVER_* variables; the variables win.
    """
    ctx.obj = LoadSettings(config)
    if ctx.invoked_subcommand not in HEARS_HANGUPS:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def main() -> NoReturn:
    """Run the command line and exit: as the command says, 1 for a bug, 2 if the user can fix it."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.unraisablehook = _signal_again
    open_standard_streams()
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the command that *arguments* name; prints what went wrong, returns the exit status."""
    try:
        try:
            status = cli.main(list(arguments), prog_name="archiver", standalone_mode=False)
        finally:
            sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        _tell_line(f"{error.format_message().removesuffix('.')}{_hint(error)}")
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _leave_quietly()
        return INTERRUPTED
    except SystemExit:
        _leave_quietly()
        raise
    except Exception as error:  # noqa: BLE001
        return _tell(error)
    return status if isinstance(status, int) else 0


def _leave_quietly() -> None:
    """Keep Python quiet about objects that an interruption left half made, as an event loop.

    It would print a traceback when it frees them, although there is nothing to fix.
    """
    warnings.simplefilter("ignore", RuntimeWarning)
    sys.unraisablehook = _say_nothing


def _say_nothing(_: "sys.UnraisableHookArgs") -> None:
    pass


def _tell(error: Exception) -> int:
    """Print an error that the user can fix, or log a bug; returns the exit status."""
    causes = list(leaves(error))
    if any(isinstance(one, ReaderGone) for one in causes):
        return UNREAD
    if all(isinstance(one, ArchiverError) for one in causes):
        for told in dict.fromkeys(map(str, causes)):
            _tell_line(told)
        return 2
    log.critical("unexpected error", exc_info=error)
    return 1


def _tell_line(told: str) -> None:
    # It may quote foreign text, so each line is made safe; only the line ends are ours.
    lines = map(make_safe, logs.hide(told).split("\n"))
    line = "archiver: error: " + "\n".join(lines)
    if logs.is_journal(sys.stderr, os.environ):
        line = logs.leveled(line, logging.ERROR)
    print(line, file=sys.stderr)  # noqa: T201


def _hint(error: click.ClickException) -> str:
    """For wrong usage: where to read about the right one, in parentheses; otherwise empty."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    if ctx is None:
        return ""
    takes_arguments = any(isinstance(one, click.Argument) for one in ctx.command.params)
    is_argument = takes_arguments and isinstance(error, click.NoSuchOption)
    how = "put what is not an option after --, " if is_argument else ""
    return f" ({how}see {ctx.command_path} --help)"


def _signal_again(told: "sys.UnraisableHookArgs") -> None:
    """Send a signal again that Python has dropped; report everything else as usual.

    What the handler of a signal raises is lost in the callback of a weak reference, as imports use
    them, and in a finalizer.
    """
    number = DROPPED.get(told.exc_type)
    if number is None:
        sys.__unraisablehook__(told)
        return
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(number))
    signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)


def _terminate(number: int, frame: object) -> NoReturn:  # noqa: ARG001
    raise SystemExit(TERMINATED)
