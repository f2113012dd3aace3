"""The demonstration's findings are told in words, and as JSON."""

import json
from dataclasses import replace
from typing import Any

import pytest

from archiver.cli.demonstration.comparison import Difference
from archiver.cli.demonstration.verdict import Verdict, describe, summarize


def verdict(*, differences: int = 0, gaps_left: int = 0, disconnections: int = 1) -> Verdict:
    planted = Difference(flow="acme/main", id="7", field="content", expected="a", found="\x1b[31m")
    return Verdict(
        differences=(planted,) * differences,
        flows=1,
        conversations=0,
        events=9,
        messages=8,
        threads=7,
        edited=1,
        deleted=1,
        files=2,
        gaps_left=gaps_left,
        gaps_closed=3,
        disconnections=disconnections,
        seconds=1.0,
    )


@pytest.mark.parametrize(
    ("found", "equal", "good"),
    [
        (verdict(), True, True),
        (verdict(differences=1), False, False),
        (verdict(gaps_left=1), False, False),
        (verdict(disconnections=0), True, False),
    ],
)
def test_only_an_archive_that_was_put_to_the_test_is_good(
    found: Verdict, equal: bool, good: bool
) -> None:
    assert summarize(found)["equal"] is equal
    assert found.is_good is good


def test_differences_are_spelt_out_and_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    describe(verdict(differences=30))
    told = capsys.readouterr().out
    assert "The archive differs from the truth in 30 values." in told
    assert "acme/main 7: content is " in told
    assert "… and 10 more" in told
    assert "\x1b[31m," not in told
    assert json.loads(json.dumps(summarize(verdict(differences=30))))["differences"] == 30


def test_one_of_a_thing_is_no_plural(capsys: pytest.CaptureFixture[str]) -> None:
    describe(replace(verdict(gaps_left=1), conversations=1, threads=1, messages=1))
    told = capsys.readouterr().out
    assert "compared  1 message, of which" in told
    assert "and 1 thread in 1 flow and 1 private conversation," in told
    assert "cut off   1 time, for" in told
    assert "cannot prove it: 1 gap." in told


def test_the_verdict_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "archiver.cli.demonstration.verdict.command_name", lambda: ".venv/bin/archiver"
    )
    most: dict[str, Any] = {"messages": 1_234_567, "edited": 123_456, "deleted": 98_765}
    for disconnections in (0, 1):
        one = verdict(gaps_left=12, disconnections=disconnections)
        describe(
            replace(one, flows=200, conversations=199, events=9_876_543, **most, threads=123_456)
        )
    assert max(map(len, capsys.readouterr().out.split("\n"))) <= 80
