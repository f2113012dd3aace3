"""Whether streams bring what flows hold: the newest message of each flow, looked at now and then.

A stream may be connected and bring nothing, and nothing says so. What was said while it was not
connected shows only here when the flow is quiet afterwards. So each flow's newest message is asked
for soon after a connection was opened, and from then on again and again; one that is newer than all
that was heard and known, and still has not been heard of a settling time later, was kept back.
"""

from collections.abc import Iterable, Mapping


class Watch:
    """When to look at which flow, by flow key; times are the event loop's seconds."""

    def __init__(self, *, every_seconds: float, settling_seconds: float) -> None:
        self._every_seconds = every_seconds
        self._settling_seconds = settling_seconds
        self._due: dict[int, float] = {}
        self._known: dict[int, int] = {}
        self._heard: dict[int, int] = {}
        self._suspect: dict[int, int] = {}

    def expect(self, flow_keys: Iterable[int], *, now: float) -> None:
        """Have flows looked at; not at once, since their streams are opened first."""
        for key in flow_keys:
            self._due.setdefault(key, now + self._settling_seconds)

    def opened(self, flow_keys: Iterable[int], *, now: float) -> None:
        """Note that a stream of flows was opened: what came before it is listable when settled."""
        for key in flow_keys:
            self._due[key] = now + self._settling_seconds
            self._known.pop(key, None)
            self._suspect.pop(key, None)

    def heard(self, newest: Mapping[int, int]) -> None:
        """Note that a stream brought these ids, by flow key."""
        for flow_key, id_ in newest.items():
            if id_ > self._heard.get(flow_key, 0):
                self._heard[flow_key] = id_

    def due(self, *, now: float) -> list[int]:
        """The flows to look at now, the longest due first; each is then due again."""
        ripe = sorted((at, key) for key, at in self._due.items() if at <= now)
        for _, key in ripe:
            self._due[key] = now + self._every_seconds
        return [key for _, key in ripe]

    def is_suspect(self, flow_key: int) -> bool:
        """Tell whether the flow's stream may be keeping something back."""
        return flow_key in self._suspect

    def looked(self, flow_key: int, newest: int, *, now: float) -> bool:
        """Note the *newest* message of a flow; tells whether its stream kept something back."""
        known = self._known.get(flow_key)
        if known is None or newest <= max(known, self._heard.get(flow_key, 0)):
            self._known[flow_key] = max(newest, known or 0)
            self._suspect.pop(flow_key, None)
            return False
        suspect = self._suspect.get(flow_key)
        if suspect is None or suspect <= self._heard.get(flow_key, 0):
            # It may be on its way: look again when it must have come.
            self._suspect[flow_key] = newest
            self._due[flow_key] = now + self._settling_seconds
            return False
        self._known[flow_key] = newest
        del self._suspect[flow_key]
        return True
