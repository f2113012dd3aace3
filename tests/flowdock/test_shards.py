"""How flows are dealt out to connections."""

import random
from itertools import pairwise
from urllib.parse import parse_qs

from hypothesis import given
from hypothesis import strategies as st

from archiver.flowdock.shards import MAX_LINE_BYTES, Shard, assign, halve, line_bytes, query_of

paths = st.integers(0, 999).map(lambda number: f"acme/{number}-{'x' * (number % 31)}")
some_paths = st.sets(paths, max_size=40)
LIMIT = 300


@given(some_paths, st.booleans())
def test_every_flow_is_on_exactly_one_shard_and_every_line_fits(
    flows: set[str], private: bool
) -> None:
    shards = assign(flows, private=private, limit_bytes=LIMIT)

    assert sorted(path for shard in shards for path in shard.flows) == sorted(flows)
    assert all(line_bytes(shard) <= LIMIT for shard in shards)
    assert [shard.private for shard in shards].count(True) == private
    assert all(shard.flows or shard.private for shard in shards)


@given(st.lists(some_paths, min_size=1, max_size=4), st.booleans(), st.randoms())
def test_a_flow_stays_on_its_shard_while_others_come_and_go(
    memberships: list[set[str]], private: bool, chance: random.Random
) -> None:
    shards: list[Shard] = []
    history = []
    for flows in memberships:
        shuffled = sorted(flows)
        chance.shuffle(shuffled)
        shards = assign(shuffled, shards, private=private, limit_bytes=LIMIT)
        assert shards == assign(flows, shards, private=private, limit_bytes=LIMIT)
        history.append(shards)

    for before, after in pairwise(history):
        for shard in before:
            remaining = [other for other in after if {*shard.flows} & {*other.flows}]
            assert len(remaining) <= 1


def test_a_joined_flow_changes_one_shard_only() -> None:
    flows = [f"acme/flow-{number:03}" for number in range(60)]
    before = assign(flows, private=True, limit_bytes=LIMIT)
    after = assign([*flows, "acme/a-new-one"], before, private=True, limit_bytes=LIMIT)

    assert len(set(before) - set(after)) <= 1
    assert len(set(after) - set(before)) == 1


def test_a_shard_is_the_same_in_whatever_order_its_flows_came_to_it() -> None:
    kept = [Shard(flows=("a/c", "a/b"))]

    assert assign(["a/b", "a/c"], kept, private=False) == kept


def test_private_messages_alone_have_a_shard() -> None:
    assert assign([], private=True) == [Shard(private=True)]
    assert assign([], private=False) == []
    assert query_of(Shard(private=True)) == "user=1"


def test_private_messages_stay_where_they_are_unless_unwanted() -> None:
    kept = [Shard(flows=("a/b",)), Shard(flows=("a/c",), private=True)]

    assert assign(["a/b", "a/c"], kept, private=True) == kept
    assert assign(["a/b"], kept, private=True) == [Shard(flows=("a/b",)), Shard(private=True)]
    assert assign(["a/b", "a/c"], kept, private=False)[1] == Shard(flows=("a/c",))


def test_a_lower_limit_moves_what_no_longer_fits() -> None:
    flows = [f"acme/flow-{number:03}" for number in range(60)]
    wide = assign(flows, private=False)
    narrow = assign(flows, wide, private=False, limit_bytes=LIMIT)

    assert len(wide) == 1
    assert all(line_bytes(shard) <= LIMIT for shard in narrow)
    assert sorted(path for shard in narrow for path in shard.flows) == flows


def test_a_path_too_long_for_any_line_is_alone() -> None:
    long = "acme/" + "x" * 5000

    assert Shard(flows=(long,)) in assign([long, "acme/main"], private=False)


def test_a_shard_too_long_is_halved() -> None:
    one, other = halve(Shard(flows=("a/b", "a/c", "a/d"), private=True))

    assert (one, other) == (Shard(flows=("a/b",), private=True), Shard(flows=("a/c", "a/d")))


@given(some_paths, st.booleans())
def test_the_query_is_percent_encoded_and_tells_the_shard(flows: set[str], private: bool) -> None:
    query = query_of(Shard(flows=tuple(flows), private=private))
    told = parse_qs(query)

    assert not set(query) & set("/, ")
    assert told.get("filter", [""])[0] == ",".join(flows)
    assert told.get("user") == (["1"] if private else None)


def test_a_full_shard_leaves_room_for_the_headers() -> None:
    shards = assign([f"acme/flow-{number}" for number in range(1000)], private=True)

    assert max(map(line_bytes, shards)) <= MAX_LINE_BYTES
    assert min(map(line_bytes, shards[:-1])) > MAX_LINE_BYTES - 60
