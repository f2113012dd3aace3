"""Logs: one record is one line, readable, and without secrets."""

import io
import json
import logging
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Literal

import psycopg
import pytest

from archiver import logs
from archiver.errors import ArchiverError
from archiver.logs.repeating import FIRST, REMEMBERED, Repetitions

log = logging.getLogger("archiver.test")
Format = Literal["console", "json"]
TOKEN = 'tok"en/with spécial%marker'


def configured(
    format_: Format = "console", *, level: str = "info", colours: bool = False
) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(
        level=level, format=format_, stream=stream, colours=colours, secrets=[TOKEN, "a"]
    )
    return stream


def test_a_console_line_has_time_level_phrase_and_keys() -> None:
    stream = configured()
    log.info("page stored", extra={"flow": "acme/main", "messages": 3, "reason": "two words"})
    time, line = stream.getvalue()[:20], stream.getvalue()[21:]
    assert time.endswith("Z")
    assert line == "info     page stored flow=acme/main messages=3 reason='two words'\n"


def test_a_list_is_told_without_its_brackets() -> None:
    stream = configured()
    log.info("daemon gone", extra={"daemons": ["vm:1", "vm:2"], "hostile": ["a\nb"]})
    assert stream.getvalue().endswith(" daemons=vm:1,vm:2 hostile='a\\nb'\n")


def test_a_json_line_is_one_object_whose_own_keys_keep_their_sense() -> None:
    stream = configured("json")
    log.warning("stream cut", extra={"flow": "ü/x", "level": "mine", "path": object})
    line = json.loads(stream.getvalue())
    assert (line["message"], line["level"], line["logger"]) == ("stream cut", "warning", log.name)
    assert (line["flow"], line["level_"], line["path"]) == ("ü/x", "mine", "<class 'object'>")
    assert line["time"].endswith("+00:00")


@pytest.mark.parametrize("format_", ["console", "json"])
def test_what_chat_says_cannot_forge_a_line(format_: Format) -> None:
    stream = configured(format_)
    log.info("got %s", "a\nb\x1b[2J", extra={"nick": "x\n2026 info forged\u202e\x9b"})
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue()[:-1].isprintable()


@pytest.mark.parametrize("format_", ["console", "json"])
def test_no_secret_is_told_in_any_spelling(format_: Format) -> None:
    stream = configured(format_)
    spelled = f"{TOKEN} {json.dumps(TOKEN)} {TOKEN!r} t=tok%22en/with%20sp%C3%A9cial%25marker"
    error = ValueError(spelled)
    url = f"https://{TOKEN}@api"
    log.error("failed with %s", TOKEN, exc_info=error, extra={"url": url, "token": TOKEN})
    assert "***" in stream.getvalue()
    assert "marker" not in stream.getvalue()
    assert "ValueError" in stream.getvalue()


def test_a_password_in_a_url_is_hidden_even_when_nobody_named_it() -> None:
    stream = configured()
    log.error("lost", extra={"url": "postgresql://ada:un%40named@db/x"})
    log.error("lost", extra={"url": "https://:unnamed@db/x?at=a:b@c"})
    assert "postgresql://ada:***@db/x" in stream.getvalue()
    assert "named@" not in stream.getvalue()


def test_what_is_too_short_for_a_secret_does_not_garble_the_rest() -> None:
    stream = configured()
    log.info("banana")
    assert "banana" in stream.getvalue()


def test_levels_are_ours_and_others_are_told_from_warnings_on() -> None:
    stream = configured(level="debug")
    log.debug("ours")
    logging.getLogger("other").info("not told")
    logging.getLogger("other").warning("told")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("of python", stacklevel=1)
    lines = stream.getvalue().split("\n")
    assert [line[21:].split()[:2] for line in lines[:2]] == [["debug", "ours"], ["warning", "told"]]
    assert "logger=other" in lines[1]
    assert "of python" in lines[2]


def test_what_the_driver_ignores_after_an_error_is_not_told(database_url: str) -> None:
    def fail(connection: psycopg.Connection) -> None:
        with connection.pipeline():
            connection.execute("SELECT 1 / 0")
            raise RuntimeError

    stream = configured()
    with psycopg.connect(database_url) as connection, pytest.raises(RuntimeError):
        fail(connection)
    assert stream.getvalue() == ""


def test_configuring_again_replaces_what_was() -> None:
    first, second = configured(), configured("json", level="error")
    log.info("too low")
    log.error("kept")
    assert first.getvalue() == ""
    assert json.loads(second.getvalue())["message"] == "kept"


def test_colours_come_only_when_asked_for() -> None:
    plain, coloured = configured(), None
    log.warning("x", extra={"k": 1})
    coloured = configured(colours=True)
    log.warning("x", extra={"k": 1})
    assert "\x1b" not in plain.getvalue()
    assert "\x1b[33mwarning" in coloured.getvalue()


def test_text_of_our_own_is_hidden_by_the_same_secrets() -> None:
    configured()
    assert logs.hide(f"no {TOKEN}") == "no ***"


def test_hiding_works_before_anything_is_configured() -> None:
    ask = "from archiver import logs; print(logs.hide('x://a:b@c'))"
    told = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert told.stdout == "x://a:***@c\n"


def quoting(database_url: str) -> psycopg.Error:
    """An error of Postgres that quotes a refused row in DETAIL and CONTEXT."""
    with psycopg.connect(database_url) as db, db.cursor() as cursor:
        try:
            with cursor.copy("COPY store.journal (flow_key, payload) FROM STDIN") as rows:
                rows.write_row([1, '{"content": "our chat" oops'])
        except psycopg.Error as error:
            return error
    raise AssertionError("Postgres took it")


def test_what_was_added_to_a_table_and_refuses_rows_is_named(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("ALTER TABLE store.users ADD COLUMN dba integer")
        db.execute("ALTER TABLE store.users ADD CONSTRAINT short CHECK (length(nick) < 3)")
        known = "INSERT INTO store.users (user_id, nick, first_seen_at, last_seen_at)"
        with pytest.raises(psycopg.errors.CheckViolation) as caught:
            db.execute(f"{known} VALUES ('1', 'secretive', now(), now())")
        db.execute("ALTER TABLE store.users ALTER COLUMN dba SET NOT NULL")
        with pytest.raises(psycopg.errors.NotNullViolation) as missed:
            db.execute(f"{known} VALUES ('1', 'me', now(), now())")
    told = logs.tell_error(caught.value)
    assert told == "CheckViolation: SQLSTATE 23514: schema store, table users, constraint short"
    told = logs.tell_error(missed.value)
    assert told == "NotNullViolation: SQLSTATE 23502: schema store, table users, column dba"


@pytest.mark.parametrize("format_", ["console", "json"])
def test_what_postgres_quotes_of_a_row_reaches_no_log(
    postgres_url: str, database_url: str, format_: Format
) -> None:
    error = quoting(database_url)
    assert "our chat" in str(error)
    stream = configured(format_)
    log.error("lost", exc_info=error)
    log.error("lost: %s", error, extra={"reason": error})
    log.error("lost", exc_info=ExceptionGroup("all", [error]))
    told = RuntimeError("while archiving")
    told.__cause__ = error
    log.error("lost", exc_info=told)
    assert "chat" not in stream.getvalue()
    assert stream.getvalue().count("SQLSTATE 22P02") == 5
    assert "while archiving" in stream.getvalue()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("invalid literal for int(): 'our chat'"), "ValueError"),
        (KeyError("our chat"), "KeyError"),
        (UnicodeEncodeError("utf-8", "our chat", 0, 1, "no"), "UnicodeEncodeError"),
        (FileNotFoundError(2, "No such file", "/x"), "FileNotFoundError: [Errno 2] No such file"),
        (ArchiverError("set ARCHIVER_TOKEN"), "ArchiverError: set ARCHIVER_TOKEN"),
    ],
)
def test_an_error_tells_its_text_only_where_that_cannot_quote(error: Exception, told: str) -> None:
    assert logs.tell_error(error).startswith(told)
    assert "chat" not in logs.tell_error(error)


def test_a_traceback_names_the_places_and_the_causes_in_order() -> None:
    stream = configured("json")
    try:
        try:
            int("our chat")
        except ValueError as inner:
            raise ArchiverError("mend it") from inner
    except ArchiverError as error:
        log.exception("failed", exc_info=error)
    told = json.loads(stream.getvalue())["exception"].split("\n")
    assert told[0] == "Traceback (most recent call last):"
    assert 'int("our chat")' in told[2]  # quoted as a line of our source, not as data
    assert told[-1] == "ArchiverError: mend it"
    assert told.index("ValueError") < told.index("which led to:")


def test_the_journal_is_told_the_level_of_each_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "journal").open("w+") as journal:
        at = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{at.st_dev}:{at.st_ino}")
        logs.configure(level="debug", format="console", stream=journal, colours=False)
        log.debug("quietly")
        log.warning("cut")
        log.critical("over", exc_info=ArchiverError("mend it"))
        journal.seek(0)
        told = [line.partition(">")[0] for line in journal]
    assert told == ["<7", "<4", *["<2"] * (len(told) - 2)]
    assert len(told) > 3
    assert not logs.is_journal(sys.stderr, {"JOURNAL_STREAM": "0:0"})


def warn_away(seconds: float, stream: str = "flows 1") -> None:
    log.warning("stream not opened", extra={"stream": stream, "again_seconds": seconds})


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the limit on repetitions: a list whose only item is the time in seconds."""
    now = [0.0]
    monkeypatch.setattr(logs, "Repetitions", lambda: Repetitions(clock=lambda: now[0]))
    return now


def test_an_outage_is_told_ten_times_and_then_rarely(at: list[float]) -> None:
    stream = configured()
    for at[0] in range(0, 1800, 10):
        warn_away(seconds=at[0] / 7)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 12
    assert "repeated" not in "".join(lines[:10])
    assert [line.rpartition(" ")[2] for line in lines[10:]] == ["repeated=59", "repeated=59"]


def test_an_outage_that_comes_and_goes_floods_no_log(at: list[float]) -> None:
    stream = configured()
    for at[0] in range(1800):
        log.warning("database away", extra={"attempt": 1, "reason": "too many connections"})
        log.info("database back", extra={"away_seconds": at[0] / 7})
    assert len(stream.getvalue().splitlines()) == 24


def test_what_is_said_of_something_else_is_told(at: list[float]) -> None:
    stream = configured(level="debug")
    for _ in range(20):
        warn_away(1)
    warn_away(1, stream="flows 2")
    log.error("stream not opened at all", extra={"stream": "flows 1"})
    log.warning("stream not opened", extra={"stream": "flows 1"}, exc_info=OSError())
    for _ in range(20):
        log.debug("page stored", extra={"flow": "acme/main"})
    lines = stream.getvalue().splitlines()
    assert len([line for line in lines if "stream=" in line]) == 13
    assert len([line for line in lines if "page stored" in line]) == 20


def test_what_was_quiet_for_long_is_news_again(at: list[float]) -> None:
    stream = configured()
    for at[0] in (0, 2000):
        for _ in range(20):
            warn_away(1)
    assert len(stream.getvalue().splitlines()) == 20


def test_what_is_no_longer_said_is_forgotten(at: list[float]) -> None:
    stream = configured()
    for at[0] in (0, 700):
        for number in range(REMEMBERED):
            warn_away(1, stream=f"{at[0]} {number}")
    assert len(stream.getvalue().splitlines()) == 2 * REMEMBERED


def test_of_more_things_than_can_be_remembered_few_lines_are_logged(at: list[float]) -> None:
    """As in a week in which some thousand flows fail, each of them every minute."""
    stream = configured()
    for at[0] in range(0, 1800, 60):
        for number in range(2 * REMEMBERED):
            warn_away(1, stream=f"flows {number}")
    log.warning("something else")
    lines = stream.getvalue().splitlines()
    assert lines[-1].endswith("something else")
    each = FIRST + 2
    assert len(lines) <= each * (REMEMBERED + 1) + 1
    assert any("'flows 999'" in line for line in lines)
    assert re.search(r"repeated=\d{4}", stream.getvalue())


@pytest.mark.parametrize("format_", ["console", "json"])
def test_an_error_among_its_own_causes_is_told_once(format_: Format) -> None:
    stream = configured(format_)
    first, second = OSError("first"), OSError("second")
    first.__cause__, second.__context__ = second, first
    inner = OSError("inner")
    group = ExceptionGroup("group", [first, inner])
    inner.__cause__ = group
    log.error("failed", exc_info=group)
    told = stream.getvalue()
    assert [told.count(f"OSError: {one}") for one in ("first", "second", "inner")] == [1, 1, 1]


def test_a_long_chain_of_causes_is_told_as_far_as_can_be() -> None:
    stream = configured()
    error = OSError("0")
    for number in range(1, 3000):
        following = OSError(str(number))
        following.__context__, error = error, following
    log.error("failed", exc_info=error)
    assert "OSError: 2999\n" in stream.getvalue()
