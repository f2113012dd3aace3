"""``archiver gaps``: what nothing proves, and what may have changed unheard."""

import json
from pathlib import Path

import psycopg
import pytest

from archiver.cli.measures import SILENCE
from tests.cli.conftest import HOSTILE, IMPORTED, JsonShown, Run


@pytest.fixture
def archive(database_url: str) -> str:
    """Two flows: one with gaps, a doubt and hostile errors; one that is proven, with a doubt."""
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute(
            "INSERT INTO store.daemons VALUES"
            " (gen_random_uuid(), 'left', 'here', 1, 600, '{acme/main}', now(), now())"
        )
        for path, listed, doubted in (
            ("acme/main", "{[11,51),[61,101)}", "{[20,31)}"),
            ("acme/quiet", "{[1,101)}", "{[1,2)}"),
        ):
            db.execute(
                "WITH flow AS (INSERT INTO store.flows (flow_id, path, first_seen_at)"
                " VALUES (%s, %s, now()) RETURNING flow_key)"
                " INSERT INTO store.ledger (flow_key, listed, due, due_at, doubted)"
                " SELECT flow_key, %s, 100, '2024-05-01 10:00Z', %s FROM flow",
                [path, path, listed, doubted],
            )
        db.execute(
            "INSERT INTO store.pages (flow_key, run, purpose, asked, messages, as_of,"
            " requested_at, error) SELECT flow_key, gen_random_uuid(), 'backfill', '[51,61)',"
            " 0, 100, now(), E'503 \\x1b[31mdown' FROM store.flows, generate_series(1, 3)"
            " WHERE path = 'acme/main'"
        )
    return database_url


def test_gaps_are_told_with_attempts_and_errors_and_doubts_below(
    archiver: Run, archive: str
) -> None:
    told = archiver("gaps", ARCHIVER_DATABASE_URL=archive)
    assert (told.returncode, told.stderr) == (1, "")
    rows = [line.split() for line in told.stdout.split("\n") if "acme/" in line]
    assert rows == [
        ["acme/main", "51", "60", "10", "2024-05-01", "10:00:00Z", "3", "503", "␛[31mdown"],
        ["acme/main", "1", "10", "10", "2024-05-01", "10:00:00Z", "0"],
        ["acme/main", "20", "30", "11"],
        ["acme/quiet", "1", "1", "1"],
    ]
    assert told.stdout.endswith("2 gaps, 2 doubts\n")


def test_doubts_alone_are_no_gaps(archiver: Run, archive: str) -> None:
    told = archiver("gaps", "--flow", "*/quiet", "--json", ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 0
    found = json.loads(told.stdout)
    assert [one["is_heard"] for one in found.pop("daemons")] == [True]
    assert found == {
        "gaps": [],
        "doubts": [{"flow": "acme/quiet", "from_id": 1, "to_id": 1}],
        "not_told": [],
        "not_measured": [],
        "not_read": [],
        "excluded": [],
        "not_heard": [],
    }


def test_flows_of_which_no_stream_stands_are_named(archiver: Run, archive: str) -> None:
    where = {"ARCHIVER_DATABASE_URL": archive}
    unheard = "no stream is open, so edits are missed: acme/quiet\n"
    assert "no stream" not in archiver("gaps", **where).stdout
    with psycopg.connect(archive, autocommit=True) as db:
        db.execute("UPDATE store.daemons SET unheard = '{acme/quiet,acme/gone}'")
    assert archiver("gaps", **where).stdout.endswith(f"\n{unheard}2 gaps, 2 doubts\n")
    assert unheard in archiver("status", **where).stdout
    told = json.loads(archiver("gaps", "--json", **where).stdout)
    assert told["not_heard"] == ["acme/quiet"]
    assert "no stream" not in archiver("gaps", "--flow", "acme/main", **where).stdout
    with psycopg.connect(archive, autocommit=True) as db:
        db.execute("UPDATE store.daemons SET beat_at = now() - interval '2 hours'")
    assert "no stream" not in archiver("gaps", **where).stdout


def test_who_reads_an_export_or_of_one_id_is_told_that_no_stream_stands(
    archiver: Run, archive: str, tmp_path: Path
) -> None:
    where = {"ARCHIVER_DATABASE_URL": archive}
    unheard = "no stream is open, so edits are missed: acme/quiet\n"

    def told(flow: str, out: str) -> list[object]:
        to, chosen = str(tmp_path / out), ("--flow", flow)
        explained = archiver("explain", flow, "5", **where).stdout
        plain = json.loads(archiver("explain", flow, "5", "--json", **where).stdout)
        exported = archiver("export", to, *chosen, **where).stdout
        as_json = json.loads(archiver("export", f"{to}.zip", *chosen, "--json", **where).stdout)
        manifest = json.loads((tmp_path / out / "manifest.json").read_text())
        texts = [unheard in explained, unheard in exported]
        return [*texts, plain["not_heard"], as_json["not_heard"], manifest["not_heard"]]

    assert told("acme/quiet", "before") == [False, False, False, [], []]
    with psycopg.connect(archive, autocommit=True) as db:
        db.execute("UPDATE store.daemons SET unheard = '{acme/quiet,acme/gone}'")
    assert told("acme/quiet", "now") == [True, True, True, ["acme/quiet"], ["acme/quiet"]]
    assert told("acme/main", "other") == [False, False, False, [], []]


def test_where_nobody_captures_having_no_gaps_is_not_all_that_is_told(
    archiver: Run, archive: str
) -> None:
    where = {"ARCHIVER_DATABASE_URL": archive}
    with psycopg.connect(archive, autocommit=True) as db:
        db.execute("UPDATE store.daemons SET beat_at = now() - interval '2 hours'")
    told = archiver("gaps", "--flow", "*/quiet", **where)
    assert told.returncode == 0
    assert told.stdout.endswith(f"\nno gaps, 1 doubt\n{SILENCE}\n")
    plain = json.loads(archiver("gaps", "--json", **where).stdout)
    assert [one["is_heard"] for one in plain["daemons"]] == [False]
    assert SILENCE not in archiver("gaps", ARCHIVER_SHARING_ENABLED="false", **where).stdout


def test_what_the_settings_exclude_stays_open_and_is_said_to(archiver: Run, archive: str) -> None:
    given = {"ARCHIVER_DATABASE_URL": archive, "ARCHIVER_TOKEN": "t"}
    told = archiver("gaps", ARCHIVER_FLOWS="!acme/main", **given)
    assert told.returncode == 1
    assert told.stdout.endswith(
        "\nacme/main: the settings exclude it (flows, private), so nothing is requested from it\n"
        "2 gaps, 2 doubts\n"
    )
    plain = archiver("gaps", "--json", ARCHIVER_FLOWS="other/*", **given)
    assert json.loads(plain.stdout)["excluded"] == ["acme/main", "acme/quiet"]
    assert "wants" not in archiver("gaps", ARCHIVER_DATABASE_URL=archive).stdout


@pytest.mark.parametrize(
    ("state", "reason"),
    [("joined = false", "no account can read it"), ("disabled = true", "the flow is disabled")],
)
def test_gaps_that_stay_because_nobody_reads_the_flow_are_said_to(
    state: str, reason: str, archiver: Run, archive: str
) -> None:
    where = {"ARCHIVER_DATABASE_URL": archive}
    stays = f"acme/main: {reason}, so nothing is requested from it\n"
    gap = "a gap: nothing proves this range yet; "

    def told() -> list[str]:
        asked = (["gaps"], ["status"], ["explain", "acme/main", "55"])
        return [archiver(*words, **where).stdout for words in asked]

    before = told()
    assert not [one for one in before if reason in one]
    assert f"{gap}archiver backfill fills it\n" in before[2]
    with psycopg.connect(archive, autocommit=True) as db:
        db.execute(f"UPDATE store.flows SET {state} WHERE path = 'acme/main'")
    gaps, status, explained = told()
    assert gaps.endswith(f"\n{stays}2 gaps, 2 doubts\n")
    assert stays in status
    assert f"{gap}it is not requested: {reason}\n" in explained
    plain = json.loads(archiver("gaps", "--json", **where).stdout)
    assert plain["not_read"] == [{"flow": "acme/main", "reason": reason}]


def test_a_flow_whose_end_is_not_told_is_named(archiver: Run, archive: str) -> None:
    with psycopg.connect(archive, autocommit=True) as db:
        db.execute(
            "INSERT INTO store.pages (flow_key, run, purpose, asked, messages, as_of, requested_at,"
            " error) SELECT flow_key, gen_random_uuid(), 'head', '[101,)', 0, 0, now(), E'50\x1b3'"
            " FROM store.flows WHERE path = 'acme/quiet'"
        )
    asked = ["gaps", "--flow", "*/quiet"]
    told = archiver(*asked, ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 1
    assert "\nacme/quiet: its newest message is not known: 50␛3\nno gaps, 1 doubt\n" in told.stdout
    plain = json.loads(archiver(*asked, "--json", ARCHIVER_DATABASE_URL=archive).stdout)
    assert plain["not_told"] == [{"flow": "acme/quiet", "reason": "50\x1b3"}]


def test_a_flow_of_which_nobody_knows_how_far_it_goes_is_named_once_something_of_it_is_kept(
    archiver: Run, archive: str
) -> None:
    asked = ["gaps", "--flow", "*/quiet", "--flow", "old/*"]
    with psycopg.connect(archive, autocommit=True) as db:
        db.execute(
            "INSERT INTO store.flows (flow_id, path, first_seen_at)"
            " VALUES ('empty', 'old/empty', now())"
        )
        told = archiver(*asked, ARCHIVER_DATABASE_URL=archive)
        assert (told.returncode, told.stdout.endswith("\nno gaps, 1 doubt\n")) == (0, True)
        db.execute(IMPORTED)
    told = archiver(*asked, ARCHIVER_DATABASE_URL=archive)
    assert told.returncode == 1
    assert told.stdout.endswith(
        "\nold/main: not measured yet: its newest message was never requested\n"
        "no gaps, 1 doubt, 1 not measured yet\n"
    )
    plain = archiver(*asked, "--json", ARCHIVER_DATABASE_URL=archive)
    assert plain.returncode == 1
    assert json.loads(plain.stdout)["not_measured"] == ["old/main"]


def test_a_flow_that_was_never_asked_for_is_not_complete_whether_it_can_be_read_or_not(
    archiver: Run, database_url: str
) -> None:
    never = "not measured yet: its newest message was never requested"
    found_empty = """
        INSERT INTO store.pages (flow_key, run, purpose, asked, messages, as_of, requested_at)
        SELECT flow_key, gen_random_uuid(), 'head', '[1,)', 0, 0, now() FROM store.flows
    """
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute(
            "INSERT INTO store.flows (flow_id, path, joined, disabled, first_seen_at) VALUES"
            " ('new', 'acme/new', true, false, now()), ('off', 'acme/off', true, true, now()),"
            " ('left', 'acme/left', false, false, now()), ('named', 'named', null, null, now())"
        )
        told = archiver("gaps", ARCHIVER_DATABASE_URL=database_url)
        assert told.returncode == 1
        assert told.stdout.startswith(
            f"acme/left: {never}, and no account can read it\n"
            f"acme/new: {never}\n"
            f"acme/off: {never}, and the flow is disabled\n"
            "no gaps, 3 not measured yet\n"
        )
        db.execute(found_empty)
    told = archiver("gaps", ARCHIVER_DATABASE_URL=database_url)
    assert (told.returncode, told.stdout.startswith("no gaps\n")) == (0, True)


def test_who_reads_an_export_is_told_of_which_flows_the_end_is_not_known(
    archiver: Run, archive: str, tmp_path: Path
) -> None:
    where = {"ARCHIVER_DATABASE_URL": archive}
    never = "its newest message was never requested"
    with psycopg.connect(archive, autocommit=True) as db:
        db.execute(IMPORTED)
        db.execute(
            "INSERT INTO store.pages (flow_key, run, purpose, asked, messages, as_of, requested_at,"
            " error) SELECT flow_key, gen_random_uuid(), 'head', '[101,)', 0, 0, now(), E'50\x1b3'"
            " FROM store.flows WHERE path = 'acme/quiet';"
            "INSERT INTO store.flows (flow_id, path, joined, disabled, first_seen_at) VALUES"
            " ('off', 'acme/off', true, true, now()), ('new', 'acme/new', true, false, now())"
        )
    told = archiver("export", str(tmp_path / "all"), **where).stdout
    assert (
        "acme/quiet: its newest message is not known: 50␛3\n"
        f"acme/new: not measured yet: {never}\n"
        f"acme/off: not measured yet: {never}, and the flow is disabled\n"
        f"old/main: not measured yet: {never}\n"
    ) in told
    manifest = json.loads((tmp_path / "all/manifest.json").read_text())
    assert manifest["not_told"] == {"acme/quiet": "50\x1b3"}
    assert list(manifest["not_measured"]) == ["acme/new", "acme/off", "old/main"]
    chosen = ["export", str(tmp_path / "some"), "--flow", "acme/*", "--json"]
    plain = json.loads(archiver(*chosen, **where).stdout)
    assert plain["not_told"] == [{"flow": "acme/quiet", "reason": "50\x1b3"}]
    assert plain["not_measured"] == ["acme/new", "acme/off"]
    manifest = json.loads((tmp_path / "some/manifest.json").read_text())
    assert list(manifest["not_measured"]) == ["acme/new", "acme/off"]
    empty = archiver("export", str(tmp_path / "main"), "--flow", "acme/main", **where).stdout
    assert "nobody" not in empty


def test_json_has_no_power_over_a_terminal(json_shown: JsonShown, archive: str) -> None:
    assert json_shown(archive, "gaps", "--flow", "*2")["doubts"][0]["flow"].startswith(HOSTILE)
