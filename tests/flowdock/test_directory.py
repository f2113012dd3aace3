"""Flows and people as the API lists them: nothing raises, and only usable paths are taken."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.domain.model import UserId
from archiver.flowdock.directory import conversation_of, flow_of, user_of

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["http://[", "a/b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(
    ["id", "url", "organization", "parameterized_name", "name", "joined", "disabled", "nick"]
)


@given(st.dictionaries(names, values) | values)
def test_nothing_that_is_listed_raises(item: Any) -> None:
    flow = flow_of(item)
    conversation_of(item, UserId("1"))
    user_of(item)

    if flow is not None:
        organization, name = flow.path.split("/")
        assert organization not in {"", ".", ".."}
        assert name not in {"", ".", ".."}


@pytest.mark.parametrize(
    ("item", "path"),
    [
        ({"url": "https://api.flowdock.com/flows/acme/main"}, "acme/main"),
        ({"url": "https://proxy.example/v1/flows/acme/main"}, "acme/main"),
        (
            {"organization": {"parameterized_name": "acme"}, "parameterized_name": "main"},
            "acme/main",
        ),
        ({"id": "acme/main"}, "acme/main"),
        ({"url": "https://api.flowdock.com/flows/acme/a%2Fb"}, None),
        ({"url": "https://api.flowdock.com/flows/acme/a,b"}, None),
        ({"url": "https://api.flowdock.com/flows/acme/a%00b"}, None),
        ({"url": "https://api.flowdock.com/flows/acme/.."}, None),
        ({}, None),
    ],
)
def test_a_flow_is_where_its_url_says_or_its_names(item: dict[str, Any], path: str | None) -> None:
    flow = flow_of({"id": "6f4a1c9e"} | item)

    assert (flow and flow.path) == path
