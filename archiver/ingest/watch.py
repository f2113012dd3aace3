"""Checking that streams bring what is sent: the newest message of each flow, requested regularly.

A stream may be connected and yet bring nothing, without any sign of it. And if a flow is quiet
after a reconnect, nothing else shows what was sent while the stream was down. So each flow's newest
message is requested soon after a stream was opened, and regularly from then on. If it is newer than
all that was known or came on the stream, and has not come one settling time later either, then the
stream has kept it back.

Where connections do not even last that long, flows are checked all the same. That says nothing
about the stream, but it is the only way in which new messages come in.
"""

from collections.abc import Iterable, Mapping


class Watch:
    """When to check which flow, by flow key; times are the event loop's seconds."""

    def __init__(self, *, every_seconds: float, settling_seconds: float) -> None:
        self._every_seconds = every_seconds
        self._settling_seconds = settling_seconds
        self._due: dict[int, float] = {}
        """When to check it next."""
        self._settles: dict[int, float] = {}
        """When all that was sent before its stream was opened is sure to be listed."""
        self._known: dict[int, int] = {}
        """The newest message that a check since then found, unless it is suspect."""
        self._heard: dict[int, int] = {}
        """The newest id that a stream brought."""
        self._suspect: dict[int, int] = {}
        """The newest message that a check found, but that no stream has brought yet."""

    def expect(self, flow_keys: Iterable[int], *, now: float) -> None:
        """Have flows checked; not at once, since their streams are opened first."""
        for key in flow_keys:
            self._due.setdefault(key, now + self._settling_seconds)

    def opened(self, flow_keys: Iterable[int], *, now: float) -> None:
        """Note that a stream of flows was opened, and have them checked a settling time later.

        Only then is what was sent before the opening sure to be listed.
        """
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
        """The flows to check now, the longest due first; schedules the next check of each."""
        ripe = sorted((at, key) for key, at in self._due.items() if at <= now)
        for _, key in ripe:
            settles = self._settles.get(key, now)
            self._due[key] = settles if settles > now else now + self._every_seconds
        return [key for _, key in ripe]

    def is_suspect(self, flow_key: int) -> bool:
        """Tell whether the flow's stream may be keeping something back."""
        return flow_key in self._suspect

    def looked(self, flow_key: int, newest: int, *, now: float) -> bool:
        """Note the *newest* message of a flow, requested at *now*.

        Returns whether the flow's stream has kept something back.
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
            # It may be on its way: check again when it must have arrived.
            self._suspect[flow_key] = newest
            self._due[flow_key] = now + self._settling_seconds
            return False
        self._known[flow_key] = newest
        del self._suspect[flow_key]
        return True
