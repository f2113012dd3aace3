"""``archiver erase``: erase what somebody said, everywhere in the archive."""

import asyncio
import json
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from unicodedata import east_asian_width

import click
from msgspec import Struct
from msgspec.structs import asdict

from archiver.cli.choice import find_flow
from archiver.cli.configuration import LoadSettings
from archiver.cli.database import Place, open_for_changes, require_archive, serve_database
from archiver.cli.stopping import report_when_stopped
from archiver.cli.tables import counted, first_of, moment
from archiver.cli.terminal import make_safe, show_json
from archiver.domain.model import UserId, people_of, private_path
from archiver.errors import ArchiverError
from archiver.ingest import erasing
from archiver.ingest.cleaning import Cleaned, clean
from archiver.ingest.erasing_plan import Found, Wanted
from archiver.ingest.rewording import ERASED
from archiver.store import missing
from archiver.store.cleaning import Left
from archiver.store.connection import Engine
from archiver.store.coverage import NEWEST_PROVABLE
from archiver.store.engine import DatabaseError, transaction
from archiver.store.erasing import how_many_in, may_erase

TOLD = 50
FROM_INPUT = "-"
FEW_LETTERS = 3
NOT_REACHED = (
    "not reached: dumps, exports, standbys until they have followed, unused space in the server's "
    "files, its write-ahead log, and its log if that has values; and Flowdock, if it still has it"
)

MAY_BE_IN = (
    "in what places an event, in a name, in the reason of an earlier erasure, or written meanwhile"
)
NOT_SEARCHED = "a phrase in there comes in when it is filled: run the same command again after that"
OTHER_SIDE = "the account of the other person has the conversation"
STILL_SEARCHED = (
    "the search index still has words of it: another process, or a daemon that has to start first, "
    "brings it up to date; run the same command again after that"
)
UNSURE = "all of it was erased, or nothing; run the same command again"
UNFINISHED = "it was erased; run the same command again to remove what was computed from it"


class Asked(Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    flow: str
    ids: frozenset[int]
    phrases: tuple[str, ...]
    reason: str | None
    is_confirmed: bool
    as_json: bool


class Plan(Struct, frozen=True):
    """What is about to be erased from the flow with this path."""

    path: str
    wanted: Wanted
    found: Found


class Progress(Struct):
    """How far it has come, for whoever interrupts it, or if the database does."""

    told: str = "nothing was erased"

    @property
    def line(self) -> str:
        """The line that tells it."""
        return f"stopped: {self.told}"


@click.command
@click.argument("flow")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--phrase",
    "phrases",
    multiple=True,
    metavar="TEXT",
    help="Erase this text too, wherever the flow has it; may be repeated.",
)
@click.option("--reason", metavar="TEXT", help="Why; kept with what is left.")
@click.option("--yes", "is_confirmed", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def erase(
    load: LoadSettings,
    /,
    *,
    flow: str,
    ids: tuple[str, ...],
    phrases: tuple[str, ...],
    reason: str | None,
    is_confirmed: bool,
    as_json: bool,
) -> int:
    """Erase the messages ID... of FLOW for good, with all changes of them and their files.

    FLOW is a path as in archiver status, or Flowdock's id; with - as ID, ids are read from standard
    input, one a line. It shows what it is about to erase, and asks. Of each event, its id and the
    time of the erasure stay. Replies stay, without the title that repeats the message. Only the
    owner of the database may do this; the daemon may run meanwhile. Dumps and exports are not
    reached.

    Exit status: 0, or 1 when one of the phrases is left somewhere, or words in the search index.
    """
    for one in phrases:
        if _length(one.strip()) < FEW_LETTERS:
            raise click.UsageError(f"--phrase {one!r} is too short: it would be found in anything")
        if one.casefold() in ERASED:
            raise click.UsageError(f"--phrase {one!r} would be found in what an erasure leaves")
        if reason and one.casefold() in reason.casefold():
            raise click.UsageError("--reason contains a phrase, and it is kept: use other words")
    asked = Asked(
        flow=flow,
        ids=frozenset(_read_ids(ids)),
        phrases=phrases,
        reason=reason,
        is_confirmed=is_confirmed,
        as_json=as_json,
    )
    settings = load()
    require_archive(settings)
    progress = Progress()
    with (
        report_when_stopped(lambda: [progress.line]),
        serve_database(settings) as place,
    ):
        plan = asyncio.run(_survey(place, asked))
        if not plan.found.is_nothing:
            _confirm(plan.path, plan.found, asked)  # not within a loop, which would keep Ctrl-C
        cleaned = asyncio.run(_erase(place, plan, asked, progress))
    return 0 if cleaned.is_clean else 1


def _length(phrase: str) -> int:
    """How many letters *phrase* has; a wide one, as of Chinese, says as much as two others."""
    return sum(2 if east_asian_width(letter) == "W" else 1 for letter in phrase)


def _read_ids(told: Iterable[str]) -> Iterator[int]:
    """The ids that arguments tell, and standard input if one of them is `FROM_INPUT`.

    Raises:
        click.UsageError: one is not an id, or there are none.
    """
    some = False
    for one in told:
        for word in _lines() if one == FROM_INPUT else [one]:
            if not re.fullmatch("[0-9]{1,19}", word) or not 0 < int(word) <= NEWEST_PROVABLE:
                raise click.UsageError(f"{make_safe(word)!r} is not an id")
            some = True
            yield int(word)
    if not some:
        raise click.UsageError("standard input has no ids")


def _lines() -> Iterator[str]:
    """The lines of standard input, without the name of a column that CSV begins with."""
    for number, line in enumerate(sys.stdin):
        word = line.strip().strip('"')
        if word and not (number == 0 and re.fullmatch("[A-Za-z_][A-Za-z_0-9]*", word)):
            yield word


async def _survey(place: Place, asked: Asked) -> Plan:
    async with open_for_changes(place) as engine:
        async with engine.connect() as tx:
            if not await may_erase(tx):
                raise ArchiverError(
                    "only the owner of the database may erase: set ARCHIVER_DATABASE_URL to the "
                    "URL that archiver migrate uses, for this command alone"
                )
            flow_key, path = await find_flow(tx, asked.flow)
        wanted = Wanted(flow_key=flow_key, ids=asked.ids, phrases=asked.phrases)
        return Plan(path, wanted, await erasing.survey(engine, wanted))


async def _erase(place: Place, plan: Plan, asked: Asked, progress: Progress) -> Cleaned:
    found = plan.found
    async with open_for_changes(place) as engine:
        try:
            if not found.is_nothing:
                progress.told = UNSURE
                now = datetime.now(UTC)
                found = await erasing.erase(engine, plan.wanted, now=now, reason=asked.reason)
            progress.told = UNFINISHED
            return await _finish(engine, plan.path, found, asked)
        except DatabaseError:
            click.echo(progress.line, err=True)
            raise


def _confirm(path: str, found: Found, asked: Asked) -> None:
    """Show what is to be erased, and ask for confirmation, unless it was given.

    Raises:
        ArchiverError: it was not given, or nobody can be asked.
    """
    if not asked.as_json or not asked.is_confirmed:
        for line in (f"{path}: to be erased for good", *_plan(found)):
            click.echo(make_safe(line), err=asked.as_json)
    if asked.is_confirmed:
        return
    if not sys.stdin.isatty():
        raise ArchiverError("nothing was erased: nobody can be asked here, so add --yes")
    if not click.confirm("Erase this?", err=asked.as_json):
        raise ArchiverError("nothing was erased")


def _plan(found: Found) -> Iterator[str]:
    lines = [
        f"  {one.id}  {moment(one.sent_at)}  {one.nick or 'an integration'}  {one.event}"
        for one in found.told
    ]
    yield from first_of(lines, TOLD)
    changes = found.events - len(found.told)
    if changes:
        yield f"  {counted(changes, 'change')} of these"
    if found.titles:
        others = counted(found.titled, "other event")
        yield f"  the title in {others}, such as replies, which stay"
    for phrase, places in found.places.items():
        yield f"  {phrase!r} in {counted(places, 'other place')}"
    if found.paths:
        yield f"  {counted(len(found.paths), 'file')}"
    if asides := len(found.rejects) + len(found.signals):
        yield f"  {asides:,} of these places are rejects and signals, of which nothing is kept"


async def _finish(engine: Engine, path: str, found: Found, asked: Asked) -> Cleaned:
    """Remove what was computed from it, and tell what was done, and where a phrase is left."""
    # Before it looks for phrases: it finds what is filled meanwhile.
    gaps = await _count_gaps(engine, path) if asked.phrases else 0
    cleaned = await clean(engine, asked.phrases)
    left = cleaned.left
    also_in = await _other_side(engine, path, asked.ids)
    if asked.as_json:
        more = {
            "left": [asdict(one) for one in left],
            "is_indexed": cleaned.is_indexed,
            "gaps": gaps,
            "also_in": also_in,
        }
        show_json(json.dumps({"flow": path, **_plain(found), **more}))
        return cleaned
    if found.is_nothing:
        click.echo("all of this was erased before")
    else:
        click.echo(f"erased: {counted(found.events, 'event')}")
    for other, count in also_in.items():
        events = "1 of these ids is" if count == 1 else f"{count:,} of these ids are"
        click.echo(make_safe(f"{events} also in {other}, as {OTHER_SIDE}: erase them there, too"))
    for one in left:
        click.echo(make_safe(_told(one, path)))
    if not cleaned.is_indexed:
        click.echo(STILL_SEARCHED)
    if asked.phrases and not left:
        click.echo("no phrase is left in the database")
    click.echo(NOT_REACHED)
    if gaps:
        click.echo(make_safe(f"not archived yet: {counted(gaps, 'gap')} of {path}; {NOT_SEARCHED}"))
    return cleaned


async def _other_side(engine: Engine, path: str, ids: Collection[int]) -> dict[str, int]:
    """How many of *ids* are in the same private conversation as the other person's account has it.

    By its path; empty if there are none.
    """
    people = people_of(path)
    if len(people) != 2 or people[0] == people[1]:
        return {}
    mirrored = private_path(UserId(people[1]), UserId(people[0]))
    async with engine.connect() as tx:
        count = await how_many_in(tx, mirrored, ids)
    return {mirrored: count} if count else {}


async def _count_gaps(engine: Engine, path: str) -> int:
    """How many ranges of the flow, which may have a phrase too, are not archived yet."""
    async with transaction(engine) as tx:
        return len(await missing.gaps(tx, [path]))


def _plain(found: Found) -> dict[str, object]:
    return {
        "erased": [one.id for one in found.told],
        "events": found.events,
        "titles": found.titled,
        "phrases": dict(found.places),
        "files": len(found.paths),
        "rejects": len(found.rejects),
        "signals": len(found.signals),
    }


def _told(left: Left, path: str) -> str:
    told = f"left: {left.place}, {counted(left.rows, 'row')}"
    if left.is_statistics:
        return f"{told}: statistics of a table that is empty now; a superuser can remove them"
    others = [one for one in left.flows if one != path]
    reasons = [f"in other flows: {', '.join(others)}"] if others else []
    if path in left.flows or not others:
        reasons.append(MAY_BE_IN)
    return f"{told}: {'; '.join(reasons)}"
