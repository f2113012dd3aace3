"""``archiver status``: a table for people, an object for machines."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from rich.cells import cell_len

from archiver.cli.measures import SILENCE, format_bytes, format_count, format_seconds, format_share
from archiver.cli.terminal import make_safe
from archiver.store.reading import Count
from tests.cli.conftest import OnTerminal, Run

EVIL = "acme/evil\x1b[31m\u202etxt\n再起動" + "long" * 30


@pytest.fixture
def archive(database_url: str) -> str:
    """Three flows: one proven, one with a gap and an error, and one with a hostile name."""
    recent = datetime.now(UTC) - timedelta(hours=2, minutes=3)
    with psycopg.connect(database_url, autocommit=True) as db:
        for path, listed, due in (
            ("acme/main", "{[1,1201)}", 1200),
            ("acme/ops", "{[1,1200)}", 1200),
            (EVIL, "{}", 0),
        ):
            row = db.execute(
                "INSERT INTO store.flows (flow_id, path, first_seen_at) VALUES (%s, %s, now())"
                " RETURNING flow_key",
                [path, path],
            ).fetchone()
            assert row is not None
            db.execute(
                "INSERT INTO store.ledger (flow_key, listed, due, due_at)"
                " VALUES (%s, %s, %s, now())",
                [row[0], listed, due],
            )
            db.execute(
                "INSERT INTO store.journal (flow_key, id, form, digest, witness, event, sent_at,"
                " received_at, as_of, payload) SELECT %s, id, 0, gen_random_uuid(), 'list',"
                " 'message', %s, now(), id, '{}' FROM generate_series(1, %s) AS id",
                [row[0], recent, due],
            )
        db.execute(
            "INSERT INTO store.pages (flow_key, run, purpose, asked, messages, as_of,"
            " requested_at, error) SELECT flow_key, gen_random_uuid(), 'backfill', '[1200,1201)',"
            " 0, 1200, now(), %s FROM store.flows WHERE path = 'acme/ops'",
            ["503 down\x1b[0m"],
        )
    return database_url


def test_where_several_daemons_share_the_flows_each_is_told_with_what_it_captures(
    archiver: Run, archive: str
) -> None:
    with psycopg.connect(archive, autocommit=True) as db:
        for name, captures, ago in (("left", ["acme/main", "private/7"], 1), ("right", [], 7300)):
            db.execute(
                "WITH one AS (INSERT INTO store.daemons VALUES (gen_random_uuid(), %s, 'here', 1,"
                " 600, '{acme/main,acme/ops,private/7}', now(), now() - make_interval(secs => %s))"
                " RETURNING daemon) INSERT INTO store.leases"
                " SELECT slot, daemon, now() FROM one, unnest(%s::text[]) AS slot",
                [name, ago, captures],
            )
    told = archiver("status", "--flow", "acme/main", ARCHIVER_DATABASE_URL=archive)
    plain = archiver("status", "--json", ARCHIVER_DATABASE_URL=archive)

    *_, left_line, right_line = told.stdout.splitlines()
    assert left_line == "daemon left: captures 2 of 3 that it could"
    assert right_line.startswith("daemon right: captures 0 of 3 that it could, silent for 2h")
    left, right = json.loads(plain.stdout)["daemons"]
    assert (left["daemon"], left["captures"]) == ("left", ["acme/main", "private/7"])
    assert (left["is_heard"], right["is_heard"]) == (True, False)


def test_where_nobody_captures_it_is_told(archiver: Run, archive: str) -> None:
    where = {"ARCHIVER_DATABASE_URL": archive}
    assert archiver("status", **where).stdout.endswith(f"{SILENCE}\n")
    assert SILENCE not in archiver("status", ARCHIVER_SHARING_ENABLED="false", **where).stdout
    with psycopg.connect(archive, autocommit=True) as db:
        db.execute(
            "INSERT INTO store.daemons VALUES"
            " (gen_random_uuid(), 'left', 'here', 1, 600, '{acme/main}', now(), now())"
        )
        assert archiver("status", **where).stdout.split("\n")[-2].endswith(" ago")
        db.execute("UPDATE store.daemons SET beat_at = now() - interval '2 hours'")
    *_, left, last, _ = archiver("status", **where).stdout.split("\n")
    assert left.startswith("daemon left: captures 0 of 1 that it could, silent for 2h")
    assert last == SILENCE


def test_the_table_tells_each_flow_and_the_sums(archiver: Run, archive: str) -> None:
    told = archiver(
        "status", "--flow", "acme/*", "--flow", "!*evil*", ARCHIVER_DATABASE_URL=archive
    )
    assert (told.returncode, told.stderr) == (0, "")
    head, main, ops, error, sums, rest, silence = told.stdout.split("\n")[:-1]
    assert head.split() == ["flow", "events", "messages", "newest", "lag", "gaps", "ids", "proven"]
    assert main.split() == ["acme/main", "1,200", "0", "2h", "3m", "0s", "0", "0", "100%"]
    assert ops.split()[:5] == ["acme/ops", "1,200", "0", "2h", "3m"]
    assert ops.split()[-3:] == ["1", "1", "99.91%"]
    assert error == "acme/ops: 503 down␛[0m"
    assert sums == "2 flows, 2,400 events, 0 messages, 1 gap of 1 id"
    assert rest.startswith("0 signals, 0 rejects, 0 files kept, database of ")
    assert rest.endswith(" ago")
    assert silence == SILENCE


def test_json_is_one_object_with_all_of_it(archiver: Run, archive: str) -> None:
    told = archiver("status", "--json", ARCHIVER_DATABASE_URL=archive)
    assert told.stdout.count("\n") == 1
    assert told.stdout.isascii()
    found = json.loads(told.stdout)
    assert [one["flow"] for one in found["flows"]] == sorted([EVIL, "acme/main", "acme/ops"])
    assert found["flows"][-1] | {"newest_at": 0, "lag_seconds": 0} == {
        "flow": "acme/ops",
        "joined": None,
        "disabled": None,
        "events": {"rows": 1200, "exact": True},
        "messages": {"rows": 0, "exact": True},
        "newest_at": 0,
        "newest_id": 1200,
        "lag_seconds": 0,
        "gaps": 1,
        "missing_ids": 1,
        "proven": 1199 / 1200,
        "last_error": "503 down\x1b[0m",
        "not_told": None,
    }
    assert found["totals"]["flows"] == 3
    assert found["totals"]["events"] == {"rows": 2400, "exact": True}


def test_gaps_that_stay_because_the_settings_exclude_the_flow_are_said_to(
    archiver: Run, archive: str
) -> None:
    stays = "acme/ops: the settings exclude it (flows, private), so nothing is requested from it\n"
    given = {"ARCHIVER_DATABASE_URL": archive, "ARCHIVER_TOKEN": "t", "ARCHIVER_FLOWS": "!acme/*"}
    assert f"\n{stays}" in archiver("status", **given).stdout
    assert json.loads(archiver("status", "--json", **given).stdout)["excluded"] == [
        EVIL,
        "acme/ops",
    ]
    assert stays not in archiver("status", **given | {"ARCHIVER_FLOWS": "*"}).stdout


def test_a_flow_does_not_look_complete_whose_end_is_not_told(archiver: Run, archive: str) -> None:
    asked = ["status", "--flow", "acme/main"]
    with psycopg.connect(archive, autocommit=True) as db:
        told, plain = [], []
        for purpose, error in (("head", "503 \x1b[0m"), ("backfill", None), ("head", None)):
            db.execute(
                "INSERT INTO store.pages (flow_key, run, purpose, asked, messages, as_of,"
                " requested_at, error) SELECT flow_key, gen_random_uuid(), %s, '[1201,)', 0, 0,"
                " clock_timestamp(), %s FROM store.flows WHERE path = 'acme/main'",
                [purpose, error],
            )
            told.append(archiver(*asked, ARCHIVER_DATABASE_URL=archive).stdout.split("\n"))
            plain.append(archiver(*asked, "--json", ARCHIVER_DATABASE_URL=archive).stdout)
    assert [lines[1].split()[-3:] for lines in told] == [
        ["0", "0", "?"], ["0", "0", "?"], ["0", "0", "100%"]
    ]  # fmt: skip
    reason = "acme/main: its newest message is not known: 503 ␛[0m"
    assert [lines.count(reason) for lines in told] == [1, 1, 0]
    (flow,) = json.loads(plain[1])["flows"]
    assert (flow["proven"], flow["not_told"], flow["last_error"]) == (None, "503 \x1b[0m", None)


def test_no_name_has_power_over_the_output(archiver: Run, archive: str) -> None:
    told = archiver("status", ARCHIVER_DATABASE_URL=archive)
    assert "acme/evil␛[31m\ufffdtxt⏎再起動long" in told.stdout
    assert not {"\x1b", "\u202e"} & set(told.stdout)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_on_a_terminal_the_table_fits_and_is_coloured(
    on_terminal: OnTerminal, environ: dict[str, str], archive: str, columns: int
) -> None:
    shown = on_terminal(
        ["status"], environ | {"ARCHIVER_DATABASE_URL": archive, "COLUMNS": str(columns)}
    )
    assert "\x1b[33m" in shown
    table = [line for line in shown.split("\n") if "%" in line or "flow " in line]
    plain = [line.replace("\x1b[", "␛").translate({27: None}) for line in table]
    assert len(plain) == 3
    assert all("100%" in line or "99.91%" in line or "proven" in line for line in plain)
    bare = on_terminal(
        ["status"],
        environ | {"ARCHIVER_DATABASE_URL": archive, "COLUMNS": str(columns), "NO_COLOR": "1"},
    )
    assert "\x1b" not in bare
    rows = bare[: bare.index("acme/ops: ")].split("\n")
    assert max(map(cell_len, rows)) <= columns
    names = "".join(line.partition("  ")[0] for line in rows)
    assert names == f"flow{make_safe(EVIL)}acme/mainacme/ops"


def test_where_a_table_has_no_room_each_flow_becomes_a_block_of_lines(
    on_terminal: OnTerminal, environ: dict[str, str], archive: str
) -> None:
    narrow = {"ARCHIVER_DATABASE_URL": archive, "COLUMNS": "40", "NO_COLOR": "1"}
    shown = on_terminal(["status"], environ | narrow).split("\n")
    assert shown[0] == "── 1 ──"
    names = [line.partition(":")[0] for line in shown[1:9]]
    assert names == ["flow", "events", "messages", "newest", "lag", "gaps", "ids", "proven"]
    assert max(map(len, shown[2:9])) <= 40


def test_a_table_of_a_command_that_is_cut_short_is_no_error(
    environ: dict[str, str], archive: str, tmp_path: Path
) -> None:
    errors = tmp_path / "errors"
    line = f"'{sys.executable}' -m archiver status 2>'{errors}' | true"
    subprocess.run(["sh", "-c", line], env=environ | {"ARCHIVER_DATABASE_URL": archive}, check=True)
    assert errors.read_text() == ""


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-1, "0s"), (0.9, "0s"), (59, "59s"), (60, "1m 0s"), (3723, "1h 2m"), (90000, "1d 1h")],
)
def test_durations_have_two_units(seconds: float, told: str) -> None:
    assert format_seconds(seconds) == told


def test_numbers_do_not_claim_more_than_is_known() -> None:
    assert format_count(Count(123456)) == "123,456"
    assert format_count(Count(123456, exact=False)) == "~120,000"
    assert [format_share(share) for share in (None, 0.0, 0.99999, 1.0)] == [
        "?",
        "0.00%",
        "99.99%",
        "100%",
    ]
    assert [format_bytes(size) for size in (999, 1500, 8_124_095, 2e13)] == [
        "999 B", "1.5 kB", "8.12 MB", "20.0 TB"
    ]  # fmt: skip


def test_of_a_flow_that_was_not_measured_no_gaps_are_told(archiver: Run, archive: str) -> None:
    told = archiver("status", "--flow", "*evil*", ARCHIVER_DATABASE_URL=archive)
    assert told.stdout.split("\n")[1].split()[-6:] == ["0", "-", "-", "?", "?", "?"]
    assert ", 0 gaps of 0 ids, 1 not measured yet\n" in told.stdout
    told = archiver("status", "--json", "--flow", "*evil*", ARCHIVER_DATABASE_URL=archive)
    found = json.loads(told.stdout)
    (flow,) = found["flows"]
    assert (flow["gaps"], flow["missing_ids"], flow["proven"]) == (None, None, None)
    assert found["totals"]["not_measured"] == 1


def test_a_pattern_that_no_flow_is_like_is_refused(archiver: Run, archive: str) -> None:
    told = archiver("status", "--flow", "nosuch/*", ARCHIVER_DATABASE_URL=archive)
    assert (told.returncode, told.stdout) == (2, "")
    assert "no flow in the archive matches nosuch/*" in told.stderr
    told = archiver("status", "--flow", "", ARCHIVER_DATABASE_URL=archive)
    assert "no flow in the archive matches '': " in told.stderr


def test_a_mistyped_flow_is_not_left_out_for_the_others(archiver: Run, archive: str) -> None:
    patterns = ("--flow", "acme/main", "--flow", "acme/mian")
    for command in (("status",), ("gaps",), ("export", "never-made")):
        told = archiver(*command, *patterns, ARCHIVER_DATABASE_URL=archive)
        assert (told.returncode, told.stdout) == (2, "")
        named = "no flow in the archive matches acme/mian: did you mean acme/main?"
        assert named in told.stderr
    told = archiver("status", *patterns[:3], "acme/*", ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 0


def test_the_help_explains_the_columns_line_by_line(archiver: Run) -> None:
    told = archiver("status", "--help").stdout
    assert "\\b" not in told
    assert "\n  ids       ids in the gaps" in told
    assert "A ? means" in told
