"""Which flows of an account are archived: looked up again and again, and set aside when lost.

A flow that cannot be read is left aside for a while and does not take the others down. Of what can
be read, each daemon that works on the archive has its share.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Collection
from datetime import datetime
from functools import partial

from archiver.domain.model import UserId, is_private
from archiver.domain.sharing import private_slot, slot_of
from archiver.flowdock.breaks import what_said
from archiver.flowdock.refusals import FlowRefused, TokenRefused
from archiver.ingest.apply import when_possible
from archiver.ingest.backfill import UNANSWERED
from archiver.ingest.batch import Arrival
from archiver.ingest.claims import tells_of_membership
from archiver.ingest.directory import Choice, Readable, look_up, lose_unlisted
from archiver.ingest.leases import Share
from archiver.ingest.names import Names
from archiver.ingest.source import Source
from archiver.ingest.tally import AccountTally
from archiver.store import missing

log = logging.getLogger(__name__)

FRESH_SECONDS = 1.0

UNTOLD_SECONDS = 3600.0
"""How often it is noted that the newest message of a flow is still not told."""

IDLE_PATTERN = "no joined flow is like this pattern of ARCHIVER_FLOWS (flows in the file)"
NONE_WANTED = "no joined flow is wanted: correct ARCHIVER_FLOWS (flows in the file)"
NONE_JOINED = "no flow is joined: join flows in Flowdock"


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
        """Set when the flows are to be looked up anew, or dealt out anew to connections."""
        self._choice = choice
        self._share = share
        self._me: UserId | None = None
        self._names = names
        self._tally = tally
        self._aside_seconds = aside_seconds
        self._now = now
        self._aside: dict[str, float] = {}
        self._unknown: set[int] = set()
        self._untold_at: dict[int, float] = {}
        self._unmeasured: set[int] = set()
        self._looked_up_at = -math.inf
        self._listed_at: datetime | None = None
        self._followed: tuple[int, int] | None = None
        self._warnings: list[tuple[str, dict[str, str]]] = []

    def replan(self, choice: Choice) -> None:
        """Archive other flows from now on."""
        self._choice = choice
        self.stale.set()

    @property
    def follows_private(self) -> bool:
        """Tell whether private conversations are to be followed."""
        if not self._choice.private or self._me is None:
            return self._choice.private
        return self._share.holds(private_slot(self._me))

    def begin(self, me: UserId) -> None:
        """Note whose flows these are, before they are looked up."""
        self._me = me
        self._share.listen(self._tally.name, self.stale.set)

    def end(self) -> None:
        """Leave all to whoever else can read it."""
        self._share.forget(self._tally.name)

    async def look_up(self) -> None:
        """Ask for the account's flows, and leave out those that were refused a short while ago."""
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
            # Since then the other accounts had their turn, too, if nobody could ask for days; and
            # the clock may have been set back.
            listed_at = min(self._listed_at, self._now())
            await lose_unlisted(self.source.engine, now=listed_at)
        self._listed_at = self._now()
        for key in self.source.paths.keys() - found.wanted.keys():
            await self._end(key)
        self.source.visible = {
            key: path for key, path in found.wanted.items() if self._aside.get(path, 0.0) <= clock()
        }
        untold = partial(missing.untold, flow_keys=self.source.visible)
        # Noted by another daemon, or before a restart: whoever hears of the flow again says so.
        self.source.untold = await when_possible(self.source.engine, untold) | self.source.untold
        unmeasured = partial(missing.unmeasured, flow_keys=self.source.visible)
        self._unmeasured = set(await when_possible(self.source.engine, unmeasured))
        self._warn_of_choice(found)
        await self._share.see(self._tally.name, self._slots())
        self.take_share()

    def take_share(self) -> None:
        """Read what is ours of all that can be read."""
        visible = self.source.visible
        self.source.paths = {
            key: path for key, path in visible.items() if self._share.holds(slot_of(path))
        }
        self._tell_followed()

    async def look_at_head(self, flow_key: int) -> int | None:
        """The newest message's id of a flow; None if it is not told. A lost flow is set aside."""
        path = self.source.paths.get(flow_key)
        if path is None:
            return None
        try:
            newest = await self.source.look_at_head(flow_key)
        except TokenRefused:
            raise
        except FlowRefused as refusal:
            clock = asyncio.get_running_loop().time
            self._aside[path] = clock() + self._aside_seconds
            await self.source.lose(flow_key, reason=str(refusal))
            self.source.untold[flow_key] = str(refusal)
            self.stale.set()
        except UNANSWERED as error:
            log.warning("head not told", extra={"flow": path, "reason": error})
            await self._note_untold(flow_key, what_said(error))
        else:
            await self._note_told(flow_key)
            return newest
        return None

    def connected(self) -> None:
        """Note that a stream was opened: flows may have been joined before it was."""
        if asyncio.get_running_loop().time() - self._looked_up_at > FRESH_SECONDS:
            self.stale.set()

    def heard(self, arrivals: Collection[Arrival]) -> None:
        """Note what a stream told: it may speak of a flow that is not known, or of membership."""
        named = {arrival.flow_key for arrival in arrivals if arrival.flow_key is not None}
        new = [key for key in named if key not in self.source.visible and key not in self._unknown]
        self._unknown.update(new)
        told = any(tells_of_membership(arrival.decoded, self._me) for arrival in arrivals)
        if new or told:
            self.stale.set()

    async def _note_untold(self, flow_key: int, reason: str) -> None:
        """Have it seen that nobody knows what is new in a flow."""
        now = asyncio.get_running_loop().time()
        is_new = self.source.untold.get(flow_key) != reason
        self.source.untold[flow_key] = reason
        if is_new or now - self._untold_at.get(flow_key, -math.inf) >= UNTOLD_SECONDS:
            self._untold_at[flow_key] = now
            await self.source.note_head(flow_key, error=reason)

    async def _note_told(self, flow_key: int) -> None:
        """Have it seen that what is new in a flow is told, or that it was found empty."""
        is_empty = not self.source.heads.newest(flow_key)
        is_news = is_empty and flow_key in self._unmeasured
        if self.source.untold.pop(flow_key, None) is not None or is_news:
            await self.source.note_head(flow_key, error=None)
            self._unmeasured.discard(flow_key)

    async def _end(self, flow_key: int) -> None:
        """Read a flow no more that is not wanted, or cannot be read any more."""
        path = self.source.paths.get(flow_key)
        if path is None:
            return  # it was lost while another was ended
        if self._choice.is_wanted(path):
            await self.source.lose(flow_key, reason="not listed any more")
        else:
            log.info("flow excluded", extra={"flow": path})
            await self.source.leave_out(flow_key)

    def _slots(self) -> set[str]:
        slots = {slot_of(path) for path in self.source.visible.values()}
        if self._choice.private and self._me is not None:
            slots.add(private_slot(self._me))
        return slots

    def _warn_of_choice(self, found: Readable) -> None:
        """Warn, once and again when it changes, of a choice that leads to nothing.

        It may be mistyped, or speak of a flow that is yet to be joined.
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
        """Tell once, and again when it changes, what is followed."""
        self._tally.paths = self.source.paths
        self._tally.elsewhere = len(self.source.visible) - len(self.source.paths)
        private = sum(is_private(path) for path in self.source.paths.values())
        followed = (len(self.source.paths) - private, private)
        if followed != self._followed:
            self._followed = followed
            about = {"account": self._tally.name, "flows": followed[0], "conversations": private}
            told = log.info if self.source.visible else log.warning
            told("following", extra=about)
