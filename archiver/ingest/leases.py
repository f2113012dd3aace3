"""Several daemons on one archive: each captures its share, and takes over from those that end.

The unit of sharing is a *slot* (`archiver.domain.sharing`). Every few seconds a daemon reports that
it is running, which slots it could capture, and which of its slots have no open stream. Then it
reads which other daemons there are, computes its share, and takes it. It takes even slots that
another daemon has too many of, which that one notices in its next round. So a flow may be followed
twice for a moment, but is never left alone.

The archive is right even if none of this works. A daemon that cannot renew its leases goes on with
what it has; one that was believed dead goes on until it learns that its share was taken.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial
from typing import NoReturn, Protocol

from archiver.domain.sharing import deal
from archiver.ingest.apply import when_possible
from archiver.ingest.process import is_running
from archiver.ingest.tally import SharingTally
from archiver.store import leases
from archiver.store.connection import Engine, Transaction
from archiver.store.engine import DatabaseError, Fault, fault, transaction
from archiver.store.leases import Known, Sharer
from archiver.store.sessions import AnotherHistory

log = logging.getLogger(__name__)

ROUNDS_PER_LEASE = 5
"""How many times per lease a daemon renews it, and looks for leases that have ended."""

GIVING_BACK_SECONDS = 0.4
"""The time to give back slots: a daemon that is told to stop has one second for everything."""

NONE: frozenset[str] = frozenset()


class Share(Protocol):
    """The slots that this daemon captures, of all that its accounts can see."""

    def holds(self, slot: str) -> bool:
        """Tell whether *slot* is ours."""

    def listen(self, account: str, on_changed: Callable[[], None]) -> None:
        """Call *on_changed* whenever the share changes, until the account is forgotten."""

    async def see(self, account: str, slots: Collection[str]) -> None:
        """Note which slots an account can capture; afterwards `holds` takes them into account."""

    def forget(self, account: str) -> None:
        """Note that an account captures nothing any more."""


class Everything:
    """The share of a daemon that does not share: all slots."""

    def holds(self, _slot: str) -> bool:
        """All is ours."""
        return True

    def listen(self, account: str, on_changed: Callable[[], None]) -> None:
        """It never changes."""

    async def see(self, account: str, slots: Collection[str]) -> None:
        """Nothing is to be noted."""

    def forget(self, account: str) -> None:
        """Nothing is to be noted."""


EVERYTHING = Everything()


class Leases:
    """The share of one daemon among several; `keep` must be running."""

    def __init__(
        self,
        engine: Engine,
        me: Sharer,
        tally: SharingTally,
        *,
        heard: Callable[[], AbstractSet[str]],
        on_taken: Callable[[], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._me = me
        self._tally = tally
        self._heard = heard
        self._on_taken = on_taken
        self._sees: dict[str, frozenset[str]] = {}
        self._held = NONE
        self._listeners: dict[str, Callable[[], None]] = {}
        self._there = NONE
        self._turn = asyncio.Lock()
        self._told = (1, 0)

    def listen(self, account: str, on_changed: Callable[[], None]) -> None:
        """Call *on_changed* whenever the share changes, until the account is forgotten."""
        self._listeners[account] = on_changed

    def holds(self, slot: str) -> bool:
        """Tell whether *slot* is ours."""
        return slot in self._held

    async def see(self, account: str, slots: Collection[str]) -> None:
        """Note which slots an account can capture; afterwards `holds` takes them into account."""
        seen = frozenset(slots)
        if self._sees.get(account) != seen:
            self._sees[account] = seen
            await self._go_round(patiently=True, but=account)

    def forget(self, account: str) -> None:
        """Note that an account captures nothing any more; its slots are freed in the next round."""
        self._sees.pop(account, None)
        self._listeners.pop(account, None)

    async def keep(self) -> NoReturn:
        """Renew the leases and take our share, again and again."""
        await self._again_and_again(partial(self._go_round, patiently=False))

    async def give_back(self) -> None:
        """Leave all slots to the other daemons; if this fails, they wait until the lease ends."""
        with suppress(*DatabaseError, AnotherHistory, TimeoutError):
            async with asyncio.timeout(GIVING_BACK_SECONDS), transaction(self._engine) as tx:
                await leases.leave(tx, [self._me.key])

    async def close(self) -> None:
        """Close the connection."""
        await self._engine.dispose()

    async def _go_round(self, *, patiently: bool, but: str = "") -> None:
        """Renew our share, and notify all accounts *but* one if it has changed.

        If slots came to us, or a daemon is gone, read from the archive what is known of the flows:
        even of slots that we took from that daemon earlier, it may have written something since.
        """
        async with self._turn:
            before, is_first = self._held, not self._tally.renewed_at
            if patiently:
                after, there = await when_possible(self._engine, self._share)
            else:
                async with transaction(self._engine) as tx:
                    after, there = await self._share(tx)
            self._tally.renewed_at = asyncio.get_running_loop().time()
            if (after - before or self._there - there) and not is_first:
                await self._learn()
            self._held, self._there = after, there
        if after == before:
            return
        self._tally.change(taken=len(after - before), lost=len(before - after))
        self._tell()
        for account, on_changed in list(self._listeners.items()):
            if account != but:
                on_changed()

    async def _learn(self) -> None:
        """Read what the archive now knows of all flows; renew the leases meanwhile.

        Reading may take longer than a lease, if the database is slow or others hold locks.
        """

        async def beat() -> None:
            async with transaction(self._engine) as tx:
                await self._beat(tx)
            self._tally.renewed_at = asyncio.get_running_loop().time()

        async with asyncio.TaskGroup() as group:
            beating = group.create_task(self._again_and_again(beat))
            await self._on_taken()
            beating.cancel()

    async def _again_and_again(self, work: Callable[[], Awaitable[None]]) -> NoReturn:
        """Do *work* several times per lease; while the database is away, just try again."""
        while True:
            await asyncio.sleep(self._me.lease_seconds / ROUNDS_PER_LEASE)
            try:
                await work()
            except DatabaseError as error:
                if fault(error) is not Fault.SERVER:
                    raise
                log.debug("cannot renew leases, trying again", extra={"reason": error})

    async def _share(self, tx: Transaction) -> tuple[frozenset[str], frozenset[str]]:
        """Renew the leases and take our share; returns our slots, and the keys of all daemons."""
        mine = await self._beat(tx)
        known = await leases.known(tx)
        gone = [one.key for one in known if self._is_gone(one)]
        if gone:
            log.info(
                "another daemon is gone",
                extra={"daemons": [o.name for o in known if o.key in gone]},
            )
            await leases.bury(tx, gone)
        held = await leases.held(tx)
        sees = {one.key: one.sees for one in known if one.key not in gone}
        dealt = deal(sees, held)
        me = self._me.key
        wanted = {
            slot: held.get(slot)
            for slot, key in dealt.items()
            if key == me and held.get(slot) != me
        }
        unseen = [slot for slot, key in held.items() if key == me and slot not in mine]
        if unseen:
            await leases.drop(tx, me, unseen)
        if wanted:
            await leases.take(tx, me, wanted)
            held = await leases.held(tx)
        self._tally.daemons = len(sees)
        ours = frozenset(slot for slot, key in held.items() if key == me and slot in mine)
        self._tally.held, self._tally.elsewhere = len(ours), len(mine - ours)
        return ours, frozenset(sees)

    async def _beat(self, tx: Transaction) -> frozenset[str]:
        """Report that this daemon is running; returns the slots that it could capture."""
        sees = NONE.union(*self._sees.values())
        await leases.beat(tx, self._me, sees, unheard=self._held - self._heard())
        return sees

    def _is_gone(self, one: Known) -> bool:
        """Tell whether a daemon has ended: its lease ran out, or its process does not exist."""
        if one.key == self._me.key:
            return False
        if one.machine == self._me.machine:
            is_mine = (one.pid, one.name) == (self._me.pid, self._me.name)  # from before a restart
            if is_mine or not is_running(one.pid):
                return True
        # While the database was away, nobody could renew a lease: give the others time to do so.
        now = asyncio.get_running_loop().time()
        silent_seconds = now - self._tally.renewed_at if self._tally.renewed_at else 0.0
        return not one.is_heard and silent_seconds < self._me.lease_seconds

    def _tell(self) -> None:
        told = (self._tally.daemons, len(self._held))
        if told != self._told and max(told[0], self._told[0]) > 1:
            about = {"daemons": told[0], "ours": told[1], "of others": self._tally.elsewhere}
            log.info("flows shared", extra=about)
        self._told = told
