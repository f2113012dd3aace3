"""HTML: a folder of pages that open from disk, need no server, and contact none.

There is a page for each day of each flow, a page of threads for each month in which some began, a
page of people, and a search, which loads the texts month by month. Whatever people wrote is shown
as text: templates escape it, scripts insert it as text, and a content security policy in each page
forbids loading anything that is not in the folder.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import lru_cache
from itertools import groupby
from typing import Any, TypeVar
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from archiver.domain.model import NOBODY, people_of
from archiver.domain.query import show
from archiver.export.files import Links, inert_place, root_from
from archiver.export.folder import Shelf
from archiver.export.html_message import article
from archiver.export.html_search import Shard, list_shards
from archiver.export.messages import Message, in_line, read_messages
from archiver.export.names import path_of
from archiver.export.reading import Reading
from archiver.export.titles import title_of, titled
from archiver.store import exporting, exporting_rows
from archiver.store.exporting import Table
from archiver.store.exporting_choice import UNDATED, Part, Subject
from archiver.store.missing import UNTOLD, UnknownEnds

POLICY = (
    "default-src 'none'; style-src 'self' file:; script-src 'self' file:; img-src 'none'; "
    "base-uri 'none'; form-action 'none'"
)
WITH_PICTURES = POLICY.replace("img-src 'none'", "img-src 'self' file:")
"""The policy of pages with messages, in an export that includes the contents of files."""
ASSETS = ("style.css", "page.js", "search.js")


def _finalize(value: Any) -> Any:
    return in_line(value) if type(value) is str else value


def _counted(count: int, thing: str) -> str:
    """*count* with the name of a *thing* whose plural ends in s."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


_LOADER = PackageLoader("archiver.export", "pages")
_PAGES = Environment(
    loader=_LOADER,
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    finalize=_finalize,
)
_PAGES.globals.update(policy=POLICY)
_PAGES.filters.update(counted=_counted)
_HEADING = _PAGES.from_string('<h2 id="t-{{ id }}">{{ title }}</h2>\n')
PICTURE_STYLE = b".file img { display: block; max-width: 100%; max-height: 12rem; }\n"
END = b"</main></body></html>\n"


T = TypeVar("T")


class Html:
    """Messages as pages."""

    subject: Subject = "messages"
    by_month = False
    tables: tuple[Table, ...] = ("messages", "revisions", "threads")
    omits = ""
    place = staticmethod(inert_place)

    def __init__(self) -> None:
        self._talk = _PAGES.get_template("talk.html")

    async def write_part(self, reading: Reading, part: Part, shelf: Shelf) -> int:
        """Write the pages of one flow, and the texts for the search."""
        home = path_of(part.flow)
        title = await title_of(reading.tx, part.flow)
        months = await self._write_days(reading, part, shelf, home, title)
        talks = await self._write_threads(reading, part, shelf, home, title)
        rows = sum(count for days in months.values() for _, count in days)
        with shelf.file(f"{home}/index.html") as sink:
            page = _PAGES.get_template("flow.html")
            told = {"months": sorted(months.items()), "talks": talks, "rows": rows}
            sink.write(_page(page, home, title, [], **told))
        return rows

    async def _write_days(
        self, reading: Reading, part: Part, shelf: Shelf, home: str, title: str
    ) -> dict[str, list[tuple[str, int]]]:
        """Write a page for each day; returns by month: each day, with its number of messages."""
        links = _links(reading, home)
        policy = WITH_PICTURES if links else POLICY
        months: dict[str, list[tuple[str, int]]] = {}
        day, shard, sink = "", Shard(None), None
        talk = exporting_rows.conversation(reading.tx, part, reading.chosen)
        with ExitStack() as month_open, ExitStack() as day_open:
            async with read_messages(talk) as told:
                async for (month, of_day), said in _runs(told, _day):
                    if month not in months:
                        shard.end()
                        month_open.close()
                        months[month] = []
                        data = shelf.file(f"search/{home}/{month}.js")
                        shard = Shard(month_open.enter_context(data))
                    if sink is None or of_day != day:
                        day_open.close()
                        day = of_day
                        months[month].append((day, 0))
                        sink = day_open.enter_context(shelf.file(f"{home}/{day}.html"))
                        day_open.callback(sink.write, END)
                        trail = [(title, "index.html"), (month, f"index.html#{month}")]
                        sink.write(_page(self._talk, home, f"{title} {day}", trail, policy=policy))
                    articles = [article(one, "", _thread_href(one), links) for one in said]
                    sink.write("".join(articles).encode())
                    shard.add(said)
                    months[month][-1] = (day, months[month][-1][1] + len(said))
                    reading.tally.count(len(said), part)
            shard.end()
        return months

    async def _write_threads(
        self, reading: Reading, part: Part, shelf: Shelf, home: str, title: str
    ) -> list[str]:
        """Write a page of threads for each month in which some began; returns these months."""
        links = _links(reading, home)
        policy = WITH_PICTURES if links else POLICY
        months: list[str] = []
        thread = None
        with ExitStack() as page_open:
            sink = None
            talk = exporting_rows.conversation(reading.tx, part, reading.chosen, by_thread=True)
            async with read_messages(talk) as told:
                async for (month, of_thread), said in _runs(told, _thread):
                    if sink is None or month not in months:
                        page_open.close()
                        months.append(month)
                        path = f"{home}/threads-{month}.html"
                        sink = page_open.enter_context(shelf.file(path))
                        page_open.callback(sink.write, END)
                        trail = [(title, "index.html")]
                        of_month = f"{title} threads {month}"
                        sink.write(_page(self._talk, home, of_month, trail, policy=policy))
                    if of_thread != thread:
                        thread = of_thread
                        sink.write(_heading(said[0]))
                    articles = [
                        article(one, f"{one.day or UNDATED}.html", links=links) for one in said
                    ]
                    sink.write("".join(articles).encode())
        return months

    async def write_summary(self, reading: Reading, shelf: Shelf) -> None:
        """Write the index, the page of people, the search, and the assets of all pages."""
        proofs = await exporting.coverage(reading.tx, reading.chosen.flows)
        ends = await exporting.unknown_ends(reading.tx, reading.chosen.flows)
        people = await _people(reading)
        ids = {id_ for part in reading.parts for id_ in people_of(part.flow)}
        names = await exporting.names_of(reading.tx, ids)
        flows = [
            {
                "name": part.flow,
                "title": titled(part.flow, names),
                "href": f"{quote(path_of(part.flow))}/index.html",
                "rows": part.rows,
                "proof": _proof(part.flow, proofs.get(part.flow), ends),
            }
            for part in reading.parts
        ]
        rows = sum(part.rows for part in reading.parts)
        chosen = reading.chosen
        told: dict[str, dict[str, Any]] = {
            "index": {
                "flows": flows,
                "rows": rows,
                "as_of": _moment(chosen.as_of),
                "since": _moment(chosen.since),
                "until": _moment(chosen.until),
                "query": chosen.query and show(chosen.query),
                "files": reading.files and reading.files.counted(),
            },
            "people": {"people": people},
            "search": {"flows": flows},
        }
        for name, title in (("index", "Archive"), ("people", "People"), ("search", "Search")):
            with shelf.file(f"{name}.html") as sink:
                template = _PAGES.get_template(f"{name}.html")
                sink.write(_page(template, "", title, [], **told[name]))
        _write_assets(shelf, with_pictures=reading.files is not None)
        with shelf.file("assets/shards.js") as sink:
            sink.write(
                b'"use strict";\nconst shards = ' + list_shards(shelf.folder, flows) + b";\n"
            )


def _write_assets(shelf: Shelf, *, with_pictures: bool) -> None:
    for name in ASSETS:
        with shelf.file(f"assets/{name}") as sink:
            source, _, _ = _LOADER.get_source(_PAGES, name)
            sink.write(source.encode())
            if name == "style.css" and with_pictures:
                sink.write(PICTURE_STYLE)


def _links(reading: Reading, home: str) -> Links | None:
    return None if reading.files is None else Links(reading.files, home)


async def _runs(
    told: AsyncIterator[list[Message]], key: Callable[[Message], tuple[str, T]]
) -> AsyncIterator[tuple[tuple[str, T], list[Message]]]:
    """Group consecutive messages by *key*; a long run comes as several groups of the same key."""
    async for messages in told:
        for same, run in groupby(messages, key):
            yield same, list(run)


def _day(message: Message) -> tuple[str, str]:
    return message.month, message.day or UNDATED


def _thread(message: Message) -> tuple[str, str | None]:
    return _thread_month(message), message.thread_id


def _page(
    template: Template, home: str, title: str, trail: list[tuple[str, str]], **told: Any
) -> bytes:
    """Render a page in the folder *home*; where messages follow it, `END` has to close it."""
    return template.render(root=root_from(home), title=title, trail=trail, **told).encode()


def _thread_month(message: Message) -> str:
    """The month in which its thread began, and which names the page with the thread."""
    return message.thread_day[:7] if message.thread_day else UNDATED


def _thread_href(message: Message) -> str | None:
    if not message.thread_size:
        return None
    return f"threads-{_thread_month(message)}.html#t-{_quoted(message.thread_id or '')}"


@lru_cache(maxsize=1024)
def _quoted(thread: str) -> str:
    return quote(in_line(thread), safe="")


def _heading(message: Message) -> bytes:
    title = message.thread_title or "a thread"
    return _HEADING.render(id=message.thread_id, title=title).encode()


def _moment(at: datetime | None) -> str:
    """A time in UTC for people, with seconds only if there are any: ``2024-05-31 12:34``."""
    if at is None:
        return ""
    return at.astimezone(UTC).isoformat(" ").removesuffix("+00:00").removesuffix(":00")


def _proof(flow: str, standing: Any, ends: UnknownEnds) -> str:
    """How much of a flow is proven; never just "all" if its newest id is not known."""
    if not standing or not standing["proven"]:
        return "nothing"
    if flow in ends.unmeasured:
        return f"a part: {ends.unmeasured[flow]}"
    missing = sum(one["to"] - one["from"] + 1 for one in standing["missing"])
    proven = f"all but {_counted(missing, 'id')}" if missing else "all"
    return f"{proven}, but {UNTOLD}" if flow in ends.untold else proven


async def _people(reading: Reading) -> list[dict[str, Any]]:
    """Those who are listed and all who took part, with how many messages they sent."""
    said = await exporting.talkers(reading.tx, reading.chosen)
    listed = {one["user_id"]: one for one in await exporting.table(reading.tx, "users")}
    heard = await exporting.participants(reading.tx, reading.chosen)
    people = []
    for id_ in {**listed, **dict.fromkeys(set(heard) - {NOBODY})}:
        one = listed.get(id_, {})
        nick = in_line(one.get("nick") or f"user {id_}")
        told = {"id": id_, "nick": nick, "rows": said.get(id_, 0)}
        people.append(told | {name: one.get(name) or "" for name in ("name", "email")})
    return sorted(people, key=lambda one: (-one["rows"], one["nick"], one["id"]))
