"""Flows, their paths and people, when the service lists them again."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from archiver.domain.model import Flow, FlowId, User, UserId
from archiver.store import coverage, directory, importing
from archiver.store.engine import connect, transaction
from tests.ingest.arriving import query

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def flow(id_: str, path: str) -> Flow:
    return Flow(id=FlowId(id_), path=path)


@pytest.fixture
async def engine(database_url):
    async with connect(database_url) as engine:
        yield engine


async def paths(engine) -> dict[str, str]:
    async with transaction(engine) as tx:
        by_key = await directory.flow_paths(tx)
        keys = await directory.flow_keys(tx)
    return {str(flow_id): by_key[key] for flow_id, key in keys.items()}


async def see(engine, *listed: Flow) -> dict[FlowId, int]:
    async with transaction(engine) as tx:
        return await directory.see_flows(tx, listed, now=NOW)


async def test_a_renamed_flow_keeps_its_key_and_its_history(engine):
    before = await see(engine, flow("a", "acme/old"))
    after = await see(engine, flow("a", "acme/new"))

    assert before == after
    assert await paths(engine) == {"a": "acme/new"}


async def test_flows_that_are_listed_again_and_again_use_up_no_keys(engine):
    keys = await see(engine, flow("a", "acme/main"), flow("b", "acme/other"))
    for _ in range(3):
        assert await see(engine, flow("a", "acme/main"), flow("b", "acme/other")) == keys
    assert (await see(engine, flow("c", "acme/new")))[FlowId("c")] == max(keys.values()) + 1


async def test_what_is_listed_again_as_it_was_is_written_once_an_hour(engine, database_url):
    """Many accounts list some thousand people every few minutes."""
    later, past = NOW + directory.SEEN_EVERY, NOW + 3 * directory.SEEN_EVERY
    listings = [
        (NOW, "Ann", False),
        (NOW + timedelta(minutes=5), "Ann", False),
        (NOW + timedelta(minutes=10), "Anna", True),
        (later, "Anna", True),
        (past, "Anna", True),
        (later, "Anna", True),  # the clock was ahead, and was set back
    ]
    written = []
    for now, nick, disabled in listings:
        async with transaction(engine) as tx:
            await directory.see_users(tx, [User(id=UserId("1"), nick=nick)], now=now)
            flow_ = Flow(id=FlowId("a"), path="acme/main", disabled=disabled)
            await directory.see_flows(tx, [flow_], now=now)
        person = query(database_url, "SELECT nick, last_seen_at, xmin::text FROM store.users")
        place = query(database_url, "SELECT disabled, last_seen_at, xmin::text FROM store.flows")
        written.append((*person[0], *place[0]))

    first, again, changed, soon, hours_later, back = written
    assert again == first
    assert changed[:2] == ("Anna", listings[2][0])
    assert changed[3:5] == (True, listings[2][0])
    assert soon == changed
    assert hours_later[1] == hours_later[4] == past
    assert back[1] == back[4] == later


async def test_a_path_given_to_a_new_flow_is_taken_from_the_one_that_had_it(engine):
    await see(engine, flow("a", "acme/main"))
    await see(engine, flow("b", "acme/main"))

    assert await paths(engine) == {"a": "acme/main@a", "b": "acme/main"}


async def test_paths_as_long_as_names_may_be_are_set_aside_in_any_script(engine):
    letters = [chr(0x20000 + 97 * number % 40_000) for number in range(1020)]
    ids = "".join(letters[:255]), "".join(letters[255:510])
    path = f"{''.join(letters[510:765])}/{''.join(letters[765:])}"
    for id_ in (*ids, *ids):
        await see(engine, flow(id_, path))

    assert sorted(map(len, (await paths(engine)).values())) == [511, 656]


async def test_of_two_flows_of_one_path_that_are_both_read_the_same_goes_by_it(engine):
    await see(engine, flow("a", "acme/main"))
    keys = await see(engine, flow("b", "acme/main"))
    await see(engine, flow("a", "acme/main"))
    assert await paths(engine) == {"a": "acme/main@a", "b": "acme/main"}

    async with transaction(engine) as tx:
        await directory.lose_flow(tx, flow_key=keys[FlowId("b")])
    await see(engine, flow("a", "acme/main"))
    assert await paths(engine) == {"a": "acme/main", "b": "acme/main@b"}


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_path_that_one_listing_gives_to_two_flows_is_that_of_the_one_in_use(
    engine, is_known
):
    """As when a flow was archived, and another one was given its name."""
    former, latter = replace(flow("a", "acme/main"), disabled=True), flow("b", "acme/main")
    if is_known:
        await see(engine, former)
    for listed in [(former, latter), (latter, former)]:
        await see(engine, *listed)
        assert await paths(engine) == {"a": "acme/main@a", "b": "acme/main"}


async def test_two_flows_of_one_path_in_one_listing_do_not_take_it_from_each_other(engine):
    one, other = flow("a", "acme/main"), flow("b", "acme/main")
    await see(engine, one)
    for listed in [(one, other), (other, one)]:
        await see(engine, *listed)
        assert await paths(engine) == {"a": "acme/main", "b": "acme/main@b"}


async def test_flows_that_exchange_their_paths_are_not_mixed_up(engine):
    await see(engine, flow("a", "acme/one"), flow("b", "acme/two"))
    await see(engine, flow("a", "acme/two"), flow("b", "acme/one"))

    assert await paths(engine) == {"a": "acme/two", "b": "acme/one"}


async def test_a_flow_that_events_name_first_gets_its_path_when_it_is_listed(engine):
    async with transaction(engine) as tx:
        named = await directory.name_flows(tx, [FlowId("a")], now=NOW)
    listed = await see(engine, flow("a", "acme/main"))

    assert named == listed
    assert await paths(engine) == {"a": "acme/main"}


async def test_a_flow_was_first_seen_when_it_was_first_listed_or_named(engine, database_url):
    later = NOW + timedelta(days=1)
    await see(engine, flow("a", "acme/main"))
    async with transaction(engine) as tx:
        await directory.see_flows(tx, [flow("a", "acme/main")], now=later)
        await directory.name_flows(tx, [FlowId("a")], now=later)

    seen = query(database_url, "SELECT first_seen_at, last_seen_at FROM archive.flows")
    assert seen == [(NOW, later)]


async def test_each_flow_has_a_row_in_the_ledger_to_be_locked_and_due_in(engine):
    keys = {*(await see(engine, flow("a", "acme/one"))).values()}
    async with transaction(engine) as tx:
        keys |= {*(await directory.name_flows(tx, [FlowId("b")], now=NOW)).values()}
        assert len(keys) == 2
        assert (await coverage.standings(tx)).keys() == keys


@pytest.mark.parametrize("turn", [1, -1])
async def test_of_what_two_archives_tell_of_a_person_the_state_seen_last_counts(
    engine, database_url, turn
):
    told = [
        importing.KnownUser(
            user_id="1",
            nick=nick,
            name=None,
            email=None,
            disabled=None,
            first_seen_at=NOW + timedelta(days=first),
            last_seen_at=NOW + timedelta(days=last),
        )
        for nick, first, last in (("old", 1, 3), ("new", 2, 4))
    ]
    for one in told[::turn]:
        async with transaction(engine) as tx:
            await importing.merge_users(tx, [one])
    seen = "SELECT nick, first_seen_at, last_seen_at FROM store.users"
    days = [NOW + timedelta(days=day) for day in (1, 4)]
    assert query(database_url, seen) == [("new", *days)]


@pytest.mark.parametrize("turn", [1, -1])
async def test_what_either_of_two_archives_knows_of_a_person_is_known(engine, database_url, turn):
    """An imported list has the nick alone, and is newer than the full record from the service."""
    listed = importing.KnownUser(
        user_id="1",
        nick="old",
        name="Ann",
        email="ann@example.com",
        disabled=True,
        first_seen_at=NOW,
        last_seen_at=NOW,
    )
    later = NOW + timedelta(days=1)
    named = replace(listed, nick="new", name=None, email=None, disabled=None, last_seen_at=later)
    for one in (listed, named)[::turn]:
        async with transaction(engine) as tx:
            await importing.merge_users(tx, [one])
    seen = "SELECT nick, name, email, disabled FROM store.users"
    assert query(database_url, seen) == [("new", "Ann", "ann@example.com", True)]


async def test_more_flows_may_be_listed_than_a_statement_has_parameters(engine):
    listed = [flow(f"id{number}", f"acme/{number}") for number in range(2**15)]
    keys = await see(engine, *listed)

    assert len(keys) == len(listed)
    async with transaction(engine) as tx:
        assert len(await directory.paths_of(tx, range(2**16))) == len(listed)


async def test_two_flows_of_one_path_that_are_listed_at_once_are_not_mixed_up(engine):
    """As by the accounts of two organizations of the same name, when the daemon starts."""
    async with transaction(engine) as first, asyncio.TaskGroup() as group:
        await directory.see_flows(first, [flow("a", "acme/main")], now=NOW)
        second = group.create_task(see(engine, flow("b", "acme/main")))
        await asyncio.wait([second], timeout=0.3)
        await first.commit()

    assert len(set((await paths(engine)).values())) == 2
