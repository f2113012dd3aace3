"""Titles of flows, for people.

The path of a private conversation has only ids, so its title begins with the names of the people in
it. Names are foreign and need not be unique, so the path is in the title as well.
"""

from collections.abc import Mapping

from archiver.domain.model import people_of
from archiver.store import exporting
from archiver.store.connection import Transaction


async def title_of(tx: Transaction, flow: str) -> str:
    """The title of the flow with this path."""
    return titled(flow, await exporting.names_of(tx, people_of(flow)))


def titled(flow: str, names: Mapping[str, str]) -> str:
    """The same, given the *names* of people by their ids; the path alone, if it names none."""
    people = people_of(flow)
    if not names.keys() & people:
        return flow
    return f"{' and '.join(names.get(id_) or f'user {id_}' for id_ in people)} ({flow})"
