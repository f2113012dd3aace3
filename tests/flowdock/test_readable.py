"""What people can read of each kind of message."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.flowdock.envelope import Envelope
from archiver.flowdock.markup import plain_text
from archiver.flowdock.readable import MAX_TEXT_LENGTH, detail_of, sender_of, text_of

FILE = {"file_name": "plan.pdf", "file_size": 20480}


@pytest.mark.parametrize(
    ("kind", "content", "text"),
    [
        ("message", "Good morning", "Good morning"),
        ("message", " kept  as\nit is ", " kept  as\nit is "),
        ("message", "", ""),
        ("message", None, ""),
        ("message", 7, "7"),
        ("message", {"text": "odd"}, "odd"),
        ("status", "at lunch", "at lunch"),
        ("line", "waves", "waves"),
        ("comment", {"title": "Parent", "text": "Agreed"}, "Agreed"),
        ("comment", {"title": "Parent", "text": None}, ""),
        ("comment", "Agreed", "Agreed"),
        ("file", FILE, "plan.pdf"),
        ("file", {}, ""),
        ("user-edit", {"user": {"id": 31, "nick": "Ada"}}, "Ada"),
        ("action", {"type": "add_people", "description": "Ada, Bo"}, "add people: Ada, Bo"),
        ("action", {"type": "add_people", "message": ["Ada", "Bo"]}, "add people: Ada, Bo"),
        ("action", {"type": "block", "description": {"user": 31}}, "block: 31"),
        ("action", {"type": "invite", "description": {"email": "a@b.c"}}, "invite: a@b.c"),
        ("action", {"type": "invite", "recipient_email": "a@b.c"}, "invite: a@b.c"),
        ("action", {"type": "join", "id": "abc"}, "join"),
        ("action", {}, ""),
        ("action", [], ""),
        ("mail", {"subject": "S", "content": "a", "contentType": "text/plain"}, "S\na"),
        ("mail", {"subject": "S", "content": "<p>a</p>", "contentType": "text/HTML"}, "S\na"),
        ("mail", {"subject": "S", "content": [{"content": "a"}, {"content": "b"}]}, "S\na\nb"),
        ("mail", {"subject": None, "content": None}, ""),
        ("mail", {"content": ["<p>a</p>", "b<br>c"], "contentType": "text/html"}, "a\nb\nc"),
        ("rss", {"title": "Out", "content": "It is"}, "Out\nIt is"),
        ("rss", {"title": "Out", "url": "no", "text": 7, "body": ["no"]}, "Out"),
        ("twitter", {"text": "hi", "user": {"name": "Bo", "description": "no"}}, "hi"),
        ("vcs", {"commits": [{"message": "Fix"}, {"message": "it"}], "ref": "r"}, "r\nFix\nit"),
        ("vcs", {"pull_request": {"title": "T", "body": "B"}, "sender": {"name": "no"}}, "T\nB"),
        ("jira", {"issue_summary": "Broken", "issue_key": "T-1"}, "Broken\nT-1"),
        ("svn", {"message": "Fix", "author": {"name": "no"}}, "Fix"),
        ("zendesk", {"message": "m", "title": "t", "description": "m"}, "t\nm"),
        ("uservoice", {"comment": {"text": "c", "suggestion": {"title": "s"}}}, "s\nc"),
        ("never-heard-of", [{"text": "a"}, 7, "b"], "a"),
    ],
)
def test_each_kind_has_its_text(kind: str, content: Any, text: str) -> None:
    assert text_of(kind, Envelope(content=content)) == text


@pytest.mark.parametrize("content", [None, 7, [], ["a"], {}, {"user": "a"}], ids=repr)
@pytest.mark.parametrize("kind", ["comment", "file", "user-edit"])
def test_what_is_of_another_shape_than_its_kind_has_no_text(kind: str, content: Any) -> None:
    assert text_of(kind, Envelope(content=content)) == ""


@pytest.mark.parametrize("kind", ["mail", "action"])
def test_mails_and_actions_of_another_shape_are_free_form(kind: str) -> None:
    assert text_of(kind, Envelope(content=[{"text": "a"}])) == "a"


@pytest.mark.parametrize("kind", ["activity", "discussion"])
def test_activities_are_a_title_and_a_body_in_html(kind: str) -> None:
    body = Envelope(
        title='opened <a href="https://tracker.example/7">#7</a>',
        body="<p>It sticks &amp; squeaks</p><p>badly</p>",
        author={"name": "Bo"},
    )

    assert text_of(kind, body) == "opened #7\nIt sticks & squeaks\nbadly"
    assert detail_of(kind, body) == {"title": body.title, "body": body.body, "author": body.author}
    assert text_of(kind, Envelope(title=7, body=None)) == ""


@pytest.mark.parametrize(
    ("kind", "body", "sender"),
    [
        ("activity", Envelope(author={"name": "Bo", "email": "bo@a.example"}), "Bo"),
        ("discussion", Envelope(author={"name": "Bo"}), "Bo"),
        ("discussion", Envelope(author={"name": "Bo"}, external_user_name="Robot"), "Robot"),
        ("discussion", Envelope(author={"name": None}), None),
        ("activity", Envelope(author="Bo"), None),
        ("activity", Envelope(), None),
        ("message", Envelope(external_user_name="Robot"), "Robot"),
        ("message", Envelope(external_user_name=7), None),
        ("vcs", Envelope(author={"name": "Bo"}), None),
    ],
)
def test_an_activity_is_of_its_author_and_anything_else_of_who_it_says(
    kind: str, body: Envelope, sender: str | None
) -> None:
    assert sender_of(kind, body) == sender


@pytest.mark.parametrize(
    ("kind", "content", "detail"),
    [
        ("message", "text", None),
        ("message", None, None),
        ("message", {"text": "odd"}, {"text": "odd"}),
        ("comment", {"title": "Parent", "text": "Agreed"}, {"title": "Parent"}),
        ("file", FILE, FILE),
        ("rss", {"title": "Out"}, {"title": "Out"}),
        ("never-heard-of", [1], [1]),
    ],
)
def test_what_is_beside_the_text_is_kept(kind: str, content: Any, detail: Any) -> None:
    assert detail_of(kind, Envelope(content=content)) == detail


@pytest.mark.parametrize("kind", ["rss", "mail", "activity", "action"])
def test_derived_text_is_bounded(kind: str) -> None:
    long = "x" * (MAX_TEXT_LENGTH - 10)
    names = ["title", "content", "subject", "description", "type"]
    content = {name: name + long for name in names}
    body = Envelope(title=long, body=long, content=content)

    assert len(text_of(kind, body)) == MAX_TEXT_LENGTH


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("action", {"description": "x" * MAX_TEXT_LENGTH * 2}),
        ("file", {"file_name": "x" * MAX_TEXT_LENGTH * 2}),
        ("never-heard-of", {"text": "x" * MAX_TEXT_LENGTH * 2}),
    ],
)
def test_text_of_a_single_field_is_bounded_but_for_what_people_write(
    kind: str, content: Any
) -> None:
    assert len(text_of(kind, Envelope(content=content))) == MAX_TEXT_LENGTH
    written = "x" * MAX_TEXT_LENGTH * 2
    assert text_of("comment", Envelope(content={"text": written})) == written
    assert text_of("message", Envelope(content=written)) == written


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<ul><li>a</li> <li>b</li></ul>", "a\nb"),
        ("<b>a</b>c &lt;d&gt;", "ac <d>"),
        ("a < b > c <3", "a < b > c <3"),
        ("a <!-- not shown --> b", "a b"),
        ("<style>p {}</style><script>x()</script>a", "a"),
        ("<P CLASS='x'>a", "a"),
        ("&#" + "9" * 5000 + ";", "&#" + "9" * 5000 + ";"),
        ("&#0;&#xD800;", "\ufffd\ufffd"),
    ],
)
def test_markup_becomes_what_a_person_would_read(markup: str, text: str) -> None:
    assert plain_text(markup) == text


@given(st.text("<>/!?- abp&#x;0='\"\n"))
def test_no_markup_raises(markup: str) -> None:
    plain_text(markup).encode()


@pytest.mark.parametrize(
    "piece", ["<", "<a ", "<a b='", "<!--", "</", "&#", "<script>", "<a\n", "a"]
)
def test_no_markup_takes_long(piece: str) -> None:
    began = time.process_time()
    plain_text("<" + piece * (MAX_TEXT_LENGTH // len(piece)))

    assert time.process_time() - began < 0.5
