"""Which flow an event belongs to: from the name in the event to the flow's key.

Events name a flow by its id. Old events say ``organization:flow`` where the flow now has a random
id, so both spellings of a path lead to the flow, too. Some flows still have such an id, and keep it
when they are renamed: it remains theirs, whichever flow has the path since. A private event names
no flow, but its sender and its recipient, one of whom is the account's own user. If it was sent to
that user under the name of somebody external, it does not tell whose conversation it is in; only a
listing shows that.
"""

from collections.abc import Iterable
from datetime import datetime
from functools import partial

from archiver.domain.events import Event, Signal
from archiver.domain.model import NOBODY, Flow, FlowId, UserId, id_of_old, private_path
from archiver.ingest.apply import when_possible
from archiver.store import directory
from archiver.store.connection import Engine, Transaction


class Names:
    """The keys of the flows in an archive, by all names of each."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys: dict[str, int] = {}
        self._listed: set[str] = set()
        """The ids of the flows that the service has listed."""
        self._spellings: set[str] = set()
        """The paths that lead to flows, and how old events write them."""

    async def load(self) -> None:
        """Read the ids of the flows in the archive."""
        keys = await when_possible(self._engine, directory.flow_keys)
        self._keys.update((str(name), key) for name, key in keys.items())
        self._listed |= await when_possible(self._engine, directory.listed_flows)

    async def load_paths(self) -> None:
        """Read the paths of the flows in the archive, and derive how old events write them.

        Such an old name may be the id in the archive, too: of a flow that only old events have
        named, before the service listed its path. As in `see`, the flow at the path has the name.
        """
        paths = await when_possible(self._engine, directory.flow_paths)
        self._lead((path, key) for key, path in paths.items())
        self._lead((id_of_old(path), key) for key, path in paths.items() if "/" in path)

    async def see(self, flows: Iterable[Flow], *, now: datetime) -> dict[FlowId, int]:
        """Store flows as the service lists them; returns their keys.

        A path that several of them have in common leads to the one that has it in the archive.
        """
        listed = list(flows)

        async def store(tx: Transaction) -> tuple[dict[FlowId, int], dict[int, str]]:
            keys = await directory.see_flows(tx, listed, now=now)
            return keys, await directory.flow_paths(tx)

        keys, paths = await when_possible(self._engine, store)
        self._listed.update(flow.id for flow in listed)
        self._keys.update((str(name), key) for name, key in keys.items())
        listed.sort(key=lambda flow: paths[keys[flow.id]] == flow.path)
        self._lead((flow.path, keys[flow.id]) for flow in listed)
        self._lead((id_of_old(flow.path), keys[flow.id]) for flow in listed)
        return keys

    def is_another(self, name: FlowId, flow_key: int) -> bool:
        """Tell whether *name* is that of a flow other than *flow_key*, even if it is unknown.

        An unknown name is that of another flow if it is an id. If it is written the old way, the
        flow may just have been renamed since.
        """
        known = self._keys.get(name)
        return ":" not in name if known is None else known != flow_key

    def tells(self, name: FlowId) -> bool:
        """Tell whether *name* is an id; if not, it is the old spelling of a path.

        A flow that has the path by now may not be the one that had it then, nor the one that is
        called so: it may have such an id, and not have been listed yet.
        """
        return name in self._listed or ":" not in name

    def is_old(self, name: FlowId) -> bool:
        """Tell whether *name* leads to a flow only because that has the path which it spells."""
        return name in self._spellings and name not in self._listed

    def is_same(self, name: FlowId | None, flow_key: int) -> bool:
        """Tell whether *name* is known to be that of *flow_key*."""
        return name is not None and self._keys.get(name) == flow_key

    def under(self, prefix: str) -> frozenset[int]:
        """The keys of all known flows whose names begin with *prefix*."""
        return frozenset(key for name, key in self._keys.items() if name.startswith(prefix))

    def has_listed(self, id_: FlowId) -> bool:
        """Tell whether the service has ever listed the flow with this id."""
        return id_ in self._listed

    def known(self, name: FlowId) -> int | None:
        """The key of the flow called *name*; None when it is new."""
        return self._keys.get(name)

    async def key(self, name: FlowId, *, now: datetime) -> int:
        """The key of the flow called *name*; a new flow gets a row."""
        if name not in self._keys:
            name_it = partial(directory.name_flows, named=[name], now=now)
            named = await when_possible(self._engine, name_it)
            self._keys[name] = named[name]
        return self._keys[name]

    def _lead(self, spellings: Iterable[tuple[str, int]]) -> None:
        """Let these spellings of paths lead to flows, except those that are the id of a flow."""
        leading = {name: key for name, key in spellings if name not in self._listed}
        self._keys.update(leading)
        self._spellings.update(leading)


def flow_named(event: Event | Signal, *, me: UserId) -> FlowId | None:
    """The flow that *event* names; None when it names none."""
    if event.flow is not None:
        return event.flow
    if event.to is None or event.user is None:
        return None
    other = event.user if event.to == me else event.to
    return None if other == NOBODY else private_path(me, other)
