"""What a daemon has done, in Prometheus' exposition format.

Figures are computed when they are requested, from the counters that ingest keeps and from the last
survey of the archive. No label holds what others wrote, except the names of flows, whose number the
operator limits.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from typing_extensions import override

from archiver.ingest.tally import AccountTally, SharingTally, Tally
from archiver.observing.health import (
    Observed,
    newest_match_seconds,
    oldest_match_seconds,
    problems,
)
from archiver.store.surveying import LAGGING_SECONDS, FlowSurvey, Survey

Value = tuple[tuple[str, ...], float]
"""The labels of a figure, and its value."""


@dataclass(frozen=True, slots=True)
class Dated:
    """A survey, and when it was made, by the event loop's clock."""

    survey: Survey
    at: float


class Metrics:
    """The page that Prometheus reads."""

    def __init__(self, observed: Observed, *, flows: int) -> None:
        self._figures = Figures(observed, flows=flows)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._figures)
        ProcessCollector(registry=self._registry)

    def note(self, dated: Dated) -> None:
        """Report the figures of this survey from now on."""
        self._figures.dated = dated

    def page(self, accept: str, *, now: float) -> tuple[bytes, str]:
        """All figures in the format that the header *accept* requests, and its content type."""
        self._figures.now = now
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class Figures(Collector):
    """All our own figures, as of `now`."""

    def __init__(self, observed: Observed, *, flows: int) -> None:
        self._observed = observed
        self._flows = flows
        self.now = 0.0
        self.dated: Dated | None = None

    @override
    def collect(self) -> Iterator[Metric]:
        observed, now = self._observed, self.now
        yield _gauge(
            "build_info", "This release.", [((version("flowdock-archiver"),), 1)], "version"
        )
        is_ready = not problems(observed, now=now)
        yield _gauge("ready", "1 when capturing, as /readyz says.", [((), is_ready)])
        yield from _of_writing(observed.tally, now)
        yield from _of_queue(observed)
        yield from _of_sharing(observed.tally.sharing, now)
        yield from _of_accounts(list(observed.tally.accounts.values()), now)
        yield from _of_hosts(observed)
        age = now - (self.dated.at if self.dated else observed.began_at)
        yield _gauge(
            "survey_age_seconds", "Age of the figures read from the database.", [((), age)]
        )
        if self.dated:
            yield from _of_archive(self.dated)
            yield from _of_flows(self.dated.survey.flows[: self._flows])
            yield from _of_heads(observed, self.dated.survey.flows[: self._flows], now)


def _of_writing(tally: Tally, now: float) -> Iterator[Metric]:
    yield _counter(
        "events",
        "Events archived that were new to the journal.",
        tally.events.items(),
        "event",
        "witness",
    )
    plain = {
        "repeated_events": ("Events that the journal already had.", tally.repeated),
        "signals": ("Signals, such as presence and typing.", tally.signals),
        "rejects": ("Input that could not be placed, kept as it came.", tally.rejected),
        "message_changes": ("Messages created or changed.", tally.messages),
        "batches": ("Transactions that archived something.", tally.batches),
        "batch_seconds": (
            "Time spent on batches, including waits for the database.",
            tally.batch_seconds,
        ),
    }
    for name, (told, value) in plain.items():
        yield _counter(name, told, [((), value)])
    errors = tally.database_errors.items()
    yield _counter("database_errors", "Transactions that failed.", errors, "fault", "sqlstate")
    away = 0.0 if tally.writer_away_since is None else now - tally.writer_away_since
    yield _gauge(
        "database_away_seconds", "For how long the database has refused the writer.", [((), away)]
    )
    turned = now - tally.writer_turned_at if tally.writer_turned_at else 0.0
    yield _gauge(
        "writer_idle_seconds", "Time since the writer's loop last came round.", [((), turned)]
    )


def _of_queue(observed: Observed) -> Iterator[Metric]:
    intake = observed.intake
    yield _gauge(
        "queue_items", "Events that are read but not yet written.", [((), intake.held_events)]
    )
    yield _gauge("queue_bytes", "Memory of the queue.", [((), intake.held_bytes)])
    limit = [((), intake.limit_bytes)]
    yield _gauge("queue_limit_bytes", "Memory of the queue at which reading stops.", limit)


def _of_sharing(sharing: SharingTally, now: float) -> Iterator[Metric]:
    plain = {
        "daemons": ("Daemons that share the flows, this one included.", sharing.daemons),
        "leases_held": ("Flows that this daemon captures.", sharing.held),
        "leases_elsewhere": ("Flows that it can see but others capture.", sharing.elsewhere),
        "leases_age_seconds": (
            "Time since its leases were last renewed.",
            now - sharing.renewed_at if sharing.renewed_at else 0.0,
        ),
    }
    for name, (told, value) in plain.items():
        yield _gauge(name, told, [((), value)])
    moved = [(("taken",), sharing.taken), (("lost",), sharing.lost)]
    yield _counter("leases_moved", "Flows that this daemon took over and gave up.", moved, "how")


def _of_accounts(accounts: list[AccountTally], now: float) -> Iterator[Metric]:
    def gauge(name: str, told: str, values: Iterable[float | None]) -> Metric:
        labelled = zip(accounts, values, strict=True)
        found = [((account.name,), value) for account, value in labelled if value is not None]
        return _gauge(name, told, found, "account")

    working = [account.state == "working" for account in accounts]
    yield gauge("account_working", "1 when the account works.", working)
    refused = [account.state == "locked out" for account in accounts]
    yield gauge("account_locked_out", "1 when its token is refused.", refused)
    yield gauge("flows", "Flows that are followed.", [len(one.paths) for one in accounts])
    yield gauge("streams", "Streams that should be open.", [len(one.links) for one in accounts])
    standing = [sum(link.is_open for link in account.links) for account in accounts]
    yield gauge("streams_open", "Streams that are open.", standing)
    newest = [newest_match_seconds(account, now=now) for account in accounts]
    yield gauge(
        "heads_matched_seconds",
        "Time since the newest message of any flow was found in the archive.",
        newest,
    )
    oldest = [oldest_match_seconds(account, now=now) for account in accounts]
    yield gauge("heads_unmatched_seconds", "The same, for the flow where it is longest.", oldest)
    opened = [((one.name,), one.opened) for one in accounts]
    yield _counter("streams_opened", "Stream connections that were opened.", opened, "account")
    ended = [((one.name, why), n) for one in accounts for why, n in one.ended.items()]
    yield _counter(
        "streams_ended", "Stream connections that ended or failed.", ended, "account", "reason"
    )


def _of_hosts(observed: Observed) -> Iterator[Metric]:
    gates = observed.gates
    passed = [((host,), gate.passed) for host, gate in gates.items()]
    yield _counter("requests", "Requests that were sent.", passed, "host")
    waited = [((host,), gate.waited_seconds) for host, gate in gates.items()]
    yield _counter(
        "request_wait_seconds", "Time that requests waited for their turn.", waited, "host"
    )
    answers = [((host, how), n) for host, gate in gates.items() for how, n in gate.answers.items()]
    yield _counter("answers", "Answers to requests, by status or error.", answers, "host", "status")
    held = [((host,), gate.held_seconds()) for host, gate in gates.items()]
    yield _gauge(
        "host_held_seconds", "For how much longer the host asks not to be called.", held, "host"
    )


def _of_archive(dated: Dated) -> Iterator[Metric]:
    flows = dated.survey.flows
    plain = {
        "gaps": ("Ranges of ids that nothing proves.", sum(one.gaps for one in flows)),
        "unverified_ids": ("Ids in gaps.", sum(one.unverified_ids for one in flows)),
        "doubted_ids": ("Ids to be listed again.", sum(one.doubted_ids for one in flows)),
        "flows_behind": (
            "Flows with a lag of more than a minute.",
            sum(one.lag_seconds > LAGGING_SECONDS for one in flows),
        ),
        "flows_lost": ("Flows that no account can read any more.", len(dated.survey.lost)),
        "oldest_gap_seconds": (
            "Age of the oldest gap.",
            max((one.oldest_gap_seconds for one in flows), default=0.0),
        ),
        "lag_seconds": (
            "Greatest lag of a flow.",
            max((one.lag_seconds for one in flows), default=0.0),
        ),
        "database_bytes": ("Size of the database.", dated.survey.database_bytes),
        "files_missing": (
            "Files that messages name but the archive does not hold.",
            dated.survey.files_missing,
        ),
    }
    for name, (told, value) in plain.items():
        yield _gauge(name, told, [((), value)])


def _of_flows(flows: list[FlowSurvey]) -> Iterator[Metric]:
    lags = [((one.flow,), one.lag_seconds) for one in flows]
    yield _gauge(
        "flow_lag_seconds", "For how long something known has not been proven.", lags, "flow"
    )
    ids = [((one.flow,), float(one.unverified_ids)) for one in flows]
    yield _gauge("flow_unverified_ids", "Ids in gaps.", ids, "flow")


def _of_heads(observed: Observed, flows: list[FlowSurvey], now: float) -> Iterator[Metric]:
    chosen = {one.flow for one in flows}
    waited: dict[str, float] = {}
    for account in observed.tally.accounts.values():
        for key, seconds in account.unmatched_seconds(now=now).items():
            if (path := account.paths[key]) in chosen:
                waited[path] = min(seconds, waited.get(path, seconds))
    values = [((path,), seconds) for path, seconds in waited.items()]
    told = "Time since its newest message was found in the archive."
    yield _gauge("flow_head_matched_seconds", told, values, "flow")


def _gauge(name: str, told: str, values: Iterable[Value], *labels: str) -> Metric:
    family = GaugeMetricFamily(f"archiver_{name}", told, labels=labels)
    for of, value in values:
        family.add_metric(of, float(value))
    return family


def _counter(name: str, told: str, values: Iterable[Value], *labels: str) -> Metric:
    family = CounterMetricFamily(f"archiver_{name}", told, labels=labels)
    for of, value in values:
        family.add_metric(of, float(value))
    return family
