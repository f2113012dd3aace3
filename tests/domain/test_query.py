"""The language of queries: what is understood, what is refused and where, and its laws."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.domain.query import (
    QUOTES,
    SINGLE_QUOTES,
    All,
    BadQuery,
    Either,
    Filter,
    Not,
    Query,
    Text,
    show,
    texts,
)
from archiver.domain.query_parsing import parse
from archiver.domain.query_time import FIRST, LAST, Ago, read_moment, span


def said(*words: str) -> tuple[Text, ...]:
    return tuple(map(Text, words))


A, B, C = said("a", "b", "c")


@pytest.mark.parametrize(
    ("source", "root"),
    [
        ("", None),
        (" \u3000\n", None),
        ("a", A),
        ("a b", All((A, B))),
        ("a AND b", All((A, B))),
        ("a OR b c", Either((A, All((B, C))))),
        ("a OR (b OR c)", Either((A, B, C))),
        ("(a OR b) c", All((Either((A, B)), C))),
        ("a (b c)", All((A, B, C))),
        ("((a))", A),
        ("-a", Not(A)),
        ("-(a b)", Not(All((A, B)))),
        ("-(-a)", A),
        ('"roll back"', Text("roll back", is_exact=True)),
        ("“roll back”", Text("roll back", is_exact=True)),
        (r'"a \"b\" \\ \n"', Text(r'a "b" \ \n', is_exact=True)),
        ('-"a b" c', All((Not(Text("a b", is_exact=True)), C))),
        ('"a"b', All((Text("a", is_exact=True), B))),
        ("or and Or", All(said("or", "and", "Or"))),
        # What is not syntax is taken literally.
        ("foo_bar()", Text("foo_bar()")),
        ("(foo_bar() OR a)", Either((Text("foo_bar()"), A))),
        ("f(g(x))", Text("f(g(x))")),
        (":)", Text(":)")),
        ("std::vector<int>", Text("std::vector<int>")),
        ("https://example.com/a?b=c", Text("https://example.com/a?b=c")),
        ("--force", Text("--force")),
        ("a - b", All(said("a", "-", "b"))),
        ("C++20 qwen3.6 #todo @all 👍", All(said("C++20", "qwen3.6", "#todo", "@all", "👍"))),
        ("it's", Text("it's")),
        ("SELECT * FROM x; --", All(said("SELECT", "*", "FROM", "x;", "--"))),
        ("再起動しました", Text("再起動しました")),
        # Filters.
        ("from:alice", Filter("from", "alice")),
        ("From:@alice", Filter("from", "alice")),
        ('from:"Jane Doe"', Filter("from", "Jane Doe")),
        ("in:'acme/*' a", All((Filter("in", "acme/*"), A))),
        ("-from:'Anna Virtanen'", Not(Filter("from", "Anna Virtanen"))),
        ("from:\u2018Anna Virtanen\u2019", Filter("from", "Anna Virtanen")),
        ("(from:'Jane (Doe)' OR a)", Either((Filter("from", "Jane (Doe)"), A))),
        ("from:'O'Brien' a", All((Filter("from", "O'Brien"), A))),
        # A single quote without a second one is an apostrophe; within a word it always is.
        ("from:O'Brien", Filter("from", "O'Brien")),
        ("from:'tis a", All((Filter("from", "'tis"), A))),
        ("from:'a b)", All((Filter("from", "'a"), Text("b)")))),
        ("from:x's a'", All((Filter("from", "x's"), Text("a'")))),
        ("don't 'roll back'", All(said("don't", "'roll", "back'"))),
        ("-in:acme/*", Not(Filter("in", "acme/*"))),
        ("tag:#todo", Filter("tag", "todo")),
        ("has:Files", Filter("has", "file")),
        ("is:PRIVATE", Filter("is", "private")),
        ("id:007", Filter("id", "7")),
        ("before:2w", Filter("before", "2w")),
        ("on:Yesterday", Filter("on", "yesterday")),
        ("event:file OR thread:x", Either((Filter("event", "file"), Filter("thread", "x")))),
        ("(from:alice)", Filter("from", "alice")),
        ("form:alice", Text("form:alice")),
    ],
)
def test_a_query_is_understood(source: str, root: object) -> None:
    assert parse(source) == Query(root)  # type: ignore[arg-type]


def test_history_is_about_the_whole_query() -> None:
    assert parse("history:yes a") == parse("a HISTORY:Yes") == Query(A, history=True)
    assert parse("a OR b history:yes").history
    assert not parse("a history:no").history
    assert show(parse("history:yes a")) == "a history:yes"


@pytest.mark.parametrize(
    ("source", "reason", "at"),
    [
        ("a OR", "both sides", 2),
        ("OR a", "both sides", 0),
        ("a OR OR b", "both sides", 2),
        ("a AND", "both sides", 2),
        ("-OR a", "both sides", 1),
        ("(a OR b", "parenthesis is not closed", 0),
        ("a ()", "there is nothing between the parentheses", 2),
        ('a "b', "quote is not closed", 2),
        ('a ""', "there is nothing between the quotes", 2),
        ("from:", "needs a nick", 5),
        ("from:''", "needs a nick", 5),
        ("a has:'x y'", "one of file, link.*not x y", 6),
        ("a has:cheese", "one of file, link", 6),
        ("is:gone", "one of deleted", 3),
        ("before:tomorrow", "2024-05-31", 7),
        ("on:2024-02-30", "2024-05", 3),
        # Nothing is sent at an exact moment, or exactly so long ago to the microsecond.
        ("on:2w", "a day, a month or a year", 3),
        ("-on:2024-05-31T10:00", "a day, a month or a year", 4),
        ("id:x", "number", 3),
        ("id:99999999999999999999", "number", 3),
        ("(history:yes a)", "whole query", 1),
        ("-history:yes", "whole query", 1),
        ("history:maybe", "yes or no", 0),
        ("a \udcff", "not UTF-8", 2),
        ("a\0", "NUL", 1),
        ("(" * 31 + "a" + ")" * 31, "nested at most 30", 30),
        ("a" * 4001, "4,000", 4000),
        ("a " * 201, "200 terms", 400),
        ('has:"x\ny"', "not x y", 4),
    ],
)
def test_what_is_wrong_is_shown_where_it_stands(source: str, reason: str, at: int) -> None:
    with pytest.raises(BadQuery, match=reason) as caught:
        parse(source)
    assert caught.value.at == at


def test_the_caret_stands_below_the_place_whatever_stands_before_it() -> None:
    with pytest.raises(BadQuery) as caught:
        parse("再\te\u0301 has:x")
    assert str(caught.value).split("\n") == [
        "has: needs one of file, link, edit, reaction, thread, not x",
        "  再 e\u0301 has:x",
        "           ^",
    ]
    with pytest.raises(BadQuery) as caught:
        parse("long " * 30 + "has:x")
    _, shown, caret = str(caught.value).split("\n")
    assert shown[caret.index("^")] == "x"
    assert len(shown) < 80


PIECES = [
    *(
        "a",
        "foo_bar()",
        "C++20",
        '"b c"',
        '"\\""',
        "(",
        ")",
        "-",
        "--x",
        "OR",
        "AND",
        " ",
        " ",
        " ",
    ),
    *(
        "from:x",
        'in:"a b"',
        "has:file",
        "on:2024",
        "id:7",
        "history:yes",
        ":",
        "*",
        "👍",
        "日本",
        "'",
        "\u2019",
        "from:'",
        "in:'a b'",
    ),
    *("before:2w", "“", "\u2028", "\\", "tag:#", "is:edited", "-(", "thread:a(b)", "))", "e\u0301"),
]
anything = st.text(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def understood(source: str) -> Query | BadQuery:
    try:
        return parse(source)
    except BadQuery as refused:
        return refused


@given(anything)
def test_whatever_is_asked_is_understood_or_refused_at_a_place_inside_it(source: str) -> None:
    found = understood(source)
    if isinstance(found, BadQuery):
        assert 0 <= found.at <= len(source)
        assert str(found).count("\n") == 2
        return
    assert parse(show(found)) == found
    for text in texts(found.root):
        assert source[text.at :].startswith(text.text) or text.is_exact


unquoted = st.text(
    st.characters(exclude_characters=f"\0\\{QUOTES}{SINGLE_QUOTES}", exclude_categories=["Cs"])
)


@given(
    unquoted.filter(lambda text: text.strip().removeprefix("@")),
    st.sampled_from(["", " a", "\u3000-b"]),
)
def test_a_value_in_single_quotes_is_that_in_double_ones(value: str, more: str) -> None:
    assert parse(f"from:'{value}'{more}") == parse(f'from:"{value}"{more}')


@given(st.text().filter(lambda text: ":" not in text))
def test_single_quotes_are_letters_of_words(text: str) -> None:
    found = understood(text)
    if not isinstance(found, BadQuery):
        other = understood(text.replace("'", "x"))
        assert isinstance(other, Query)
        assert [one.text.replace("'", "x") for one in texts(found.root)] == [
            one.text for one in texts(other.root)
        ]


def test_only_what_a_message_must_say_counts_as_its_text() -> None:
    assert texts(parse("a -b (c OR from:x)").root) == (A, C)


NOW = datetime(2024, 5, 31, 12, 30, tzinfo=timezone(timedelta(hours=3)))


def in_helsinki(at: datetime) -> datetime:
    return at.replace(tzinfo=ZoneInfo("Europe/Helsinki"))


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("2w", "2024-05-17T09:30", "2024-05-17T09:30"),
        ("90m", "2024-05-31T08:00", "2024-05-31T08:00"),
        ("2h", "2024-05-31T07:30", "2024-05-31T07:30"),
        ("3d", "2024-05-28T09:30", "2024-05-28T09:30"),
        ("1y", "2023-06-01T09:30", "2023-06-01T09:30"),
        ("100y", "1924-06-25T09:30", "1924-06-25T09:30"),
        ("36500d", "1924-06-25T09:30", "1924-06-25T09:30"),
        ("today", "2024-05-30T21:00", "2024-05-31T21:00"),
        ("yesterday", "2024-05-29T21:00", "2024-05-30T21:00"),
        ("2024", "2023-12-31T22:00", "2024-12-31T22:00"),
        ("2024-03", "2024-02-29T22:00", "2024-03-31T21:00"),
        ("2024/1/5", "2024-01-04T22:00", "2024-01-05T22:00"),
        ("2024-12", "2024-11-30T22:00", "2024-12-31T22:00"),
        ("2023-02", "2023-01-31T22:00", "2023-02-28T22:00"),
        ("2024-03-31", "2024-03-30T22:00", "2024-03-31T21:00"),
        ("2024-05-31t10:00", "2024-05-31T07:00", "2024-05-31T07:00"),
        ("2024-05-31t10:00z", "2024-05-31T10:00", "2024-05-31T10:00"),
    ],
)
def test_a_time_is_a_span_on_the_readers_clock(text: str, begin: str, end: str) -> None:
    moment = read_moment(text)
    assert moment is not None
    found = span(moment, now=NOW, localize=in_helsinki)
    assert found == tuple(datetime.fromisoformat(one).replace(tzinfo=UTC) for one in (begin, end))


@pytest.mark.parametrize("hours", [-12, 0, 14])
@pytest.mark.parametrize("text", ["9999", "9999-12", "9999-12-31", "0001", "0001-01", "0001-01-01"])
def test_what_no_clock_reaches_ends_with_the_calendar(text: str, hours: int) -> None:
    zone = timezone(timedelta(hours=hours))
    moment = read_moment(text)
    assert moment is not None
    begin, end = span(moment, now=NOW, localize=lambda at: at.replace(tzinfo=zone))
    assert begin < end
    if text.startswith("9999"):
        assert end == LAST
    else:
        assert begin == FIRST + timedelta(hours=max(0, -hours))


def test_so_long_ago_is_so_long_although_the_clock_was_changed() -> None:
    at = datetime(2024, 10, 27, 1, 30, tzinfo=UTC)
    now = at.astimezone(ZoneInfo("Europe/Helsinki"))
    assert span(Ago(timedelta(hours=2)), now=now, localize=in_helsinki)[0] == at - timedelta(
        hours=2
    )


@pytest.mark.parametrize(
    ("text", "is_known"),
    [
        *[(first, True) for first in ("0001", "0001-01-01", "0001-01-01t00:00")],
        *[(last, True) for last in ("9999", "9999-12-31", "9999-12-31t23:59")],
        *[(none, False) for none in ("0000", "0000-12-31", "10000")],
        *[(none, False) for none in ("101y", "36501d", "2024-13", "20240531", "2024-05-31t10")],
    ],
)
def test_a_time_is_one_of_the_calendar(text: str, is_known: bool) -> None:
    assert (read_moment(text) is not None) == is_known


@given(
    st.text(max_size=20)
    | st.from_regex(r"[0-9]{1,9}[mhdwy]|[0-9]{4}[-/][0-9]{1,2}", fullmatch=True)
)
def test_whatever_is_called_a_time_has_a_span_or_is_none(text: str) -> None:
    if moment := read_moment(text):
        begin, end = span(moment, now=NOW, localize=in_helsinki)
        assert begin <= end
