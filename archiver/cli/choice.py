"""Which flows of the archive a command is about."""

from collections.abc import Sequence

from archiver.errors import ArchiverError
from archiver.settings.account import matches
from archiver.store import reading
from archiver.store.engine import Transaction


async def choose_flows(tx: Transaction, patterns: Sequence[str]) -> dict[int, str]:
    """The paths of the flows that *patterns* choose, by key; of all when there are none.

    Raises:
        ArchiverError: there are patterns, and they choose no flow.
    """
    paths = await reading.flow_paths(tx)
    if not patterns:
        return paths
    chosen = {key: path for key, path in paths.items() if matches(path, patterns)}
    if not chosen:
        named = " ".join(pattern or "''" for pattern in patterns)
        raise ArchiverError(f"no flow of the archive is named {named}: archiver status lists them")
    return chosen
