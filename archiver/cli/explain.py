"""``archiver explain``: all that is known of one id, and how it is known."""

import asyncio

import click
import msgspec
from msgspec.structs import replace

from archiver.cli.choice import find_flow
from archiver.cli.configuration import LoadSettings
from archiver.cli.database import Place, open_database, require_archive, serve_database
from archiver.cli.explanation import Erased, Explanation, describe
from archiver.cli.measures import FILES_OFF
from archiver.cli.numbers import Whole
from archiver.cli.terminal import show_json
from archiver.ingest.folding import by_message
from archiver.ingest.tagging import tag_history
from archiver.store import explaining, files, journal, leases, missing
from archiver.store.coverage import NEWEST_PROVABLE
from archiver.store.engine import see_one_moment
from archiver.store.erasure import erasure_of
from archiver.store.journal import Entry


@click.command
@click.argument("flow")
@click.argument("id_", metavar="ID", type=Whole(1, NEWEST_PROVABLE))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_obj
def explain(load: LoadSettings, /, *, flow: str, id_: int, as_json: bool) -> int:
    """Show all that is known of the event ID of FLOW, and how it is known.

    FLOW is a path as in archiver status, or Flowdock's id. Of any event it shows the forms in which
    it came, by stream or page, and the payload; of a message also its present state, its history,
    its tags, whether its files are archived, and the events that changed it. Of an id that is not
    archived, it says why not.

    Exit status: 0 when it is archived, 1 when it is not.
    """
    settings = load()
    require_archive(settings)
    with serve_database(settings) as place:
        found = asyncio.run(_read(place, flow, id_))
    found = replace(found, excluded=bool(settings.excluded([found.flow])))
    if as_json:
        show_json(msgspec.json.encode(found).decode())
    else:
        describe(found)
        if any(one.sha256 is None for one in found.files) and not settings.files.enabled:
            click.echo(FILES_OFF)
    return 0 if found.forms else 1


async def _read(place: Place, flow: str, id_: int) -> Explanation:
    async with open_database(place) as engine, engine.connect() as tx:
        await see_one_moment(tx)
        flow_key, path = await find_flow(tx, flow)
        message = await explaining.message(tx, path, id_)
        thread = message["thread_id"] if message else None
        entries = await journal.about(tx, [(flow_key, id_)])
        own = [one for one in entries if one.id == id_]
        facts = by_message(entries).get((flow_key, id_), [])
        return Explanation(
            flow=path,
            id=id_,
            proof=await explaining.proof(tx, flow_key, id_),
            not_read=(await missing.unread(tx, [path])).get(path),
            not_heard=bool(leases.unheard_among([path], await leases.reports(tx))),
            forms=await explaining.forms(tx, flow_key, id_),
            altered=[one.form for one in own if not journal.is_as_left(one)],
            erased=list(filter(None, map(_erased, own))),
            message=message,
            revisions=await explaining.revisions(tx, path, id_),
            tags=tag_history(facts),
            files=await files.of_message(tx, path, id_),
            changed_by=await explaining.targeting(tx, flow_key, id_),
            thread=await explaining.thread(tx, path, thread) if thread else None,
        )


def _erased(entry: Entry) -> Erased | None:
    mark = erasure_of(entry.payload, entry.digest)
    if mark is None or mark.is_of_nothing:
        return None
    is_whole = journal.is_erased_whole(entry)
    return Erased(form=entry.form, at=mark.at, reason=mark.reason, is_whole=is_whole)
