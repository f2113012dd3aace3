"""Which flow an event belongs to: from what it says to the key of its rows.

Events name a flow by its id. Old ones say ``organization:flow`` for a flow that has a random id
now, so both spellings of a path lead to the flow as well. A private event names nobody's flow, but
its sender and its recipient, one of whom is the account's own user.
"""

from collections.abc import Iterable
from datetime import datetime
from functools import partial

from archiver.domain.events import Event, Signal
from archiver.domain.model import Flow, FlowId, UserId, id_of_old, private_path
from archiver.ingest.apply import when_possible
from archiver.store import directory
from archiver.store.connection import Engine


class Names:
    """The flows that an archive knows, by all the names they go by."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys: dict[str, int] = {}

    async def load(self) -> None:
        """Learn the flows that the archive has."""
        keys = await when_possible(self._engine, directory.flow_keys)
        self._keys.update((str(name), key) for name, key in keys.items())

    async def load_paths(self) -> None:
        """Learn by which paths the flows go, and how old events write them.

        That may be the id of a flow which was only named so, before the service listed its path.
        """
        paths = await when_possible(self._engine, directory.flow_paths)
        for key, path in paths.items():
            self._keys[path] = self._keys[id_of_old(path)] = key

    async def see(self, flows: Iterable[Flow], *, now: datetime) -> dict[FlowId, int]:
        """Store flows as the service lists them; returns their keys."""
        listed = list(flows)
        see = partial(directory.see_flows, listed=listed, now=now)
        keys = await when_possible(self._engine, see)
        for flow in listed:
            for name in (flow.id, flow.path, id_of_old(flow.path)):
                self._keys[name] = keys[flow.id]
        return keys

    def is_another(self, name: FlowId, flow_key: int) -> bool:
        """Tell whether *name* is that of another flow than *flow_key*, known or not."""
        return is_another(name, flow_key, known=self._keys.get(name))

    def is_same(self, name: FlowId | None, flow_key: int) -> bool:
        """Tell whether *name* is known to be that of *flow_key*."""
        return name is not None and self._keys.get(name) == flow_key

    def under(self, prefix: str) -> frozenset[int]:
        """The keys of all known flows whose names begin with *prefix*."""
        return frozenset(key for name, key in self._keys.items() if name.startswith(prefix))

    def known(self, name: FlowId) -> int | None:
        """The key of the flow that goes by *name*; None when it is new."""
        return self._keys.get(name)

    async def key(self, name: FlowId, *, now: datetime) -> int:
        """The key of the flow that goes by *name*; a row is made for one that is new."""
        if name not in self._keys:
            name_it = partial(directory.name_flows, named=[name], now=now)
            named = await when_possible(self._engine, name_it)
            self._keys[name] = named[name]
        return self._keys[name]


def is_another(name: FlowId, flow_key: int, *, known: int | None) -> bool:
    """Tell whether *name*, *known* to be that of a flow or of none, is not that of *flow_key*.

    One that nobody knows is, if it is an id; else it is of old, and the flow may have been renamed.
    """
    return ":" not in name if known is None else known != flow_key


def flow_named(event: Event | Signal, *, me: UserId) -> FlowId | None:
    """The flow that *event* names; None when it names none."""
    if event.flow is not None:
        return event.flow
    if event.to is None or event.user is None:
        return None
    return private_path(me, event.user if event.to == me else event.to)
