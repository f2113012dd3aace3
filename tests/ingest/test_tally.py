"""What ingest counts, and that no metric has a label with unbounded values."""

import pytest

from archiver.ingest.batch import Applied
from archiver.ingest.tally import MOST_KINDS, OTHER, AccountTally, Tally, reason_kind
from archiver.observing.health import newest_match_seconds


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("ended", "ended"),
        ("silence", "silence"),
        ("cut: ServerDisconnectedError", "cut"),
        ("no connection: Connection refused", "no_connection"),
        ("no answer", "no_answer"),
        ("status 503", "status_503"),
        ("refused flow", "refused_flow"),
        ("x/whatever a server says, not a stream", "not_a_stream"),
    ],
)
def test_a_reason_becomes_one_of_few_words(reason: str, kind: str) -> None:
    assert reason_kind(reason) == kind


def test_kinds_that_a_server_makes_up_are_counted_together_beyond_so_many() -> None:
    tally = Tally.of([])
    for number in range(MOST_KINDS + 7):
        tally.applied(Applied(events=1, kinds={(f"kind-{number}", "stream"): 1}), seconds=0.5)
    tally.applied(Applied(events=2, kinds={("kind-0", "stream"): 2}), seconds=0.5)
    assert tally.events["kind-0", "stream"] == 3
    assert tally.events[OTHER, "stream"] == 7
    assert (tally.batches, tally.batch_seconds) == (MOST_KINDS + 8, (MOST_KINDS + 8) / 2)


def test_a_link_counts_as_long_as_it_is_wanted() -> None:
    account = AccountTally(name="a")
    with account.link() as link:
        account.open(link)
        assert [one.is_open for one in account.links] == [True]
        account.end(link, "silence")
        assert [one.is_open for one in account.links] == [False]
    assert not account.links
    assert (account.opened, account.ended) == (1, {"silence": 1})


def test_what_comes_on_a_stream_that_stands_is_heard() -> None:
    tally = Tally.of(["a", "b"])
    a, b = tally.accounts.values()
    with a.link(["acme/one", "acme/two"]) as first, b.link(["acme/two", "private/1"]) as second:
        assert tally.heard() == set()
        a.open(first)
        b.open(second)
        assert tally.heard() == {"acme/one", "acme/two", "private/1"}
        a.end(first, "ended")
        assert tally.heard() == {"acme/two", "private/1"}
    assert tally.heard() == set()


def test_what_never_matched_counts_from_the_beginning_of_the_work() -> None:
    account = AccountTally(name="a", paths={1: "acme/one", 2: "acme/two"})
    account.begin(now=100.0)
    account.match(1, now=130.0)
    account.match(3, now=131.0)
    assert account.unmatched_seconds(now=140.0) == {1: 10.0, 2: 40.0}


def test_a_flow_that_comes_later_counts_from_its_coming() -> None:
    account = AccountTally(name="a")
    account.begin(now=100.0)
    account.follow({1: "acme/one", 2: "acme/two"}, now=110.0)
    account.match(2, now=120.0)
    account.follow({1: "acme/one"}, now=500.0)
    account.follow({1: "acme/one", 2: "acme/two", 3: "acme/three"}, now=900.0)
    assert account.unmatched_seconds(now=901.0) == {1: 791.0, 2: 1.0, 3: 1.0}
    assert newest_match_seconds(account, now=901.0) == 781.0


def test_a_database_that_refuses_the_writer_is_away_until_it_comes_round() -> None:
    tally = Tally.of([])
    tally.turned(now=1.0)
    tally.writer_failed(now=5.0)
    tally.writer_failed(now=6.0)
    assert (tally.writer_away_since, tally.writer_turned_at) == (5.0, 6.0)
    tally.turned(now=7.0)
    assert (tally.writer_away_since, tally.writer_turned_at) == (None, 7.0)
