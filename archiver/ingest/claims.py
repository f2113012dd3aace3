"""What the open connections prove, flow by flow.

`Claims` is fed with what is written, in the same order, so that nothing is claimed that is not
kept. A claim ends with its connection, with input that could not be placed (it may have been an
event of any flow), with an event that Postgres refused, and when the account leaves or joins the
flow: an open stream may bring nothing of the flow in between.

An event that was not kept may have changed an older message, and no listing of new messages would
show that. So its flow is reported as *lacking* something, and is doubted as if its stream had been
opened again. The same holds for a change that does not say which message it is about.

A connection is known to bring all events only of the flows that it was opened for, and of private
conversations. Whatever else it brings is kept, but proves nothing.

What a connection proved last may be written after it has ended, and even after another daemon has
opened a stream of the same flow. Nobody listened in between, so it is claimed and doubted at once.

An event of an unknown kind is kept but left out of the claim: if it is a message, a listing shows
it.

What a connection brings at first may be a replay of earlier events, and nobody knows how complete
that is or where it begins. So a claim begins neither before the settling time is over, nor with an
event that was sent before the connection was open, by the service's clock.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from archiver.domain.coverage import Continuity, Ranges
from archiver.domain.events import Decoded, Noted, Rejected, Signal
from archiver.domain.model import UserId
from archiver.flowdock.decode import member_of
from archiver.ingest.intake import Began, Came, Ended, Item
from archiver.store.coverage import Standing

MEMBERSHIP = frozenset({"flow-add", "flow-remove"})
"""Signals that say that the account's flows have changed; they come with private messages."""

AGAIN_SECONDS = 600.0
"""How often to report the same flow as lacking something.

If a service keeps sending what cannot be kept, its flows must not be listed again all the time."""

TOLD_TO = timedelta(seconds=1)
"""The resolution of the service's clock."""


@dataclass(slots=True)
class _Connection:
    since: float
    """Events that arrived earlier begin no claim."""
    live_from: datetime
    """Events that were sent earlier begin no claim."""
    flow_keys: frozenset[int]
    """The flows that it was opened for."""
    me: UserId
    flows: dict[int, Continuity] = field(default_factory=dict)


class Claims:
    """The claims of all connections; times are the event loop's seconds."""

    def __init__(self, *, settling_seconds: float) -> None:
        self._settling_seconds = settling_seconds
        self._connections: dict[int, _Connection] = {}
        self._gained: dict[int, Ranges] = {}
        self._ended: set[int] = set()
        """Flows of which a connection has ended since the last `take`."""
        self._lacking: set[int] = set()
        """Flows of which something was not kept, and which `lacking` has not returned yet."""
        self._told_at: dict[int, float] = {}

    def note(self, items: Iterable[Item]) -> frozenset[int]:
        """Note *items*, in the order in which they came.

        Returns the keys of the flows of which something may have been missed before: their streams
        were opened, or the account has joined or left them.
        """
        anew: set[int] = set()
        for item in items:
            match item:
                case Came():
                    anew |= self._note_arrivals(item)
                case Began():
                    since = item.at + self._settling_seconds
                    live_from = item.answered_at + TOLD_TO
                    opened = _Connection(since, live_from, item.flow_keys, item.me)
                    self._connections[item.connection] = opened
                    anew |= item.flow_keys
                case Ended():
                    self._settle(item.connection, now=item.at)
                    if ended := self._connections.pop(item.connection, None):
                        self._ended |= ended.flow_keys | ended.flows.keys()
        return frozenset(anew)

    def lacking(self, *, now: float) -> frozenset[int]:
        """The keys of flows of which something was not kept, each once in `AGAIN_SECONDS`."""
        if not self._lacking:
            return frozenset()
        before = now - AGAIN_SECONDS
        told = {key for key in self._lacking if self._told_at.get(key, -math.inf) <= before}
        self._lacking -= told
        self._told_at.update(dict.fromkeys(told, now))
        return frozenset(told)

    def take(self, *, now: float) -> dict[int, Standing]:
        """By flow key: what has been proven since the last call."""
        for connection in self._connections:
            self._settle(connection, now=now)
        gains = {
            flow_key: Standing(
                streamed=ranges,
                due=ranges.last,
                doubted=ranges if flow_key in self._ended else Ranges(),
            )
            for flow_key, ranges in self._gained.items()
        }
        self._gained.clear()
        self._ended.clear()
        return gains

    def refuse(self, flow_keys: Iterable[int], *, now: float) -> None:
        """End the claims of flows of which something was not kept; new ones begin later."""
        keys = set(flow_keys)
        self._lacking |= keys
        self._end_claims(keys, now=now)

    def _end_claims(self, flow_keys: Iterable[int], *, now: float) -> None:
        for flow_key in flow_keys:
            # What was proven since the last `take` may include the event that was just refused.
            self._gained.pop(flow_key, None)
            for connection in self._connections.values():
                if flow_key in connection.flow_keys or flow_key in connection.flows:
                    connection.flows[flow_key] = Continuity(since=now + self._settling_seconds)

    def _note_arrivals(self, item: Came) -> set[int]:
        anew: set[int] = set()
        connection = self._connections.get(item.connection)
        if connection is None:
            return anew
        for arrival in item.arrivals:
            flow_key, decoded = arrival.flow_key, arrival.decoded
            if isinstance(decoded, Rejected):
                connection = self._after_reject(item, connection, flow_key)
            elif flow_key is None:
                continue
            elif tells_of_membership(decoded, connection.me):
                self._end_claims([flow_key], now=item.at)
                anew.add(flow_key)
            elif decoded.id is not None and (
                decoded.flow is None or flow_key in connection.flow_keys
            ):
                continuity = connection.flows.get(flow_key)
                if continuity is None:
                    continuity = Continuity(since=connection.since)
                    connection.flows[flow_key] = continuity
                if continuity.has_begun or _is_live(decoded.sent_at, connection):
                    continuity.arrived(decoded.id, at=item.at)
                if type(decoded) is Noted:
                    self._note_unread(flow_key, decoded, continuity, at=item.at)
        return anew

    def _note_unread(
        self, flow_key: int, noted: Noted, continuity: Continuity, *, at: float
    ) -> None:
        if noted.may_be_listed:
            continuity.leave_out(noted.id, at=at)
        if noted.may_change_any:
            self._lacking.add(flow_key)

    def _after_reject(
        self, item: Came, connection: _Connection, flow_key: int | None
    ) -> _Connection:
        """End the claims of *connection* after a reject; returns it as it goes on.

        What is lacking is the flow of the reject, or, if that is unknown, all flows of the
        connection.
        """
        self._settle(item.connection, now=item.at)
        since = item.at + self._settling_seconds
        known = connection.flow_keys | connection.flows.keys()
        self._lacking |= known if flow_key is None else {flow_key}
        begun = replace(connection, since=since, flows={})
        self._connections[item.connection] = begun
        return begun

    def _settle(self, connection: int, *, now: float) -> None:
        if connection not in self._connections:
            return
        before = now - self._settling_seconds
        for flow_key, continuity in self._connections[connection].flows.items():
            if claim := continuity.settled(before=before):
                self._gained[flow_key] = self._gained.get(flow_key, Ranges()) | claim


def tells_of_membership(decoded: Decoded, me: UserId | None) -> bool:
    """Tell whether *decoded* says that the user *me* has left or joined its flow.

    Either a signal says so, or an event in the flow itself. The latter is all there is where no
    stream brings private messages, or only one of another daemon does.
    """
    if isinstance(decoded, Signal):
        return decoded.kind in MEMBERSHIP
    member = member_of(decoded)
    return member is not None and member == me


def _is_live(sent_at: datetime | None, connection: _Connection) -> bool:
    """Tell whether what was *sent_at* cannot be a replay."""
    return sent_at is not None and sent_at >= connection.live_from
