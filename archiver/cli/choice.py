"""Which flows of the archive a command is about."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from archiver.cli.terminal import make_safe
from archiver.errors import ArchiverError
from archiver.settings.account import matches
from archiver.store import directory
from archiver.store.connection import Transaction


async def choose_flows(tx: Transaction, patterns: Sequence[str]) -> dict[int, str]:
    """The paths of the flows that *patterns* choose, by key; of all when there are none.

    Raises:
        ArchiverError: a pattern matches no flow, or all of them together choose none.
    """
    paths = await directory.flow_paths(tx)
    if not patterns:
        return paths
    for pattern in patterns:
        is_met = pattern.startswith("!") or any(matches(one, [pattern]) for one in paths.values())
        if not is_met:
            raise _no_flow(pattern or "''", paths.values())
    chosen = {key: path for key, path in paths.items() if matches(path, patterns)}
    if not chosen:
        raise _no_flow(" ".join(patterns), ())
    return chosen


async def find_flow(tx: Transaction, flow: str) -> tuple[int, str]:
    """The key and the path of the flow with this path, or this id.

    If there is no flow with exactly this path, case does not matter.

    Raises:
        ArchiverError: there is none, or several differ from *flow* in case alone.
    """
    paths = await directory.flow_paths(tx)
    alike = [key for key, path in paths.items() if path.casefold() == flow.casefold()]
    found = [key for key in alike if paths[key] == flow] or alike
    if not found:
        by_id = {str(name): key for name, key in (await directory.flow_keys(tx)).items()}
        found = [by_id[flow]] if flow in by_id else []
    if not found:
        hint = nearest(flow, paths.values())
        raise ArchiverError(f"the archive has no flow {make_safe(flow)}: {hint}")
    if len(found) > 1:
        spelled = " or ".join(paths[key] for key in found)
        raise ArchiverError(f"{make_safe(flow)} may be {make_safe(spelled)}: say which")
    return found[0], paths[found[0]]


def _no_flow(named: str, paths: Iterable[str]) -> ArchiverError:
    return ArchiverError(f"no flow in the archive matches {named}: {nearest(named, paths)}")


def nearest(flow: str, paths: Iterable[str]) -> str:
    """A hint about *flow*, which is none of *paths*: the most similar one, or where to look."""
    close = get_close_matches(flow.casefold(), [path.casefold() for path in paths], n=1)
    return f"did you mean {make_safe(close[0])}?" if close else "archiver status lists all flows"
