"""The page that Prometheus reads, read by Prometheus' own parser."""

import time
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from archiver.ingest.batch import Applied
from archiver.observing.health import Observed
from archiver.observing.metrics import Dated, Figures, Metrics
from archiver.store.surveying import FlowSurvey, Survey
from tests.observing.conftest import NOW

Page = dict[tuple[str, tuple[str, ...]], float]


def read(metrics: Metrics) -> Page:
    """The values of a page's samples, by name and labels."""
    page, content_type = metrics.page("", now=NOW)
    assert content_type.startswith("text/plain")
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def flow(name: str, lag_seconds: float = 0.0) -> FlowSurvey:
    return FlowSurvey(
        flow=name,
        lag_seconds=lag_seconds,
        gaps=int(lag_seconds > 0),
        unverified_ids=int(lag_seconds) * 2,
        doubted_ids=5,
        oldest_gap_seconds=lag_seconds * 3,
    )


async def test_what_was_counted_is_told(observed: Observed) -> None:
    kinds = {("message", "stream"): 3, ("comment", "list"): 1}
    observed.tally.applied(Applied(events=4, kinds=kinds, rejected=2), seconds=0.25)
    observed.tally.failed("server", "57P01")
    account = observed.tally.accounts["work"]
    account.end(next(iter(account.links)), "status 503")
    gate = observed.gates["api.example"]
    await gate.turn()
    gate.answered(200)
    gate.answered(TimeoutError())
    page = read(Metrics(observed, flows=10))

    assert page["archiver_events_total", ("message", "stream")] == 3
    assert page["archiver_events_total", ("comment", "list")] == 1
    assert page["archiver_rejects_total", ()] == 2
    assert page["archiver_batches_total", ()] == 1
    assert page["archiver_batch_seconds_total", ()] == 0.25
    assert page["archiver_database_errors_total", ("server", "57P01")] == 1
    assert page["archiver_streams", ("work",)] == 1
    assert page["archiver_streams_open", ("work",)] == 0
    assert page["archiver_streams_ended_total", ("work", "status_503")] == 1
    assert page["archiver_requests_total", ("api.example",)] == 1
    assert page["archiver_answers_total", ("api.example", "200")] == 1
    assert page["archiver_answers_total", ("api.example", "TimeoutError")] == 1
    assert page["archiver_heads_matched_seconds", ("work",)] == 10
    assert page["archiver_heads_unmatched_seconds", ("work",)] == 40
    assert page["archiver_queue_limit_bytes", ()] == 1000
    assert page["archiver_ready", ()] == 0
    assert page["process_resident_memory_bytes", ()] > 1e6


async def test_the_archive_is_told_from_the_last_survey_and_of_no_more_flows_than_allowed(
    observed: Observed,
) -> None:
    metrics = Metrics(observed, flows=2)
    assert ("archiver_gaps", ()) not in read(metrics)
    flows = [flow('acme/"odd\\name', 61.0), flow("acme/main", 4.0), flow("acme/more")]
    metrics.note(Dated(Survey(flows=flows, lost=[], files_missing=3, database_bytes=9), NOW - 5))
    page = read(metrics)

    assert page["archiver_gaps", ()] == 2
    assert page["archiver_unverified_ids", ()] == 130
    assert page["archiver_doubted_ids", ()] == 15
    assert page["archiver_oldest_gap_seconds", ()] == 183
    assert page["archiver_lag_seconds", ()] == 61
    assert page["archiver_flows_behind", ()] == 1
    assert page["archiver_survey_age_seconds", ()] == 5
    assert page["archiver_flow_lag_seconds", ('acme/"odd\\name',)] == 61
    assert page["archiver_flow_head_matched_seconds", ("acme/main",)] == 10
    assert {labels for name, labels in page if name == "archiver_flow_lag_seconds"} == {
        ('acme/"odd\\name',), ("acme/main",)
    }  # fmt: skip


async def test_that_no_survey_was_made_since_the_start_is_told(observed: Observed) -> None:
    page = read(Metrics(observed, flows=10))
    assert page["archiver_survey_age_seconds", ()] == NOW - observed.began_at
    assert ("archiver_lag_seconds", ()) not in page


async def test_the_documentation_tells_of_each_figure_with_its_labels(observed: Observed) -> None:
    figures = Figures(observed, flows=1)
    figures.dated = Dated(
        Survey(flows=[flow("acme/main")], lost=[], files_missing=3, database_bytes=9), NOW
    )
    document = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
    for family in figures.collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        assert f"| `{name}` |" in document
        labels = {label for sample in family.samples for label in sample.labels}
        row = next(line for line in document.split("\n") if f"`{name}`" in line)
        assert all(f"`{label}`" in row for label in labels)


async def test_two_thousand_flows_make_a_page_of_bounded_size(observed: Observed) -> None:
    flows = [flow(f"organization/flow-{number}", number % 7) for number in range(2000)]
    survey = Dated(Survey(flows=flows, lost=[], files_missing=3, database_bytes=9), NOW)
    all_of_them, few = Metrics(observed, flows=2000), Metrics(observed, flows=500)
    all_of_them.note(survey)
    few.note(survey)
    began = time.process_time()
    page, _ = all_of_them.page("", now=NOW)
    assert time.process_time() - began < 1
    assert page.count(b"\n") > 4000
    assert few.page("", now=NOW)[0].count(b"\n") < 1200


async def test_how_flows_are_shared_is_told(observed: Observed) -> None:
    sharing = observed.tally.sharing
    sharing.daemons, sharing.held, sharing.elsewhere = 2, 7, 6
    sharing.renewed_at = NOW - 4
    sharing.change(taken=7, lost=1)
    page = read(Metrics(observed, flows=10))

    assert page["archiver_daemons", ()] == 2
    assert page["archiver_leases_held", ()] == 7
    assert page["archiver_leases_elsewhere", ()] == 6
    assert page["archiver_leases_age_seconds", ()] == 4
    assert page["archiver_leases_moved_total", ("taken",)] == 7
    assert page["archiver_leases_moved_total", ("lost",)] == 1
