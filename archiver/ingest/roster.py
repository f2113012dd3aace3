"""Which flows of an account are archived: looked up again and again, and set aside when lost.

A flow that cannot be read is set aside for a while, so that it does not take down the others. The
flows that can be read are shared among the daemons that work on the archive.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Collection
from datetime import datetime
from functools import partial

from archiver.domain.model import UserId, is_private
from archiver.domain.sharing import private_slot, slot_of
from archiver.flowdock.breaks import reason_of
from archiver.flowdock.client import UNANSWERED
from archiver.flowdock.refusals import FlowRefused, TokenRefused
from archiver.ingest.apply import when_possible
from archiver.ingest.batch import Arrival
from archiver.ingest.claims import tells_of_membership
from archiver.ingest.directory import Choice, Readable, look_up, lose_unlisted
from archiver.ingest.ends import EndElsewhere
from archiver.ingest.leases import Share
from archiver.ingest.names import Names
from archiver.ingest.source import Source
from archiver.ingest.tally import AccountTally
from archiver.store import missing

log = logging.getLogger(__name__)

FRESH_SECONDS = 1.0

ELSEWHERE_SECONDS = 60.0
"""How often to look up the flows at most while a path leads to another flow than is listed there.

The first time they are looked up at once."""

UNTOLD_SECONDS = 3600.0
"""How often to record in the ledger that the newest message of a flow is still unknown."""

IDLE_PATTERN = "no joined flow matches this pattern of ARCHIVER_FLOWS (flows in the file)"
NONE_WANTED = "ARCHIVER_FLOWS (flows in the file) selects no joined flow: correct it"
NONE_JOINED = "the user of the token has joined no flow: join flows in Flowdock"


class Roster:
    """The flows of one account; `Source.paths` holds those that are to be read now."""

    def __init__(
        self,
        source: Source,
        names: Names,
        *,
        tally: AccountTally,
        choice: Choice,
        share: Share,
        aside_seconds: float,
        now: Callable[[], datetime],
    ) -> None:
        self.source = source
        self.stale = asyncio.Event()
        """Set when the flows have to be looked up again, or distributed again over connections."""
        self._choice = choice
        self._share = share
        self._me: UserId | None = None
        self._names = names
        self._tally = tally
        self._aside_seconds = aside_seconds
        self._now = now
        self._aside: dict[tuple[int, str], float] = {}
        """By flow key and path: until when a refused flow is left out, in the event loop's seconds.

        Neither another flow that has the path since nor the flow at another path was refused."""
        self._unlisted: set[int] = set()
        """Flows that a stream brought although they were not to be read; each caused one lookup."""
        self._untold_at: dict[int, float] = {}
        """By flow key: when the ledger was last told that the newest message is unknown."""
        self._unmeasured: set[int] = set()
        """Flows of which nobody knows how far their ids go, as in `store.missing`."""
        self._looked_up_at = -math.inf
        """When the last lookup began, in the event loop's seconds, whatever came of it."""
        self._listed_at: datetime | None = None
        """When the service last listed the flows."""
        self._followed: tuple[int, int] | None = None
        """The numbers of flows and conversations that were last logged."""
        self._warnings: list[tuple[str, dict[str, str]]] = []
        """The warnings of the operator's choice that were last logged."""

    def replan(self, choice: Choice) -> None:
        """Archive the flows of another *choice* from now on."""
        self._choice = choice
        self.stale.set()

    @property
    def follows_private(self) -> bool:
        """Tell whether private conversations are to be followed."""
        if not self._choice.private or self._me is None:
            return self._choice.private
        return self._share.holds(private_slot(self._me))

    def begin(self, me: UserId) -> None:
        """Note the user whose flows these are, before they are looked up."""
        self._me = me
        self._share.listen(self._tally.name, self.stale.set)

    def end(self) -> None:
        """Leave all flows to the other accounts and daemons that can read them."""
        self._share.forget(self._tally.name)

    async def look_up(self) -> None:
        """Look up the account's flows, and leave out those that were refused a short while ago."""
        clock = asyncio.get_running_loop().time
        self._looked_up_at = clock()
        found = await look_up(
            self.source.client,
            self.source.engine,
            self._names,
            choice=self._choice,
            now=self._now,
        )
        if self._listed_at is not None:
            # By the time of the last lookup, not this one: after days without an answer, the other
            # accounts have to list their flows first. And the clock may have been set back.
            listed_at = min(self._listed_at, self._now())
            await lose_unlisted(self.source.engine, choice=self._choice, now=listed_at)
        self._listed_at = self._now()
        for key in self.source.paths.keys() - found.wanted.keys():
            await self._end(key, can_be_read=key in found.excluded)
        self.source.visible = {
            key: path
            for key, path in found.wanted.items()
            if self._aside.get((key, path), 0.0) <= clock()
        }
        for key in found.wanted.keys() - self.source.visible.keys():
            # The listing has just recorded that it can be read, but it was refused.
            await self.source.note_unreadable(key)
        untold = partial(missing.untold, flow_keys=self.source.visible)
        # Read from the ledger, where another daemon or an earlier run has noted it, so that this
        # daemon clears it once the newest message is known again.
        self.source.untold = await when_possible(self.source.engine, untold) | self.source.untold
        unmeasured = partial(missing.unmeasured, flow_keys=self.source.visible)
        self._unmeasured = set(await when_possible(self.source.engine, unmeasured))
        self._warn_of_choice(found)
        await self._share.see(self._tally.name, self._slots())
        self.take_share()

    def take_share(self) -> None:
        """Make `Source.paths` our share of all that can be read."""
        visible = self.source.visible
        self.source.paths = {
            key: path for key, path in visible.items() if self._share.holds(slot_of(path))
        }
        self._tell_followed()

    async def look_at_head(self, flow_key: int) -> int | None:
        """Request the newest message of a flow; set the flow aside if it is lost.

        Returns the message's id, 0 if there is no message, or None if there was no answer.
        """
        path = self.source.paths.get(flow_key)
        if path is None:
            return None
        try:
            newest = await self.source.look_at_head(flow_key)
        except TokenRefused:
            raise
        except FlowRefused as refusal:
            clock = asyncio.get_running_loop().time
            self._aside[flow_key, path] = clock() + self._aside_seconds
            await self.source.lose(flow_key, reason=str(refusal))
            self.source.untold[flow_key] = str(refusal)
            self.stale.set()
        except UNANSWERED as error:
            if isinstance(error, EndElsewhere):
                self._note_elsewhere(flow_key)
            reason = reason_of(error)
            log.warning(
                "cannot fetch the newest message of a flow", extra={"flow": path, "reason": reason}
            )
            await self._note_untold(flow_key, reason)
        else:
            await self._note_told(flow_key)
            return newest
        return None

    def _note_elsewhere(self, flow_key: int) -> None:
        """Note that a path led to another flow; look the flows up again, at first at once."""
        passed = asyncio.get_running_loop().time() - self._looked_up_at
        if flow_key not in self.source.astray or passed >= ELSEWHERE_SECONDS:
            self.stale.set()
        self.source.astray.add(flow_key)

    def connected(self) -> None:
        """Note that a stream was opened: flows may have been joined while there was none."""
        if asyncio.get_running_loop().time() - self._looked_up_at > FRESH_SECONDS:
            self.stale.set()

    def heard(self, arrivals: Collection[Arrival]) -> None:
        """Note what a stream brought; an unknown flow or a change of membership needs a lookup."""
        named = {arrival.flow_key for arrival in arrivals if arrival.flow_key is not None}
        new = [key for key in named if key not in self.source.visible and key not in self._unlisted]
        self._unlisted.update(new)
        told = any(tells_of_membership(arrival.decoded, self._me) for arrival in arrivals)
        if new or told:
            self.stale.set()

    async def _note_untold(self, flow_key: int, reason: str) -> None:
        """Record that the newest message of a flow is unknown, and why."""
        now = asyncio.get_running_loop().time()
        is_new = self.source.untold.get(flow_key) != reason
        self.source.untold[flow_key] = reason
        if is_new or now - self._untold_at.get(flow_key, -math.inf) >= UNTOLD_SECONDS:
            self._untold_at[flow_key] = now
            await self.source.note_head(flow_key, error=reason)

    async def _note_told(self, flow_key: int) -> None:
        """Record that the newest message of a flow is known again, or that the flow is empty."""
        is_empty = not self.source.heads.newest(flow_key)
        is_news = is_empty and flow_key in self._unmeasured
        if self.source.untold.pop(flow_key, None) is not None or is_news:
            await self.source.note_head(flow_key, error=None)
            self._unmeasured.discard(flow_key)

    async def _end(self, flow_key: int, *, can_be_read: bool) -> None:
        """Stop reading a flow that is no longer wanted, or can no longer be read."""
        path = self.source.paths.get(flow_key)
        if path is None:
            return  # it was lost while `look_up` ended another
        if self._choice.is_wanted(path) and not can_be_read:
            await self.source.lose(flow_key, reason="Flowdock no longer lists it")
        else:
            log.info("flow excluded by the settings", extra={"flow": path})
            self.source.leave_out(flow_key)

    def _slots(self) -> set[str]:
        slots = {slot_of(path) for path in self.source.visible.values()}
        if self._choice.private and self._me is not None:
            slots.add(private_slot(self._me))
        return slots

    def _warn_of_choice(self, found: Readable) -> None:
        """Warn, once and again whenever that changes, of patterns that match no flow.

        A pattern may be mistyped, or mean a flow that is yet to be joined.
        """
        about = {"account": self._tally.name}
        idle = self._choice.idle_patterns(found.joined) if found.joined else []
        warnings = [(IDLE_PATTERN, {**about, "pattern": pattern}) for pattern in idle]
        if not found.wanted and not idle:
            warnings.append((NONE_WANTED if found.joined else NONE_JOINED, about))
        for warning, extra in warnings if warnings != self._warnings else ():
            log.warning(warning, extra=extra)
        self._warnings = warnings

    def _tell_followed(self) -> None:
        """Log how many flows are followed, once and again whenever that changes."""
        self._tally.follow(self.source.paths, now=asyncio.get_running_loop().time())
        self._tally.elsewhere = len(self.source.visible) - len(self.source.paths)
        private = sum(is_private(path) for path in self.source.paths.values())
        followed = (len(self.source.paths) - private, private)
        if followed != self._followed:
            self._followed = followed
            about = {"account": self._tally.name, "flows": followed[0], "conversations": private}
            told = log.info if self.source.visible else log.warning
            told("following", extra=about)
