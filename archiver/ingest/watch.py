"""Whether streams bring what flows hold: the newest message of each flow, looked at now and then.

A stream may be connected and bring nothing, and nothing says so. What was said while it was not
connected shows only here when the flow is quiet afterwards. So each flow's newest message is asked
for soon after a connection was opened, and from then on again and again; one that is newer than all
that was heard and known, and still has not been heard of a settling time later, was kept back.

Where connections do not last as long as that, flows are looked at all the same: it says nothing of
the stream then, but what is new comes in that way alone.
"""

from collections.abc import Iterable, Mapping


class Watch:
    """When to look at which flow, by flow key; times are the event loop's seconds."""

    def __init__(self, *, every_seconds: float, settling_seconds: float) -> None:
        self._every_seconds = every_seconds
        self._settling_seconds = settling_seconds
        self._due: dict[int, float] = {}
        self._settles: dict[int, float] = {}
        self._known: dict[int, int] = {}
        self._heard: dict[int, int] = {}
        self._suspect: dict[int, int] = {}

    def expect(self, flow_keys: Iterable[int], *, now: float) -> None:
        """Have flows looked at; not at once, since their streams are opened first."""
        for key in flow_keys:
            self._due.setdefault(key, now + self._settling_seconds)

    def opened(self, flow_keys: Iterable[int], *, now: float) -> None:
        """Note that a stream of flows was opened: what came before it is listable when settled."""
        settles = now + self._settling_seconds
        for key in flow_keys:
            self._settles[key] = settles
            self._due[key] = min(settles, self._due.get(key, settles))
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
            settles = self._settles.get(key, now)
            self._due[key] = settles if settles > now else now + self._every_seconds
        return [key for _, key in ripe]

    def is_suspect(self, flow_key: int) -> bool:
        """Tell whether the flow's stream may be keeping something back."""
        return flow_key in self._suspect

    def looked(self, flow_key: int, newest: int, *, now: float) -> bool:
        """Note the *newest* message of a flow, asked for at *now*.

        Tells whether its stream kept something back.
        """
        if now < self._settles.get(flow_key, now):
            return False
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
