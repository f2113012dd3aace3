"""Text from chat has no power over the terminal."""

import io
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from archiver.cli.terminal import JOINERS, has_colours, is_terminal, make_safe


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("grüße 日本 👩\u200d👩\u200d👧", "grüße 日本 👩\u200d👩\u200d👧"),
        ("a\nb\r\nc\rd\u2028e\x85f", "a⏎b⏎c⏎d⏎e⏎f"),
        ("\x1b[31mred\x07\x7f\x00", "␛[31mred␇␡␀"),
        ("\x9b2J", "\ufffd2J"),
        ("abc\u202edcba\u2066x\u200f", "abc\ufffddcba\ufffdx\ufffd"),
        ("half \ud800", "half \ufffd"),
        ("a\tb", "a␉b"),
    ],
)
def test_text_is_made_safe(text: str, shown: str) -> None:
    assert make_safe(text) == shown


@given(st.text())
def test_safe_text_is_printable_on_one_line_and_stays_so(text: str) -> None:
    shown = make_safe(text)
    assert all(
        letter.isprintable() or letter in JOINERS or category(letter) == "Zs" for letter in shown
    )
    assert len(shown.splitlines()) <= 1
    assert make_safe(shown) == shown
    shown.encode()


class Terminal(io.StringIO):
    @override
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "coloured"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colours_are_for_terminals_whose_owner_wants_them(
    stream: io.StringIO,
    environ: dict[str, str],
    coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert has_colours(stream) is coloured
    assert is_terminal(stream) is isinstance(stream, Terminal)
