"""Where several accounts can ask for a flow, one of them does."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from archiver.daemon import works
from archiver.ingest.apply import apply
from archiver.ingest.batch import Batch
from archiver.ingest.turns import Turns
from archiver.settings import Settings
from archiver.settings.account import Account
from archiver.settings.sections import DatabaseSettings
from archiver.simulator.server import Simulator
from archiver.store.coverage import Standing
from archiver.store.engine import connect
from tests.ingest.arriving import NOW

ACCOUNTS = ("a", "b", "c")
_accounts = st.sampled_from(ACCOUNTS)
_steps = st.lists(
    st.tuples(st.just("holds"), _accounts, st.frozensets(st.integers(1, 3)))
    | st.tuples(st.just("pass_on"), _accounts, st.integers(1, 3))
    | st.tuples(st.just("leave"), _accounts),
    max_size=12,
)


@given(_steps, st.permutations(ACCOUNTS))
def test_each_flow_is_asked_for_by_one_of_those_who_can(steps, order):
    turns = Turns()
    flows: dict[str, frozenset[int]] = {}
    for name, account, *what in steps:
        getattr(turns, name)(account, *what)
        if name == "holds":
            flows[account] = what[0]
        elif name == "leave":
            flows.pop(account, None)
        for flow in (1, 2, 3):
            able = [one for one in order if flow in flows.get(one, ())]
            asking = [one for one in able if turns.is_of(one, flow)]
            assert len(asking) == (1 if able else 0)
            assert [one for one in able if turns.is_of(one, flow)] == asking


def test_who_fails_gives_way_to_each_of_the_others_in_turn():
    turns = Turns()
    for account in ACCOUNTS:
        turns.holds(account, {7})
    seen = []
    for _ in range(4):
        (asking,) = [one for one in ACCOUNTS if turns.is_of(one, 7)]
        seen.append(asking)
        turns.pass_on(asking, 7)
    assert seen == ["a", "b", "c", "a"]


async def test_of_two_accounts_one_asks_for_each_flow_until_it_fails_or_stops(database_url):
    async with Simulator.start(flows=3, listing_delay_seconds=0) as flowdock:
        two = [Account(name=name, token=flowdock.token, api_url=flowdock.api_url) for name in "ab"]
        settings = Settings(
            data_dir=Path("/nonexistent"),
            accounts=tuple(two),
            database=DatabaseSettings(url=database_url),
        )
        async with connect(database_url) as engine, works(settings, engine) as shared:
            a, b = (shared.account(one) for one in two)
            await a.look_up()
            await b.look_up()
            lost, failed, *_ = flows = set(a.source.paths)
            dues = dict.fromkeys(flows, Standing(due=9))
            await apply(engine, Batch(now=NOW, gains=dues))

            assert (await a.source.wanting()).keys() == flows
            assert (await b.source.wanting()).keys() == set()

            await a.source.fail(failed, 1, 9, purpose="backfill", error="no answer")
            await a.source.lose(lost, reason="left")
            assert (await b.source.wanting()).keys() == {failed, lost}
            assert (await a.source.wanting()).keys() == flows - {failed, lost}

            a.source.stop()
            assert (await b.source.wanting()).keys() == flows
