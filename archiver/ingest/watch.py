"""Checking that streams bring what is sent: the newest message of each flow, requested regularly.

A stream may be connected and yet bring nothing, without any sign of it. And if a flow is quiet
after a reconnect, nothing else shows what was sent while the stream was down. So each flow's newest
message is requested soon after a stream was opened, and regularly from then on. If it is newer than
all that was known or came on the stream, and has not come one settling time later either, then the
stream has kept it back.

Where connections do not even last that long, flows are checked all the same. That says nothing
about the stream, but it is the only way in which new messages come in.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class _Checks:
    """The checks of one flow."""

    due_at: float = math.inf
    settles_at: float = -math.inf
    """When all that was sent before its stream was opened is sure to be listed."""
    found: int | None = None
    """The newest message that a check since then found, unless it is suspect."""
    heard: int = 0
    """The newest id that a stream brought."""
    suspect: int | None = None
    """The newest message that a check found, but that no stream has brought yet."""


class Watch:
    """When to check which flow, by flow key; times are the event loop's seconds."""

    def __init__(self, *, every_seconds: float, settling_seconds: float) -> None:
        self._every_seconds = every_seconds
        self._settling_seconds = settling_seconds
        self._flows = defaultdict[int, _Checks](_Checks)

    def expect(self, flow_keys: Iterable[int], *, now: float) -> None:
        """Have flows checked; not at once, since their streams are opened first."""
        for key in flow_keys:
            one = self._flows[key]
            if one.due_at == math.inf:
                one.due_at = now + self._settling_seconds

    def opened(self, flow_keys: Iterable[int], *, now: float) -> None:
        """Note that a stream of flows was opened, and have them checked a settling time later.

        Only then is what was sent before the opening sure to be listed.
        """
        for key in flow_keys:
            one = self._flows[key]
            one.settles_at = now + self._settling_seconds
            one.due_at = min(one.due_at, one.settles_at)
            one.found = None
            one.suspect = None

    def heard(self, newest: Mapping[int, int]) -> None:
        """Note that a stream brought these ids, by flow key."""
        for key, id_ in newest.items():
            one = self._flows[key]
            one.heard = max(one.heard, id_)

    def due(self, *, now: float) -> list[int]:
        """The flows to check now, the longest due first; schedules the next check of each."""
        ripe = sorted((one.due_at, key) for key, one in self._flows.items() if one.due_at <= now)
        for _, key in ripe:
            one = self._flows[key]
            one.due_at = one.settles_at if one.settles_at > now else now + self._every_seconds
        return [key for _, key in ripe]

    def is_suspect(self, flow_key: int) -> bool:
        """Tell whether the flow's stream may be keeping something back."""
        return flow_key in self._flows and self._flows[flow_key].suspect is not None

    def looked(self, flow_key: int, newest: int, *, now: float) -> bool:
        """Note the *newest* message of a flow, requested at *now*.

        Returns whether the flow's stream has kept something back.
        """
        one = self._flows[flow_key]
        if now < one.settles_at:
            return False
        if one.found is None or newest <= max(one.found, one.heard):
            # The first check since the stream was opened shows what was sent before.
            one.found = max(newest, one.found or 0)
            one.suspect = None
            return False
        if one.suspect is None or one.suspect <= one.heard:
            # It may be on its way: check again when it must have arrived.
            one.suspect = newest
            one.due_at = now + self._settling_seconds
            return False
        one.found = newest
        one.suspect = None
        return True
