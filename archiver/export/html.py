"""HTML: one folder that opens from disk, without a server and without a word to anybody.

A page for each day of each flow, pages of threads by the month in which they began, people, and a
search that loads the texts month by month. Whatever chat holds is text here: templates escape it,
scripts put it in as text, and a policy in each page forbids all that the folder does not hold.
"""

from contextlib import ExitStack
from typing import Any
from urllib.parse import quote

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from archiver.domain.query import show
from archiver.export.folder import Folder, Shelf, Sink
from archiver.export.html_message import article
from archiver.export.messages import Message, read_message, visible
from archiver.export.reading import Reading
from archiver.export.writing import path_of
from archiver.store import exporting, exporting_rows
from archiver.store.exporting_choice import UNDATED, Part, Subject

POLICY = (
    "default-src 'none'; style-src 'self' file:; script-src 'self' file:; img-src 'none'; "
    "base-uri 'none'; form-action 'none'"
)
ASSETS = ("style.css", "page.js", "search.js")


def _finalize(value: Any) -> Any:
    return visible(value) if type(value) is str else value


_PAGES = Environment(
    loader=PackageLoader("archiver.export", "pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    finalize=_finalize,
)
_PAGES.globals.update(policy=POLICY)
_HEADING = _PAGES.from_string('<h2 id="t-{{ id }}">{{ title }}</h2>\n')
END = b"</main></body></html>\n"


class Html:
    """Messages as pages."""

    subject: Subject = "messages"
    by_month = False

    def __init__(self) -> None:
        self._talk = _PAGES.get_template("talk.html")

    async def write_part(self, reading: Reading, part: Part, shelf: Shelf) -> int:
        """Write the pages of one flow, and what its search looks through."""
        home = path_of(part.flow)
        months = await self._write_days(reading, part, shelf, home)
        talks = await self._write_threads(reading, part, shelf, home)
        rows = sum(count for days in months.values() for _, count in days)
        with shelf.file(f"{home}/index.html") as sink:
            page = _PAGES.get_template("flow.html")
            told = {"months": sorted(months.items()), "talks": talks, "rows": rows}
            sink.write(_page(page, home, part.flow, [], **told))
        return rows

    async def _write_days(
        self, reading: Reading, part: Part, shelf: Shelf, home: str
    ) -> dict[str, list[tuple[str, int]]]:
        """Write a page for each day; returns days and counts by month."""
        months: dict[str, list[tuple[str, int]]] = {}
        day, shard, sink = "", _Shard(None), None
        with ExitStack() as month_open, ExitStack() as day_open:
            async with exporting_rows.lines(
                exporting_rows.conversation(reading.tx, part, reading.chosen)
            ) as told:
                async for line in told:
                    message = read_message(line)
                    month = message.month
                    if month not in months:
                        shard.end()
                        month_open.close()
                        months[month] = []
                        data = shelf.file(f"search/{home}/{month}.js")
                        shard = _Shard(month_open.enter_context(data))
                    if sink is None or day != (message.day or UNDATED):
                        day_open.close()
                        day = message.day or UNDATED
                        months[month].append((day, 0))
                        sink = day_open.enter_context(shelf.file(f"{home}/{day}.html"))
                        day_open.callback(sink.write, END)
                        trail = [(part.flow, "index.html"), (month, f"index.html#{month}")]
                        sink.write(_page(self._talk, home, f"{part.flow} {day}", trail))
                    sink.write(article(message, "", _thread_href(message)).encode())
                    shard.add(message)
                    months[month][-1] = (day, months[month][-1][1] + 1)
                    reading.tally.count(1, part)
            shard.end()
        return months

    async def _write_threads(
        self, reading: Reading, part: Part, shelf: Shelf, home: str
    ) -> list[str]:
        """Write a page for the threads that began in a month; returns these months."""
        months: list[str] = []
        thread = None
        with ExitStack() as page_open:
            sink = None
            talk = exporting_rows.conversation(reading.tx, part, reading.chosen, by_thread=True)
            async with exporting_rows.lines(talk) as told:
                async for line in told:
                    message = read_message(line)
                    month = _thread_month(message)
                    if sink is None or month not in months:
                        page_open.close()
                        months.append(month)
                        path = f"{home}/threads-{month}.html"
                        sink = page_open.enter_context(shelf.file(path))
                        page_open.callback(sink.write, END)
                        trail = [(part.flow, "index.html")]
                        title = f"{part.flow} threads {month}"
                        sink.write(_page(self._talk, home, title, trail))
                    if message.thread_id != thread:
                        thread = message.thread_id
                        sink.write(_heading(message))
                    day_href = f"{message.day or UNDATED}.html"
                    sink.write(article(message, day_href).encode())
        return months

    async def write_summary(self, reading: Reading, shelf: Shelf) -> None:
        """Write the first page, people, the search, and what all pages use."""
        proofs = await exporting.coverage(reading.tx, reading.chosen.flows)
        flows = [
            {
                "name": part.flow,
                "href": f"{quote(path_of(part.flow))}/index.html",
                "rows": part.rows,
                "proof": _proof(proofs.get(part.flow)),
            }
            for part in reading.parts
        ]
        rows = sum(part.rows for part in reading.parts)
        as_of = reading.chosen.as_of
        people = await _people(reading)
        told: dict[str, dict[str, Any]] = {
            "index": {
                "flows": flows,
                "rows": rows,
                "as_of": as_of and f"{as_of:%Y-%m-%d %H:%M}",
                "query": reading.chosen.query and show(reading.chosen.query),
            },
            "people": {"people": people},
            "search": {"flows": [part.flow for part in reading.parts]},
        }
        for name, title in (("index", "Archive"), ("people", "People"), ("search", "Search")):
            with shelf.file(f"{name}.html") as sink:
                template = _PAGES.get_template(f"{name}.html")
                sink.write(_page(template, "", title, [], **told[name]))
        for name in ASSETS:
            with shelf.file(f"assets/{name}") as sink:
                source, _, _ = PackageLoader("archiver.export", "pages").get_source(_PAGES, name)
                sink.write(source.encode())
        with shelf.file("assets/shards.js") as sink:
            sink.write(b'"use strict";\nconst shards = ' + _shards(shelf.folder, flows) + b";\n")


class _Shard:
    """What the search looks through of one flow and month: a script that hands it over."""

    def __init__(self, sink: Sink | None) -> None:
        self._sink = sink
        self._between = b"archive(["

    def add(self, message: Message) -> None:
        if self._sink is None or not message.content:
            return
        nick = message.nick or message.external_user_name or ""
        time = message.sent[11:16] if message.sent else ""
        row = [message.id, message.day, time, nick, visible(message.content)]
        self._sink.write(self._between + b"\n" + msgspec.json.encode(row))
        self._between = b","

    def end(self) -> None:
        if self._sink is not None:
            self._sink.write(b"archive([]);\n" if self._between != b"," else b"]);\n")


def _page(
    template: Template, home: str, title: str, trail: list[tuple[str, str]], **told: Any
) -> bytes:
    """A page in the folder *home*; one that messages follow has no end yet."""
    root = "../" * (home.count("/") + 1) if home else ""
    return template.render(root=root, title=title, trail=trail, **told).encode()


def _thread_month(message: Message) -> str:
    """The month in which its thread began; that of the page which has the thread."""
    return message.thread_day[:7] if message.thread_day else UNDATED


def _thread_href(message: Message) -> str | None:
    if not message.thread_size:
        return None
    return f"threads-{_thread_month(message)}.html#t-{quote(message.thread_id or '', safe='')}"


def _heading(message: Message) -> bytes:
    title = message.thread_title or "a thread"
    return _HEADING.render(id=message.thread_id, title=title).encode()


def _proof(standing: Any) -> str:
    if not standing or not standing["proven"]:
        return "nothing"
    missing = sum(one["to"] - one["from"] + 1 for one in standing["missing"])
    return f"all but {missing:,} ids" if missing else "all"


async def _people(reading: Reading) -> list[dict[str, Any]]:
    said = await exporting.talkers(reading.tx, reading.chosen)
    people = [
        {
            "id": one["user_id"],
            "nick": one["nick"] or "",
            "name": one["name"] or "",
            "email": one["email"] or "",
            "rows": said.get(one["user_id"], 0),
        }
        for one in await exporting.table(reading.tx, "users")
    ]
    return sorted(people, key=lambda one: (-one["rows"], one["nick"], one["id"]))


def _shards(folder: Folder, flows: list[dict[str, Any]]) -> bytes:
    """Where the texts of each flow and month are, the newest months first."""
    names = {path_of(flow["name"]): flow["name"] for flow in flows}
    found = []
    for file in folder.files:
        if file.path.startswith("search/"):
            home, _, month = file.path.removeprefix("search/").removesuffix(".js").rpartition("/")
            data, path = quote(file.path), quote(home)
            found.append({"flow": names[home], "month": month, "path": path, "data": data})
    found.sort(key=lambda one: (one["month"], one["flow"]), reverse=True)
    return msgspec.json.encode(found)
