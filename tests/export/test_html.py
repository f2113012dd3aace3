"""Pages: whatever chat holds is text in them, and every link leads somewhere in the folder."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import html5lib
import psycopg
import pytest
from markdown_it import MarkdownIt

from archiver.domain.model import Flow, FlowId, User, UserId
from archiver.export.html_message import article, linked
from archiver.export.messages import Message
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.store import directory
from archiver.store.engine import transaction
from tests.export.conftest import (
    FORGED,
    HOSTILE,
    JULY,
    JUNE,
    Export,
    content,
    exporter,
    fill,
    has_power,
    rows,
)
from tests.ingest.arriving import NOW, frame, listed, running, streamed

SPACE = "{http://www.w3.org/1999/xhtml}"


@pytest.fixture
def pages(export: Export, tmp_path: Path) -> dict[Path, Any]:
    """The pages, read by a strict HTML parser that tolerates no error."""
    export(tmp_path / "out", "html")
    return parsed(*(tmp_path / "out").rglob("*.html"))


def parsed(*pages: Path) -> dict[Path, Any]:
    parser = html5lib.HTMLParser(strict=True)
    return {page: parser.parse(page.read_bytes().decode()) for page in pages}


def elements(pages: dict[Path, Any], name: str) -> Iterator[tuple[Path, Any]]:
    for page, root in pages.items():
        for element in root.iter(SPACE + name):
            yield page, element


def test_texts_are_shown_as_they_were_said(pages: dict[Path, Any], archive_url: str) -> None:
    shown = {
        (page.parent.name, article.get("id")): "".join(text.itertext())
        for page, article in elements(pages, "article")
        for text in article.findall(f"{SPACE}div")
    }
    pictures = {"\x00": "\ufffd", "\x1b": "␛", "\u202e": "\ufffd", "\r\n": "\n"}
    for row in rows(archive_url, "WHERE flow = 'acme/main' AND event = 'message'"):
        said = row["content"]
        for one, picture in pictures.items():
            said = said.replace(one, picture)
        assert shown.get(("main", f"m-{row['id']}"), "") == said


def test_nothing_is_in_a_page_but_what_was_meant_to_be(pages: dict[Path, Any]) -> None:
    used = {element.tag for _, root in pages.items() for element in root.iter()}
    meant = (
        "html head meta title link script body header nav a main h1 h2 p table thead tbody tr th td"
        " section ul li span form label input output article b time i div details summary ol footer"
        " select option button noscript"
    )
    assert used <= {SPACE + name for name in meant.split()}
    for page, root in pages.items():
        for element in root.iter():
            assert not [name for name in element.attrib if name.startswith("on") or name == "style"]
        policy = root.find(f".//{SPACE}meta[@http-equiv]").get("content")
        assert policy.startswith("default-src 'none'; "), page
        assert "unsafe" not in policy
    for _, script in elements(pages, "script"):
        assert not script.text
        assert "//" not in script.get("src")


def test_every_link_leads_somewhere(pages: dict[Path, Any]) -> None:
    outside = set()
    for page, link in elements(pages, "a"):
        href = link.get("href")
        if href.startswith(("http://", "https://")):
            outside.add(href)
            assert link.get("rel") == "noopener noreferrer nofollow"
            continue
        path, _, anchor = href.partition("#")
        target = (page.parent / unquote(path)).resolve() if path else page
        assert target in pages, href
        if anchor and target.name != "search.html":
            ids = {element.get("id") for element in pages[target].iter()}
            assert unquote(anchor) in ids, href
    assert outside == {"http://example.com/?q="}


def test_edits_deletions_and_threads_are_shown(pages: dict[Path, Any]) -> None:
    articles = {
        (page.name, article.get("id")): "".join(article.itertext())
        for page, article in elements(pages, "article")
    }
    assert "soon edited" in articles["2019-06-01.html", "m-23"]
    assert "edited <b>" in articles["2019-06-01.html", "m-23"]
    assert "deleted 2020-01-01" in articles["2019-06-01.html", "m-24"]
    assert "soon deleted" in articles["2019-06-01.html", "m-24"]
    assert "thread of 2" in articles["2019-07-02.html", "m-22"]
    (thread,) = [page for page in pages if page.name.startswith("threads-")]
    assert [heading.text for _, heading in elements({thread: pages[thread]}, "h2")] == ["<T>"]
    assert {("threads-2019-07.html", "m-21"), ("threads-2019-07.html", "m-22")} <= articles.keys()


def test_a_comment_and_an_activity_say_what_they_are_about(
    database_url: str, tmp_path: Path
) -> None:
    async def fill(engine: Any) -> None:
        flow = Flow(id=FlowId("f"), path="acme/main")
        async with transaction(engine) as tx:
            key = (await directory.see_flows(tx, [flow], now=NOW))[flow.id]
        ticket = {"title": "Fix <b>", "status": {"value": "open"}}
        comment = {"content": {"title": "Title\nof parent", "text": "so it is"}}
        activity = {"content": None, "title": "closed", "thread_id": "a", "thread": ticket}
        said = [
            frame(1, "comment", sent=JUNE, tags=["influx:9"], **comment),
            frame(2, "comment", sent=JUNE, content={"title": "", "text": "and so"}),
            frame(3, "activity", sent=JUNE, **activity),
            frame(4, "message", sent=JUNE, content="in a thread", thread_id="b", thread=ticket),
        ]
        await apply(engine, Batch(now=NOW, arrivals=[streamed(one, key) for one in said]))

    with running(database_url) as (run, engine):
        run(fill(engine))
    exporter(database_url)(tmp_path / "out", "html")

    day = parsed(tmp_path / "out/acme/main/2019-06-01.html")
    kinds = {
        article.get("id"): [kind.text for kind in article.iter(f"{SPACE}i")]
        for _, article in elements(day, "article")
    }
    assert kinds == {
        "m-1": ["on “Title⏎of parent”"], "m-2": [], "m-3": ["activity on “Fix <b>”"], "m-4": [],
    }  # fmt: skip


def test_a_thread_is_on_the_page_of_the_month_in_which_it_began(
    database_url: str, tmp_path: Path
) -> None:
    async def fill(engine: Any) -> None:
        flow = Flow(id=FlowId("f"), path="acme/main")
        async with transaction(engine) as tx:
            key = (await directory.see_flows(tx, [flow], now=NOW))[flow.id]
        # The ids are not in the order of times, and one message has no time.
        sent = {1: JULY, 2: JULY, 3: JUNE, 4: JUNE, 5: JULY, 6: None}
        threads = dict(zip(sent, "aabbcc", strict=True))
        told = [frame(id_, sent=at, thread_id=threads[id_]) for id_, at in sent.items()]
        await apply(engine, Batch(now=NOW, arrivals=[listed(one, key, as_of=6) for one in told]))

    with running(database_url) as (run, engine):
        run(fill(engine))
    exporter(database_url)(tmp_path / "out", "html", flows=["acme/main"])

    shown = {
        page.name: [heading.get("id") for _, heading in elements(parsed(page), "h2")]
        for page in (tmp_path / "out").rglob("threads-*.html")
    }
    assert shown == {"threads-2019-06.html": ["t-b"], "threads-2019-07.html": ["t-a", "t-c"]}


def test_a_private_conversation_tells_between_whom_it_is(pages: dict[Path, Any]) -> None:
    roots = {page.name: root for page, root in pages.items() if page.parent.name == "out"}
    told = ["".join(row.itertext()) for row in roots["index.html"].iter(f"{SPACE}td")]
    offered = [option.text for option in roots["search.html"].iter(f"{SPACE}option")]

    assert {"acme/main", "ann<i> and Bob (private/1/2)"} <= set(told)
    assert {"acme/main", "ann<i> and Bob (private/1/2)"} <= set(offered)


def test_pages_of_a_private_conversation_are_titled_by_the_people_in_it(
    database_url: str, tmp_path: Path
) -> None:
    forged = 'B</title><script>x("'
    who = {"1": ("ann<i>", None), "2": (None, forged), "3": (None, None), "4": ("", "")}
    paths = ["private/1/2", "private/1/3", "private/3/4"]
    titles = [f"ann<i> and {forged} (private/1/2)", "ann<i> and user 3 (private/1/3)", paths[2]]

    async def fill(engine: Any) -> None:
        people = [User(id=UserId(id_), nick=nick, name=name) for id_, (nick, name) in who.items()]
        flows = [Flow(id=FlowId(path), path=path) for path in paths]
        async with transaction(engine) as tx:
            keys = await directory.see_flows(tx, flows, now=NOW)
            await directory.see_users(tx, people, now=NOW)
        told: dict[str, Any] = {"sent": JUNE, "thread_id": "t", "thread": {"title": "T"}}
        said = [
            streamed(frame(id_, flow=None, to="2", **told), keys[FlowId(path)])
            for path in paths
            for id_ in (1, 2)
        ]
        await apply(engine, Batch(now=NOW, arrivals=said))

    with running(database_url) as (run, engine):
        run(fill(engine))
    for style in ("html", "markdown", "text"):
        exporter(database_url)(tmp_path / style, style, flows=paths)

    home = tmp_path / "html"
    for path, title in zip(paths, titles, strict=True):
        pages = parsed(*(home / path).glob("*.html"))
        shown = {page.name: root.find(f".//{SPACE}title").text for page, root in pages.items()}
        assert shown == {
            "index.html": title,
            "2019-06-01.html": f"{title} 2019-06-01",
            "threads-2019-06.html": f"{title} threads 2019-06",
        }
        for page, heading in elements(pages, "h1"):
            assert heading.text == shown[page.name]
        links = [link.text for page, link in elements(pages, "a") if page.name != "index.html"]
        assert links.count(title) == 2
        text = (tmp_path / "text" / path / "2019-06.txt").read_text()
        assert text.startswith(f"{title} 2019-06 (times are UTC)\n")
        (heading,) = (tmp_path / "markdown" / path / "2019-06.md").read_text().splitlines()[:1]
        assert plain(heading[2:]) == f"{title} 2019-06"
    script = (home / "assets" / "shards.js").read_text()
    shards = json.loads(script.partition(" = ")[2].removesuffix(";\n"))
    assert {one["flow"]: one["title"] for one in shards} == dict(zip(paths, titles, strict=True))


def plain(line: str) -> str:
    """What a line of Markdown shows, which must be nothing but text."""
    (token,) = MarkdownIt().parseInline(line)
    assert {one.type for one in token.children or ()} <= {"text", "text_special"}
    return "".join(one.content for one in token.children or ())


def test_no_flow_is_shown_as_complete_whose_end_is_not_known(
    database_url: str, tmp_path: Path
) -> None:
    def proofs(out: str) -> list[str]:
        exporter(database_url)(tmp_path / out, "html")
        (root,) = parsed(tmp_path / out / "index.html").values()
        cells = list(root.iter(f"{SPACE}td"))
        return ["".join(cell.itertext()) for cell in cells if cell.get("data-name", "")[:1] == "p"]

    with running(database_url) as (run, engine):
        run(fill(engine))
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("UPDATE store.ledger SET listed = '{[1,34)}' WHERE due = 33")
        assert proofs("known") == ["all", "nothing", "nothing"]
        db.execute(
            "INSERT INTO store.pages (flow_key, run, purpose, asked, messages, as_of, requested_at,"
            " error) SELECT flow_key, gen_random_uuid(), 'head', '[34,)', 0, 0, now(), '503'"
            " FROM store.flows WHERE path = 'acme/main';"
            "UPDATE store.ledger SET streamed = '{[1,2)}' WHERE due = 0"
        )
        part = "a part: its newest message was never requested"
        assert proofs("unknown") == ["all, but its newest message is not known", part, part]


def test_one_of_a_thing_is_told_as_one(database_url: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(database_url) as (run, engine):
        run(fill(engine))
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("UPDATE store.ledger SET listed = '{[1,33)}' WHERE due = 33")
        ((flow, first),) = db.execute(
            "SELECT flow, min(sent) FROM archive.messages WHERE flow = 'acme/main' GROUP BY flow"
        ).fetchall()
    second = first + timedelta(milliseconds=1)
    exporter(database_url)(out, "html", flows=(flow,), until=second, files=True)
    first_page = (out / "index.html").read_text()
    assert "<p>1 message of 1 flow. Times" in first_page
    assert "all but 1 id<" in first_page
    assert "<p>1 message." in (out / flow / "index.html").read_text()


def test_people_are_all_who_were_heard_by_the_names_that_messages_have(
    database_url: str, tmp_path: Path
) -> None:
    async def fill(engine: Any) -> None:
        flow = Flow(id=FlowId("f"), path="acme/main")
        nameless = User(id=UserId("3"), name="Kim")
        async with transaction(engine) as tx:
            key = (await directory.see_flows(tx, [flow], now=NOW))[flow.id]
            await directory.see_users(tx, [nameless], now=NOW)
        reaction = {"message": 1, "emoji": "+1", "type": "add"}
        told = [frame(1, user="77"), frame(2, user="3"), frame(3, user="0")]
        told.append(frame(4, "emoji-reaction", user="78", content=reaction))
        await apply(engine, Batch(now=NOW, arrivals=[streamed(one, key) for one in told]))

    with running(database_url) as (run, engine):
        run(fill(engine))
    exporter(database_url)(tmp_path / "out", "html", flows=["acme/main"])

    told = [
        [cell.text or "".join(cell.itertext()) for cell in row.iter(f"{SPACE}td")]
        for _, row in elements(parsed(tmp_path / "out/people.html"), "tr")
    ]
    assert [(nick, name, count) for nick, name, _, count in filter(None, told)] == [
        ("user 3", "Kim", "1"), ("user 77", "", "1"), ("user 78", "", "0"),
    ]  # fmt: skip
    links = [link.get("href") for _, link in elements(parsed(tmp_path / "out/people.html"), "a")]
    assert links[-2:] == ["search.html#from=user%203&by=3", "search.html#from=user%2077&by=77"]


def test_a_thread_tells_the_day_of_each_message_and_a_day_the_hour(pages: dict[Path, Any]) -> None:
    told = {
        (page.name, article.get("id")): article.find(f".//{SPACE}time").text
        for page, article in elements(pages, "article")
    }
    hour = told["2019-07-02.html", "m-22"]
    assert len(hour) == len("12:34")
    assert told["threads-2019-07.html", "m-22"] == f"2019-07-02 {hour}"


def test_each_page_with_times_says_of_which_zone_they_are(pages: dict[Path, Any]) -> None:
    with_times = {page for page, _ in elements(pages, "time")}
    assert {"2019-07-02.html", "threads-2019-07.html"} <= {page.name for page in with_times}
    for page in with_times:
        assert "Times are UTC." in "".join(pages[page].itertext())


def test_parts_of_a_page_to_go_by_are_told_apart_to_who_cannot_see_them(
    pages: dict[Path, Any],
) -> None:
    for root in pages.values():
        labels = [nav.get("aria-label") for nav in root.iter(f"{SPACE}nav")]
        assert len(set(labels)) == len(labels) == 2
        assert all(labels)


def test_all_tags_are_shown_but_marks_of_the_service() -> None:
    tags = ["todo", "github:push", "project:/Api", ":user:1", ":url", ":unread:2", "influx:12"]
    fields = dict.fromkeys(Message.__struct_fields__)
    message = Message(**fields | {"id": 1, "event": "vcs", "tags": tags})  # type: ignore[arg-type]
    assert re.findall("#([^<]+)</span>", article(message, "")) == tags[:3]


@pytest.mark.parametrize("path", ["search/main", "assets/page.js", "search.html/main"])
def test_an_organization_may_be_called_as_what_stands_beside_it(
    database_url: str, tmp_path: Path, path: str
) -> None:
    async def fill(engine: Any) -> None:
        async with transaction(engine) as tx:
            keys = await directory.see_flows(tx, [Flow(id=FlowId("f"), path=path)], now=NOW)
        told = listed(frame(1, content="said there"), keys[FlowId("f")], as_of=1)
        await apply(engine, Batch(now=NOW, arrivals=[told]))

    with running(database_url) as (run, engine):
        run(fill(engine))
    exporter(database_url)(tmp_path / "out", "html", flows=[path])

    files = content(tmp_path / "out")
    (shard,) = json.loads(files["assets/shards.js"].partition(b" = ")[2].removesuffix(b";\n"))
    assert shard["flow"] == path
    assert b"said there" in files[unquote(shard["data"])]
    assert f"{unquote(shard['path'])}/index.html" in files
    assert {"assets/page.js", "search.html", "index.html"} <= files.keys()


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("see http://a.example/b.", "http://a.example/b"),
        ("(see http://a.example/b)", "http://a.example/b"),
        ("http://a.example/B_(film)", "http://a.example/B_(film)"),
        ("(as http://a.example/B_(film).)", "http://a.example/B_(film)"),
        ("http://a.example/(b)_c, d", "http://a.example/(b)_c"),
        ("http://a.example/b(c d)", "http://a.example/b(c"),
        ("[http://a.example/?q=(b)]", "http://a.example/?q=(b)"),
    ],
)
def test_a_link_is_the_address_without_the_signs_around_it(said: str, address: str) -> None:
    before, after = said.split(address)
    opened, shown, closed = linked(said).partition(f">{address}</a>")
    assert opened.startswith(f'{before}<a href="{address}" ')
    assert (shown, closed) == (f">{address}</a>", after)


def test_names_are_on_one_line_without_power_and_the_search_has_them_so(
    forging: Export, tmp_path: Path
) -> None:
    forging(tmp_path / "out", "html", flows=[f"acme/main{FORGED}"])
    pages = {
        name: data.decode()
        for name, data in content(tmp_path / "out").items()
        if name.endswith((".html", ".js"))
    }
    for name, page in pages.items():
        assert not any(map(has_power, page)), name
        assert not [line for line in page.split("\n") if line.startswith("[09:00:00]")], name
    parser = html5lib.HTMLParser(strict=True)
    (flow,) = json.loads(pages["assets/shards.js"].partition(" = ")[2].removesuffix(";\n"))
    search = parser.parse(pages["search.html"])
    options = [one.get("value") for one in search.iter(f"{SPACE}option")]
    assert options == ["", flow["flow"]]
    (link,) = [
        one.get("href")
        for one in parser.parse(pages["people.html"]).iter(f"{SPACE}a")
        if "#from=" in one.get("href")
    ]
    (texts,) = [json.loads(page[8:-3]) for name, page in pages.items() if "search/" in name]
    ((nick,), (by,)) = parse_qs(link.partition("#")[2]).values()
    assert (nick, by) in {(nick, user) for _, _, _, nick, _, user in texts}


def test_the_search_has_all_texts(export: Export, tmp_path: Path) -> None:
    export(tmp_path / "out", "html")
    shards = [
        data.decode() for name, data in content(tmp_path / "out").items() if "search/" in name
    ]
    assert all(data.startswith("archive([") and data.endswith("]);\n") for data in shards)
    assert any("elsewhere" in data for data in shards)
    assert sum(data.count("x" * 9000) for data in shards) == 1
    assert HOSTILE[0].split(" ")[0] in "".join(shards)


def test_the_search_has_every_message_by_whoever_is_said_to_have_sent_it(
    pages: dict[Path, Any], archive_url: str
) -> None:
    (home,) = [page.parent for page in pages if page.name == "search.html"]
    listed = (home / "assets/shards.js").read_bytes().partition(b" = ")[2].removesuffix(b";\n")
    found = {}
    shards = json.loads(listed)
    for shard in shards:
        data = (home / unquote(shard["data"])).read_text(encoding="utf-8")
        for id_, _, _, sender, text, _ in json.loads(data[len("archive(") : -len(");\n")]):
            found[shard["flow"], id_] = sender, text
    senders = {
        (f"acme/{unquote(page.parent.name)}", int(article.get("id")[2:])): article.find(
            f".//{SPACE}b"
        ).text
        for page, article in elements(pages, "article")
        if page.parent.parent.name == "acme"
    }
    assert found.keys() == {(row["flow"], row["id"]) for row in rows(archive_url)}
    assert {key: found[key][0] for key in senders} == senders
    assert found["acme/main", 20][1] == 'a"<b>.png'
    months = list(dict.fromkeys(shard["month"] for shard in shards))
    assert months == ["2020-01", "2019-07", "2019-06", "undated"]


def test_the_same_archive_makes_the_same_pages(export: Export, tmp_path: Path) -> None:
    export(tmp_path / "one", "html")
    export(tmp_path / "two", "html")
    assert content(tmp_path / "one") == content(tmp_path / "two")
