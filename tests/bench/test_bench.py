"""The harness itself, on a handful of events: what is measured there must be there."""

from pathlib import Path
from urllib.request import urlopen

import psycopg
import pytest
from msgspec import json

from tests.bench import copying, decoding, ingest, lab, traffic
from tests.bench.__main__ import measure
from tests.bench.figures import Figure, Target
from tests.bench.options import Options


@pytest.fixture
def place(
    tmp_path: Path, postgres_url: str, postgres_admin: psycopg.Connection, template_database: str
) -> lab.Lab:
    return lab.Lab(tmp_path, postgres_url, postgres_admin, template_database)


def test_the_same_seed_gives_the_same_bytes() -> None:
    once, again = (list(traffic.events(500, flows=3)) for _ in range(2))

    assert once == again
    sizes = sorted(len(one.frame) for one in once)
    assert 300 < sizes[len(sizes) // 2] < 500


def test_the_target_is_one_of_the_ratio_or_of_the_value() -> None:
    figure = Figure(
        bench="one",
        unit="events/s",
        values=[40.0, 60.0, 50.0],
        limits=[100.0, 100.0, 50.0],
        target=Target("ratio", "at least", 0.7),
    )
    assert json.decode(figure.as_json()) == {
        "bench": "one",
        "value": 50.0,
        "unit": "events/s",
        "limit": 100.0,
        "ratio": 0.6,
        "target": "ratio ≥ 0.7",
        "holds": False,
    }


def test_decoding_and_folding_makes_messages() -> None:
    frames = [(one.flow, one.frame) for one in traffic.events(2000, flows=5)]

    assert decoding.decode_and_fold(frames) > 1500


def test_with_json_nothing_but_figures_goes_to_where_a_program_reads(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ARCHIVER_TEST_DATABASE_URL", postgres_url)
    figures, failed = measure(["decode"], Options(quick=True), as_json=True, write=False)

    assert not failed
    assert capfd.readouterr().out.splitlines() == [one.as_json() for one in figures]


def test_the_feeder_says_a_scene_part_by_part_and_then_from_its_beginning() -> None:
    said = traffic.as_event_stream(traffic.events(60, flows=2))
    paths = ",".join(map(traffic.path_of, range(2)))
    feeder = lab.Feeder()
    try:
        for parts in ((20, 40), (60,)):
            feeder.scene(events=60, flows=2)
            assert feeder.tell("stats")["followed"] == 0
            with urlopen(f"{feeder.url}/flows?filter={paths}", timeout=10) as stream:
                assert feeder.tell("stats")["unseen"] == 2
                for count in parts:
                    feeder.go(rate=5000, events=count)
                assert stream.read(len(said)) == said
            assert len(feeder.tell("written")) == 60
    finally:
        feeder.close()


def test_ingest_measures_a_whole_archive(place: lab.Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "SETTLING_SECONDS", 0.1)
    with place.feeder() as feeder, place.archive() as archive:
        taken = ingest.ingest(place, archive, feeder, events=2000, flows=20)
        assert min(copying.copy_again(place, archive, copying.TABLES, ["texts"])) > 0
    assert taken.seconds > 0


def test_what_fails_tells_how_the_daemon_was_doing(place: lab.Lab) -> None:
    with place.feeder() as feeder, place.archive() as archive:
        refused = {"ARCHIVER_TOKEN": ""}
        with pytest.raises(TimeoutError) as failed, place.daemon(archive, feeder, refused) as it:
            raise TimeoutError(it.process.wait(20))
    (told,) = failed.value.__notes__
    assert told.startswith(f"the daemon of archiver.log ended with status {failed.value}:\n")
    assert "ARCHIVER_TOKEN" in told
