"""``archiver search``: what is found, as shown to people and to programs."""

import asyncio
import csv
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from archiver.cli.main import run
from archiver.cli.searching.finding import refresh
from archiver.cli.searching.forms import read_cursor, write_cursor
from archiver.cli.searching.marking import _folded, _spaced
from archiver.domain.query_text import fold, space
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.store.connection import Engine
from archiver.store.engine import connect
from archiver.store.search import Hit
from archiver.store.search_queue import ONE_AT_A_TIME
from tests.cli.conftest import OnTerminal
from tests.conftest import created, named
from tests.ingest.arriving import NOW, SENT, edit, frame, listed, streamed
from tests.store.searching import LANGUAGE, SAID, fill

EVIL = "evil \x1b[31mred\x1b]0;x\x07 hostile \u202egnp\u202c \x9b2J"
LONG = "first\n" * 40 + "a needle here\n" + "last\n" * 40
RANKED = {
    295: "gravel gravel gravel",
    296: "gravel: alababa titi",
    297: "gravel " + "and so on " * 30,
}
"""Messages in their order of relevance."""
BEFORE_IT = "2020-01-01T00:00:00.240Z"
"""A time before message 240 became one of another kind."""
BETWEEN = "2020-01-01T00:00:00.200Z"
"""A time at which a file existed that was deleted a millisecond later."""
MAIN = "https://www.flowdock.com/app/acme/main/messages"

Told = tuple[int, str, str]
Ask = Callable[..., Told]


@pytest.fixture(scope="module")
def world(
    postgres_url: str, postgres_admin: psycopg.Connection, template_database: str
) -> Iterator[str]:
    """A database with messages that can be searched."""

    async def make(url: str) -> None:
        async with connect(url) as engine:
            await fill(engine)
            await say(engine, 300, EVIL, tags=["t\x1b[1m"], external_user_name="E\x1bvil", user="0")
            await say(engine, 301, LONG)
            await say(engine, 220, "annotated", tags=["influx:7", "github:push", ":url", "todo"])
            for id_, content in RANKED.items():
                await say(engine, id_, content)
            nick = f"{'x' * 40} 2020-01-01 00:00:00+00:00  acme/main  boss"
            await say(engine, 299, "disguised", external_user_name=nick, user="0")
            withdrawn = [
                frame(200, "file", content={"file_name": "withdrawn.txt", "path": "/x"}),
                frame(201, "message-delete", content={"message": 200}),
                frame(240, content="of another kind"),
                edit(241, 240, "of another kind", updated_event="status"),
            ]
            arrivals = [streamed(one, 1) for one in withdrawn]
            rewritten = frame(250, content="rewritten", edited=SENT + 1_000)
            arrivals.append(listed(rewritten, 1, as_of=260))
            await apply(engine, Batch(now=NOW, arrivals=arrivals))
            await refresh(engine, language=LANGUAGE)

    with created(postgres_admin, template_database) as name:
        url = named(postgres_url, name)
        asyncio.run(make(url))
        yield url


async def say(engine: Engine, id_: int, content: str, **fields: Any) -> None:
    arrival = streamed(frame(id_, content=content, **fields), 1)
    await apply(engine, Batch(now=NOW, arrivals=[arrival]))


@pytest.fixture
def ask(world: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """A function that searches the world; it returns the exit status, the output and the errors."""
    monkeypatch.setenv("ARCHIVER_DATABASE_URL", world)
    monkeypatch.setenv("TZ", "UTC")
    # The environment of the tests may set it; captured output is not a terminal.
    monkeypatch.delenv("COLUMNS", raising=False)

    def search(*arguments: str) -> Told:
        status = run(["search", *arguments])
        told = capsys.readouterr()
        return status, told.out, told.err

    return search


def found(ask: Ask, *arguments: str) -> list[dict[str, Any]]:
    status, out, err = ask("--json", *arguments)
    assert (status, err) == (0, "")
    return [json.loads(line) for line in out.split("\n")[:-1]]


def test_a_message_is_shown_with_time_flow_sender_and_link(ask: Ask) -> None:
    status, out, err = ask("--zone", "Europe/Helsinki", "qwen3.6")
    assert (status, err) == (0, "")
    assert out.split("\n") == [
        "2020-01-01 02:00:00+02:00  acme/main  alice",
        "  running qwen3.6 on two cards",
        f"  {MAIN}/7",
        "",
        "1 message; nothing older was found",
        "",
    ]


@pytest.mark.parametrize("path", ["f3750e75-a8a3", "acme/main@f3750e75-a8a3"])
def test_of_a_flow_that_does_not_go_by_its_path_no_place_at_flowdock_is_told(
    ask: Ask, world: str, path: str
) -> None:
    rename = "UPDATE store.flows SET path = %s WHERE path = %s"
    with psycopg.connect(world, autocommit=True) as db:
        assert db.execute(rename, (path, "acme/main")).rowcount == 1
        try:
            _, told, _ = ask("qwen3.6")
            (as_json,) = found(ask, "qwen3.6")
        finally:
            db.execute(rename, ("acme/main", path))
    assert told.split("\n")[2] == "  id 7"
    assert (as_json["flow"], as_json["link"]) == (path, None)


def test_words_of_a_query_need_no_quotes_in_a_shell(ask: Ask) -> None:
    assert [one["id"] for one in found(ask, "roll", "back")] == [24, 23, 2]
    assert [one["id"] for one in found(ask, "--", "-thing", "roll", "back")] == [23, 2]


def test_values_may_stand_in_single_quotes(ask: Ask) -> None:
    assert found(ask, "in:'acme/*' roll") == found(ask, "in:acme/* roll") != []


def test_the_newest_come_first_and_pages_follow_without_a_hole(ask: Ask) -> None:
    whole = [one["id"] for one in found(ask, "--limit", "500", "in:acme/main")]
    assert len(whole) > 50
    assert whole[:3] == [301, 300, 299]
    ids: list[Any] = []
    more: list[str] = []
    while len(ids) < len(whole):
        page = found(ask, "--limit", "15", *more, "in:acme/main")
        ids += [one["id"] for one in page]
        more = ["--cursor", str(page[-1]["cursor"])]
    assert ids == whole


def test_the_last_line_tells_how_to_go_on(ask: Ask) -> None:
    _, out, _ = ask("--limit", "2", "kubernetes")
    told, _, cursor = out.split("\n")[-2].rpartition(" ")
    assert told == "2 messages; for older ones, add: --cursor"
    _, out, _ = ask("--cursor", cursor, "kubernetes")
    assert out.split("\n")[-2] == "2 messages; nothing older was found"


def test_neighbours_of_the_flow_are_shown_around(ask: Ask) -> None:
    _, out, _ = ask("-C", "1", "qwen3.6")
    assert out.split("\n")[1:5] == [
        "┊ 00:00:00 alice: нужно обновить документацию, ещё раз",
        "▌ running qwen3.6 on two cards",
        "┊ 00:00:00 alice: qwen3.60 is another thing, and so is qwen3",
        f"  {MAIN}/7",
    ]
    (one,) = found(ask, "-C", "2", "qwen3.6")
    assert [near["id"] for near in one["before"]] == [5, 6]
    assert [near["id"] for near in one["after"]] == [8, 9]


def test_a_neighbour_that_was_deleted_is_told_to_be(ask: Ask) -> None:
    _, out, _ = ask("-C", "1", "id:46")
    assert "┊ 00:00:00 alice: deleted\n" in out
    _, out, _ = ask("-C", "1", "id:148")
    assert "┊ 00:00:00 alice: deleted: withdrawn.txt\n" in out


def test_neighbours_in_the_past_are_those_of_then(ask: Ask) -> None:
    (one,) = found(ask, "--as-of", "2020-01-01T00:00:00.100Z", "-C", "2", '"long word"')
    assert [(near["id"], near["content"], near["deleted"]) for near in one["after"]] == [
        (46, SAID[46], False),
        (47, SAID[47], False),
    ]
    (one,) = found(ask, "--as-of", "2020-01-01T00:00:00.046Z", "-C", "2", '"long word"')
    assert [near["id"] for near in one["before"]] == [43, 44]
    assert [near["id"] for near in one["after"]] == [46]


def test_of_a_neighbour_in_the_past_nothing_is_made_up(ask: Ask) -> None:
    then = ["--as-of", "2020-01-01T00:00:00.297Z", "-C", "1", "id:295"]
    (one,) = found(ask, *then)
    assert [(near["id"], near["content"]) for near in one["before"]] == [(250, None)]
    assert "┊ 00:00:00 alice: (not known)\n" in ask(*then)[1]


def test_what_was_edited_away_or_deleted_is_told(ask: Ask) -> None:
    _, out, _ = ask("history:yes", "hunter2")
    assert "alice  said before it was edited\n  the password was hunter2\n" in out
    assert "  now: the password was removed\n" in out
    _, out, _ = ask("is:deleted", "removed")
    assert "alice  deleted\n  this message will be removed\n" in out
    _, out, _ = ask("password")
    assert "alice  edited\n  the password was removed\n" in out


async def write_edited(database_url: str, *contents: str) -> None:
    """Fill a searchable archive whose message 400 said "at noon", and then each of *contents*."""
    async with connect(database_url) as engine:
        await fill(engine)
        await say(engine, 400, "at noon")
        for id_, content in enumerate(contents, start=401):
            changed = streamed(edit(id_, 400, content), 1)
            await apply(engine, Batch(now=NOW, arrivals=[changed]))
        await refresh(engine, language=LANGUAGE)


def test_of_what_is_deleted_the_last_text_is_told(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARCHIVER_DATABASE_URL", database_url)
    asyncio.run(write_edited(database_url, "at one", "at noon", ""))
    assert run(["search", "--json", "is:deleted id:400"]) == 0
    assert json.loads(capsys.readouterr().out)["said"] == "at noon"


def test_of_several_texts_that_one_is_told_which_was_found(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARCHIVER_DATABASE_URL", database_url)
    asyncio.run(write_edited(database_url, "at one", "at two", "at noon"))
    for word in ("one", "two"):
        assert run(["search", "--json", f"history:yes id:400 {word}"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["said"], told["content"]) == (f"at {word}", "at noon")


def test_a_search_of_the_past_finds_what_was_said_then(ask: Ask) -> None:
    then = ["--as-of", "2020-01-01T00:00:00.100Z"]
    (one,) = found(ask, *then, "hunter2")
    assert (one["id"], one["content"], one["said"]) == (46, "the password was hunter2", None)
    assert [one["id"] for one in found(ask, *then, '"will be removed"')] == [47]
    assert ask("--as-of", "2020-01-02", "hunter2")[0] == 1
    assert ask("--as-of", "2020-01-01T00:00:00.040Z", "hunter2")[0] == 1
    # The message was rewritten unheard, so nobody knows what it said before.
    before = ["--as-of", "2020-01-01T00:00:00.900Z"]
    assert ask(*before, "rewritten") == ask(*before, "nowhere")
    assert ask("--as-of", "2020-01-02", "rewritten")[0] == 0
    kinds = [found(ask, *past, "id:240")[0]["event"] for past in (["--as-of", BEFORE_IT], [])]
    assert kinds == ["message", "status"]
    whole = [one["id"] for one in found(ask, *then, "the")]
    first = found(ask, *then, "--limit", "2", "the")
    rest = found(ask, *then, "--cursor", str(first[-1]["cursor"]), "the")
    assert [one["id"] for one in [*first, *rest]] == whole


def test_a_search_of_the_past_leaves_out_what_was_deleted_by_then(ask: Ask) -> None:
    assert [one["id"] for one in found(ask, "--as-of", BETWEEN, "withdrawn.txt")] == [200]
    assert ask("--as-of", "2020-01-02", "withdrawn.txt")[0] == 1
    for query in ("is:deleted withdrawn.txt", "history:yes withdrawn.txt"):
        (one,) = found(ask, "--as-of", "2020-01-02", query)
        assert (one["id"], one["deleted_at"] is None) == (200, False)


def test_what_fits_best_comes_first_when_asked_for(ask: Ask) -> None:
    ids = [one["id"] for one in found(ask, "--rank", "roll back")]
    assert sorted(ids) == [2, 23, 24]
    assert ids[-1] == 24, "the words are not beside each other"
    status, _, err = ask("--rank", "--cursor", write_cursor(Hit(NOW, 1, 1)), "x")
    assert status == 2
    assert "--cursor cannot go with it" in err


def test_what_says_it_often_and_little_else_fits_best(ask: Ask) -> None:
    ids = [one["id"] for one in found(ask, "--rank", "gravel OR zzz")]
    assert ids == [*RANKED]
    assert found(ask, "--rank", "id:295 OR id:296"), "of which nothing is marked"


@pytest.mark.parametrize(
    ("query", "marked"),
    [
        ("deploy", ["deployed"]),
        ("RÉSUMÉ cafe", ["café", "résumé"]),
        ("再起動", ["再起動"]),
        ("c++20", ["C++20"]),
        ("foo_ba*", ["foo_ba", "foo_ba"]),
        ("archiver", ["Archiver"]),
        ("id:1 (new OR loy)", ["new"]),
        ("id:44 (t*ing OR t*x)", ["t", "ing"]),
        ("b*()", ["b", "()"]),
        ("git*.com", ["git", ".com"]),
        ("id:1 (the*new OR build)", ["build"]),
        ('id:1 (deploy OR "deploying the")', ["Deploying the"]),
        ("id:295 (gra*vel OR zzz)", ["gravel", "gravel", "gravel"]),
        ("id:296 (a*a*a OR zzz)", ["a", "a", "a"]),
        ("id:296 (t*i OR zzz)", ["t", "i"]),
        ("https://*.com", ["https://", ".com"]),
        ("id:27 (flow OR low)", ["Flow"]),
        ("id:8 (qwen OR wen)", ["qwen", "qwen"]),
        ("grosse*", ["Größe"]),
        ("ガーデン", ["ガーデン", "ｶﾞｰﾃﾞﾝ"]),
        ("zerowidth", ["zero\u200bwidth"]),
        ("👍", ["👍🏽"]),
        ("ligature -zzz", ["ligature"]),
        ("alice OR kubernetes from:bob", ["kubernetes"]),
    ],
)
def test_what_was_searched_is_marked(ask: Ask, query: str, marked: list[str]) -> None:
    one = found(ask, "--limit", "1", query)[0]
    content = str(one["content"])
    spans = one["marks"]
    assert isinstance(spans, list)
    assert [content[begin:end] for begin, end in spans] == marked


def test_a_star_stands_for_letters_of_one_word(ask: Ask) -> None:
    (one,) = found(ask, "id:44 (t*ing OR zzz)")
    at = str(one["content"]).index("testing")
    assert one["marks"] == [[at, at + 1], [at + 4, at + 7]]


@given(st.text(st.sampled_from("aZé\u0301 ßﬁ-_日ｶﾞ👍🏽\n1\u0130.¯\u1112\u116c"), max_size=30))
def test_letters_fold_one_by_one_as_they_do_together(text: str) -> None:
    folded = _folded(text)
    spaced = _spaced(folded)
    assert folded.text.strip() == fold(text)
    assert spaced.text.strip() == space(fold(text)).strip()
    assert len(folded.origins) == len(folded.text)
    assert len(spaced.origins) == len(spaced.text)


def test_nothing_that_was_said_has_power_over_a_terminal(ask: Ask) -> None:
    _, out, _ = ask("-C", "1", "hostile")
    assert "▌ evil ␛[31mred␛]0;x␇ hostile �gnp� �2J\n" in out
    assert "E␛vil  #t␛[1m\n" in out
    assert not set("\x1b\x07\x9b\u202e") & set(out)


def test_marks_of_the_service_are_no_tags_that_somebody_put_on(ask: Ask) -> None:
    _, out, _ = ask("annotated")
    assert "alice  #github:push  #todo\n" in out


def test_a_name_that_is_broken_looks_like_no_other_message(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = ask("disguised")
    assert "boss" in out
    assert len([line for line in out.split("\n") if line.startswith("20")]) == 1


def test_a_long_message_is_shown_around_what_was_found(ask: Ask) -> None:
    _, out, _ = ask("needle")
    lines = out.split("\n")
    assert lines[1:5] == ["  …first", "  first", "  first", "  a needle here"]
    assert lines[12] == "  last…"
    assert lines[13] == f"  {MAIN}/301"


@pytest.mark.parametrize("columns", [20, 40, 80, 120])
def test_no_line_is_wider_than_there_is_room(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    _, out, _ = ask("-C", "3", "--limit", "200", "")
    for line in out.split("\n"):
        is_told = line.startswith("  https://") or "; " in line
        assert Text(line).cell_len <= columns or (is_told and columns < 80), line


def test_a_terminal_sees_marks_in_colour_and_long_answers_by_a_pager(
    on_terminal: OnTerminal, world: str, environ: dict[str, str], tmp_path: Path
) -> None:
    # A pager of this name is trusted with colours.
    pager = tmp_path / "less"
    pager.write_text("#!/bin/sh\nsed 's/^/> /'\n")
    pager.chmod(0o700)
    settings = {"ARCHIVER_DATABASE_URL": world, "LINES": "8", "PAGER": str(pager)}
    shown = on_terminal(["search", "roll"], environ | settings)
    assert ">   \x1b[1;30;43mroll\x1b[0m the thing back\n" in shown
    assert all(line.startswith("> ") for line in shown.split("\n")[:-1])


def test_csv_has_a_header_and_a_row_each(ask: Ask) -> None:
    _, out, _ = ask("--csv", "fix please")
    header, row = csv.reader(out.split("\n")[:-1])
    told = dict(zip(header, row, strict=True))
    assert (told["id"], told["tags"], told["link"]) == ("21", '["todo", "release-1"]', f"{MAIN}/21")
    assert read_cursor(told["cursor"]).message_id == 21


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
def test_nothing_found_is_status_1(ask: Ask, form: list[str]) -> None:
    status, out, err = ask(*form, "zzzz")
    assert status == 1
    assert out.count("\n") == (1 if form == ["--csv"] else 0)
    assert err == ("" if form else "nothing was found\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["in:acme/mian x"], "there is no flow acme/mian: did you mean acme/main?\n"),
        (["from:nobody x"], "there is no person named nobody"),
        (["x before:nonsense"], "not nonsense\n  x before:nonsense\n           ^"),
        (["(x"], "^"),
        (["half \udcff\udcfe"], "the query is not UTF-8 here\n  half ��\n       ^"),
        (["--as-of", "someday", "x"], "neither a time such as 2w nor a date"),
        (["--zone", "../etc/passwd", "x"], "there is no time zone"),
        (["--zone", "\udcff", "x"], "there is no time zone"),
        (["--cursor", "aaaa", "x"], "is not a whole cursor"),
        (["--cursor", "\udcff", "x"], "is not a whole cursor"),
        (["--json", "--csv", "x"], "exclude each other"),
        (["--limit", "0", "x"], "--limit"),
        ([], "QUERY"),
    ],
)
def test_what_cannot_be_answered_is_status_2(ask: Ask, arguments: list[str], told: str) -> None:
    status, out, err = ask(*arguments)
    assert (status, out) == (2, "")
    assert told in err


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("form:ann", "form: is searched for as a word; did you mean from:?\n"),
        ("-Form:ann x", "Form: is searched for as a word; did you mean from:?\n"),
        ("(x OR -(tags:a)) frm:b", "tags: is … tag:?\nfrm: is … from:?\n"),
        ("mention:ann", "mention: is … mentions:?\n"),
        ("histroy:yes x", "histroy: is … history:?\n"),
        ('"form:ann" std::vector http://form:80 form: form deploy:now at:5', ""),
        ("tag:todo x", ""),
    ],
)
def test_a_filter_that_is_misspelt_is_told_and_searched_for(
    ask: Ask, query: str, told: str
) -> None:
    status, _, err = ask("--json", "--", query)
    assert status in {0, 1}
    assert err == told.replace("…", "searched for as a word; did you mean")


def test_an_archive_that_does_not_answer_in_time_is_told_of(ask: Ask, world: str) -> None:
    with psycopg.connect(world) as db:
        db.execute("LOCK TABLE store.texts")
        status, out, err = ask("--timeout", "0.2", "x")
    assert (status, out) == (2, "")
    assert "did not answer in 0.2 seconds" in err
    assert "--timeout" in err


def test_sql_in_a_query_is_text(ask: Ask) -> None:
    (one,) = found(ask, "SELECT * FROM t WHERE a <> 'b'; -- 50%")
    assert one["id"] == 25


def test_what_cannot_be_found_yet_is_told_until_it_is_refreshed(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def write() -> None:
        async with connect(database_url) as engine:
            await fill(engine)
            await say(engine, 400, "a late message")
            changed = streamed(edit(401, 1, "another late one"), 1)
            await apply(engine, Batch(now=NOW, arrivals=[changed]))

    monkeypatch.setenv("ARCHIVER_DATABASE_URL", database_url)
    asyncio.run(write())
    assert run(["search", "late"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("2 messages written since 20")
    assert told.endswith("cannot be found yet (add --refresh)\nnothing was found\n")
    assert run(["search", "--refresh", "late"]) == 0
    assert capsys.readouterr().err == "2 messages made searchable\n"
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("DROP INDEX store.texts_parts")
    assert run(["search", "dep*"]) == 0
    assert "lacks the extension pg_trgm" in capsys.readouterr().err


def test_who_refreshes_while_another_is_at_it_is_told_to_wait(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def write() -> None:
        async with connect(database_url) as engine:
            await fill(engine)
            await refresh(engine, language=LANGUAGE)
            await say(engine, 400, "a late message")

    monkeypatch.setenv("ARCHIVER_DATABASE_URL", database_url)
    asyncio.run(write())
    with psycopg.connect(database_url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [ONE_AT_A_TIME])
        assert run(["search", "--refresh", "late"]) == 1
        told = capsys.readouterr().err
    assert "cannot be found yet: a daemon or another --refresh is working on it" in told
    assert "(add --refresh)" not in told


def test_an_archive_that_nobody_made_searchable_says_so(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARCHIVER_DATABASE_URL", database_url)
    assert run(["search", "x"]) == 1
    assert "nothing is searchable yet: start archiver run" in capsys.readouterr().err


MOMENTS = st.integers(0, 2**33).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@given(MOMENTS, st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))
def test_a_cursor_is_the_hit_again(at: datetime, flow_key: int, id_: int) -> None:
    hit = Hit(at, flow_key, id_)
    told = write_cursor(hit)
    assert read_cursor(told) == hit
    assert told.isalnum()
    with pytest.raises(ValueError, match="no cursor"):
        read_cursor(told[:-3])


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"])
@pytest.mark.parametrize("form", [(), ("--json",), ("--csv",)])
def test_what_was_said_at_the_ends_of_time_hinders_no_search(
    at_the_ends_of_time: str,
    zone: str,
    form: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ARCHIVER_DATABASE_URL", at_the_ends_of_time)
    assert run(["search", "staging OR timely", "--zone", zone, "-C", "1", *form]) == 0
    told = capsys.readouterr()
    assert "Deploying the new build" in told.out
    assert {"9999-12-31", "0001-01-01"} <= set(re.findall(r"\d{4}-\d\d-\d\d", told.out))
    assert told.err == ""


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"])
@pytest.mark.parametrize(
    ("asked", "found"),
    [("on:9999-12-31", [300]), ("after:9999", [300]), ("before:0002", [301])],
)
def test_the_first_and_the_last_day_of_the_calendar_can_be_asked_for(
    at_the_ends_of_time: str,
    zone: str,
    asked: str,
    found: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ARCHIVER_DATABASE_URL", at_the_ends_of_time)
    assert run(["search", f"timely {asked}", "--zone", zone, "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["id"] for line in lines] == found


@pytest.fixture(scope="module")
def at_the_ends_of_time(
    postgres_url: str, postgres_admin: psycopg.Connection, template_database: str
) -> Iterator[str]:
    """A database with messages of the earliest and the latest times that are possible."""

    async def make(url: str) -> None:
        async with connect(url) as engine:
            await fill(engine)
            for id_, sent in ((300, 253_402_300_799_000), (301, -62_135_596_800_000)):
                await say(engine, id_, "timely", sent=sent)
            await refresh(engine, language=LANGUAGE)

    with created(postgres_admin, template_database) as name:
        url = named(postgres_url, name)
        asyncio.run(make(url))
        yield url
