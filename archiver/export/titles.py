"""What flows are called where people read of them.

Of a private conversation the path has ids alone, so the people in it are named before it. Names are
foreign, and no two people need have different ones: the path stands there as well.
"""

from collections.abc import Mapping

from archiver.domain.model import is_private
from archiver.store import exporting
from archiver.store.connection import Transaction


async def title_of(tx: Transaction, flow: str) -> str:
    """What the flow of that path is called."""
    return titled(flow, await exporting.names_of(tx, talkers(flow)))


def titled(flow: str, names: Mapping[str, str]) -> str:
    """The same, when the *names* of people are known by their ids; if none is, the path."""
    people = talkers(flow)
    if not names.keys() & people:
        return flow
    return f"{' and '.join(names.get(id_) or f'user {id_}' for id_ in people)} ({flow})"


def talkers(flow: str) -> list[str]:
    """The ids of those who talk in *flow*, if it is private."""
    return flow.split("/")[1:] if is_private(flow) else []
