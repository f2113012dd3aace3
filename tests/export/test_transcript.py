"""Transcripts: whatever a message or a name holds, it is text, on lines of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from archiver.export.messages import Message
from archiver.export.transcript import Markdown, PlainText
from tests.export.conftest import FORGED, Export, content, has_power

PIECES = [
    *("a", " ", "\n", "\r\n", "\u2028", "\x1b[31m", "\u202e", "\t", FORGED, "\n===\n", "\n---\n"),
    *("\n# a", "\n- a", "\n+ a", "\n1. a", "\n01. a", "\n1) a", "\n> a", "\n```\n", "\n[a]: b"),
    *("\n    a", "\n\ta", "\n\n", "<i>", "**", "_", "[a](b)", "![a](b)", "&lt;", "\\", "`", "~~"),
]
texts = st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(max_size=20)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    names = st.none() | texts
    return Message(
        id=1,
        event=draw(texts),
        user_id=draw(names),
        nick=draw(names),
        sent="2019-06-01T00:00:00+00:00",
        content=draw(names),
        tags=draw(st.lists(texts, max_size=2)),
        thread_id=draw(names),
        edited_at=None,
        deleted_at=draw(st.sampled_from([None, "2020-01-01T00:00:00+00:00"])),
        attachments=[{"file_name": draw(names)}],
        reactions={draw(texts): ["1"]},
        app=draw(names),
        external_user_name=draw(names),
    )


def test_what_nobody_said_is_told_by_its_kind() -> None:
    told = {event: said("gone home", event=event) for event in ("message", "comment", "user-edit")}
    assert {event: PlainText().entry(one) for event, one in told.items()} == {
        "message": "[--:--:--] ann: gone home\n",
        "comment": "[--:--:--] ann: gone home\n",
        "user-edit": "[--:--:--] ann (user-edit): gone home\n",
    }
    entry = "- **ann** \\(user\\-edit\\) \\-\\-:\\-\\-:\\-\\- gone home\n"
    assert Markdown().entry(told["user-edit"]) == entry


def said(content: str | None, **fields: str) -> Message:
    nothing = dict.fromkeys(Message.__struct_fields__)
    told = {"id": 1, "event": "message", "nick": "ann", "content": content, **fields}
    return Message(**nothing | told)  # type: ignore[arg-type]


@pytest.mark.parametrize("style", [PlainText(), Markdown()])
def test_what_became_of_a_message_is_nothing_that_can_be_said(style: PlainText) -> None:
    at = "2020-01-01T00:00:00+00:00"
    gone = {"edited_at": at, "deleted_at": at}
    assert style.entry(said("(deleted 2020-01-01 00:00)")) != style.entry(said(None, **gone))
    assert style.entry(said("done (edited)")) != style.entry(said("done", edited_at=at))
    assert style.entry(said("(status) away")) != style.entry(said("away", event="status"))
    assert "deleted 2020" in style.entry(said("one\n\ntwo", **gone)).split("\n")[0]
    assert len(style.entry(said("one\n\ntwo", **gone)).split("\n")) == 4


@given(messages())
def test_the_lines_of_a_message_are_its_own(message: Message) -> None:
    told = PlainText().entry(message)
    assert not any(map(has_power, told))
    first, *more, end = told.split("\n")
    assert first.startswith("[00:00:00] ")
    assert all(line.startswith("    ") for line in more)
    assert end == ""


@given(messages())
def test_a_message_is_one_item_of_a_list_and_no_other_markup(message: Message) -> None:
    told = Markdown().entry(message)
    assert not any(map(has_power, told))
    shown = [one.type for one in walked(MarkdownIt("commonmark").parse(f"{told}- next\n"))]
    assert shown.count("list_item_open") == shown.count("paragraph_open") == 2
    assert shown.count("strong_open") <= 1
    ours = {"bullet_list", "list_item", "paragraph", "strong"}
    marks = {f"{one}_{end}" for one in ours for end in ("open", "close")}
    assert set(shown) <= marks | {"inline", "text", "softbreak", "hardbreak"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "\n  \n", "\u2028"])
@pytest.mark.parametrize("content", ["", "one", "one\n\ntwo", "back\\"])
def test_a_line_end_behind_all_that_is_said_shows_nothing(content: str, end: str) -> None:
    told = Markdown().entry(said(content + end))
    assert told.rstrip() == Markdown().entry(said(content)).rstrip()


def walked(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from walked(token.children or [])


@pytest.mark.parametrize(("style", "start"), [("text", "["), ("markdown", "- **")])
def test_no_name_forges_a_message(forging: Export, tmp_path: Path, style: str, start: str) -> None:
    forging(tmp_path / "out", style, flows=[f"acme/main{FORGED}"])
    (told,) = [data for path, data in content(tmp_path / "out").items() if path.startswith("acme/")]
    lines = told.decode().split("\n")
    assert not any(map(has_power, told.decode()))
    assert len([line for line in lines if line.startswith(start)]) == 4
    # The names of the flow, of the senders of the four, and of a file.
    names = ("main", "nick", "nick", "ext", "app", "file")
    quoted = [line for line in lines if "boss" in line]
    assert len(quoted) == len(names)
    assert all(any(f"{name}⏎" in line for name in names) for line in quoted)
