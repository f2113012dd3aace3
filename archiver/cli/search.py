"""``archiver search``: find messages by what people remember of them."""

import asyncio
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from functools import partial

import click

from archiver.cli.configuration import LoadSettings
from archiver.cli.database import (
    Place,
    open_database,
    require_archive,
    require_demo,
    serve_database,
)
from archiver.cli.numbers import Number, Whole
from archiver.cli.searching import finding
from archiver.cli.searching.finding import Asked, Outcome
from archiver.cli.searching.forms import Cursor, print_csv, print_json, write_cursor
from archiver.cli.searching.misspelling import misspelt_filters
from archiver.cli.searching.screen import show
from archiver.cli.tables import counted
from archiver.cli.terminal import make_safe
from archiver.cli.zones import Zone, localize, on_clock
from archiver.domain.query_parsing import parse
from archiver.domain.query_time import Localize, read_moment, span
from archiver.store.search import Hit

FOREVER_SECONDS = 86_400
REFRESH = " (add --refresh)"
"""What to do about messages that cannot be found yet."""
WAIT = ": a daemon or another --refresh is working on it; search again later"
"""What to do about them when --refresh was given already."""


@click.command(short_help="Find messages by what they say.")
@click.argument("words", type=click.UNPROCESSED, metavar="QUERY", nargs=-1, required=True)
@click.option(
    "-C",
    "--context",
    "neighbours",
    type=Whole(0, 50),
    default=0,
    metavar="N",
    help="Show N messages of the flow before and after each.",
)
@click.option(
    "--limit",
    "most",
    type=Whole(1, 10_000),
    default=20,
    show_default=True,
    metavar="N",
    help="Show at most so many messages.",
)
@click.option("--cursor", type=Cursor(), help="Go on where a search ended, with older messages.")
@click.option("--rank", is_flag=True, help="Best match first, of the newest 500 found.")
@click.option("--as-of", metavar="WHEN", help="Search what messages said then: 2w, or a date.")
@click.option("--refresh", is_flag=True, help="First make all that is archived searchable.")
@click.option("--zone", type=Zone(), metavar="NAME", help="Time zone; by default this machine's.")
@click.option(
    "--timeout",
    type=Number(0.1, FOREVER_SECONDS),
    default=10.0,
    show_default=True,
    help="Give up after so many seconds.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a message.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, with a header.")
@click.option("--demo", "of_demo", is_flag=True, help="Search what the last demo archived.")
@click.pass_obj
def search(
    load: LoadSettings,
    /,
    *,
    words: tuple[str, ...],
    neighbours: int,
    most: int,
    cursor: Hit | None,
    rank: bool,
    as_of: str | None,
    refresh: bool,
    zone: tzinfo | None,
    timeout: float,
    as_json: bool,
    as_csv: bool,
    of_demo: bool,
) -> int:
    """Find the messages that match QUERY, the newest first.

    \b
    deploy failed        all of these words, in any of their forms
    "roll back"          exactly this; in a shell: archiver search '"roll back"'
    deploy -staging      without this word
    yes OR no            any of these
    C++20 foo_bar() *.png https://example.com/a
    from:nick mentions:nick in:acme/main in:'acme/*' tag:todo thread:ID id:123
    event:file has:file|link|edit|reaction|thread is:deleted|edited|private
    before:2024-05 after:2w on:yesterday
    history:yes          also what messages said before they were edited

    Put -- before a query that begins with a minus. docs/search.md describes the
    whole language.

    Exit status: 0 when something is found, 1 when nothing is, 2 when the query
    cannot be answered.
    """  # noqa: D301  (click's mark of lines that stay as they are)
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    if rank and cursor is not None:
        raise click.UsageError("--rank has only one page: --cursor cannot go with it")
    query = parse(" ".join(words))
    local = partial(localize, zone=zone)
    now = on_clock(datetime.now(UTC), zone)
    asked = Asked(
        query=query,
        now=now,
        localize=local,
        most=most,
        older_than=cursor,
        as_of=None if as_of is None else _moment(as_of, now=now, local=local),
        by_fitness=rank,
        neighbours=neighbours,
        seconds=timeout,
    )
    settings = load()
    # Nothing but the answer is wanted, as in archiver sql.
    logging.getLogger("archiver").setLevel(logging.WARNING)
    if of_demo:
        settings = require_demo(settings)
    else:
        require_archive(settings)
    language = settings.search.language
    with serve_database(settings) as place:
        outcome, advice = asyncio.run(_find(place, asked, language=language if refresh else None))
    for told in (*misspelt_filters(query), *_warnings(outcome, zone, advice=advice)):
        _tell(told)
    _print(outcome, asked, zone, as_json=as_json, as_csv=as_csv)
    return 0 if outcome.shown else 1


def _moment(told: str, *, now: datetime, local: Localize) -> datetime:
    moment = read_moment(told.strip().lower())
    if moment is None:
        raise click.UsageError(
            f"--as-of {told!r} is neither a time such as 2w nor a date such as 2024-05-31"
        )
    return span(moment, now=now, localize=local)[0]


async def _find(place: Place, asked: Asked, *, language: str | None) -> tuple[Outcome, str]:
    """Search; returns the outcome, and what to do about messages that cannot be found yet.

    With a *language*, all that is archived is made searchable first.
    """
    advice = REFRESH
    async with open_database(place) as engine:
        if language:
            made = await finding.refresh(engine, language=language)
            if made.messages:
                _tell(f"{counted(made.messages, 'message')} made searchable")
            advice = WAIT if made.is_elsewhere else REFRESH
        return await finding.find(engine, asked), advice


def _print(
    outcome: Outcome, asked: Asked, zone: tzinfo | None, *, as_json: bool, as_csv: bool
) -> None:
    """Print what was found; for programs, remarks go to standard error."""
    if as_json:
        print_json(outcome.shown, zone)
    elif as_csv:
        print_csv(outcome.shown, zone)
    elif outcome.shown:
        show(outcome.shown, zone, last=list(_last(outcome, asked, zone)))
        return
    elif outcome.page.is_last:
        _tell("nothing was found")
    if outcome.page.searched_from is not None:
        for told in _last(outcome, asked, zone):
            _tell(told)


def _last(outcome: Outcome, asked: Asked, zone: tzinfo | None) -> Iterator[str]:
    """The lines below what was found."""
    told = counted(len(outcome.shown), "message")
    since = outcome.page.searched_from
    if asked.by_fitness:
        among = len(outcome.page.hits)
        more = "" if outcome.page.is_last else ", the newest that were found"
        yield f"{told}, best match first, of {among:,}{more}"
    elif outcome.next_hit is None:
        yield f"{told}; nothing older was found"
    if since is not None:
        back = on_clock(since.said_at, zone).isoformat(" ", "minutes")
        yield f"the time limit was reached: searched back to {back}"
    if outcome.next_hit is not None:
        yield f"{told}; for older ones, add: --cursor {write_cursor(outcome.next_hit)}"


def _warnings(outcome: Outcome, zone: tzinfo | None, *, advice: str) -> Iterator[str]:
    """What the answer may lack, and why; with *advice* about messages that cannot be found yet."""
    if not outcome.is_made:
        yield "nothing is searchable yet: start archiver run, or add --refresh"
        return
    waiting = outcome.backlog
    if waiting.changes:
        since = on_clock(waiting.since, zone).isoformat(" ", "seconds") if waiting.since else "then"
        told = counted(waiting.changes, "message")
        yield f"{told} written since {since} cannot be found yet{advice}"
    if waiting.flows:
        told = counted(waiting.flows, "flow")
        yield f"earlier messages of {told} cannot be found yet{advice}"
    if outcome.lacks_parts:
        yield (
            "the database lacks the extension pg_trgm or its index (see archiver migrate): "
            "a search for parts of words reads every message, and may take longer than --timeout "
            "allows"
        )


def _tell(told: str) -> None:
    click.echo(make_safe(told), err=True)
