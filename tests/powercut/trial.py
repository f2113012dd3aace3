"""Cut the power repeatedly under traffic, compare with the truth, then repeat with fsync off.

The daemon runs outside the machine, as it does when the database has a server of its own. It is
killed at the same moment, since it keeps nothing outside of the database. After each cut, the
archive is compared with what was seen before the cut. Only then is the daemon started again: it
would fetch again what was lost.
"""

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from tests.oracle.load import is_settled
from tests.oracle.programs import PROGRAM, ROOT, Daemon, Flowdock, surroundings, wait_until
from tests.powercut.evidence import Evidence, false_claims, lost_claims, lost_events
from tests.powercut.machine import Machine, ServerEnded
from tests.powercut.needs import Tools
from tests.truth import differences

FRESH_EVENTS = 100
"""How many events must have arrived since the last boot before the power is cut."""

MOST_SECONDS = 8.0
"""The maximum of the random delay after that."""

PATIENCE_SECONDS = 600.0
SHOWN = 5
TOLD = 300

Say = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Cut:
    """The result of one cut."""

    fsync: bool
    events: int
    """How many events were seen as archived before it."""
    fresh: int
    """How many of these events arrived since the last boot."""
    claims: int
    """How many ranges the view ``coverage`` claimed."""
    lost: int = 0
    boot_seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """All fields by name."""
        return {name: getattr(self, name) for name in self.__slots__}


class Trial:
    """A simulated Flowdock, the machine, and the daemon between them."""

    def __init__(self, home: Path, tools: Tools, *, seed: int, rate: float, kvm: bool) -> None:
        self._home = home
        self._chance = Random(seed)
        self._traffic = {"seed": seed, "events": 0, "rate": rate}
        self.machine = Machine(home, tools, accelerator="kvm" if kvm else "tcg")
        self._flowdock = Flowdock(
            home, "--seed", str(seed), "--flows", "4", "--history", "2000", "--rate", str(rate)
        )
        self._daemon: Daemon | None = None
        self._seen = Evidence()

    def close(self) -> None:
        """End all processes."""
        self._kill_daemon()
        self.machine.cut()
        self._flowdock.stop()

    def cut_often(self, cuts: int, say: Say) -> Iterator[Cut]:
        """Cut the power *cuts* times at random moments; yields the result of each cut."""
        say("switched on for the first time")
        self.machine.boot({})
        for _ in range(cuts):
            cut = self._cut(fsync=True)
            say(f"cut; {cut.events} events had been seen as archived, {cut.fresh} of them new")
            cut.boot_seconds = self.machine.boot({})
            cut.failures = list(self._compare(cut))
            yield cut

    def differ_in_the_end(self) -> list[str]:
        """End the traffic and let the daemon finish; returns the differences from the truth."""
        self._flowdock.tell("stop_traffic")
        self._start_daemon()
        try:
            wait_until(self._is_settled, seconds=PATIENCE_SECONDS)
        except TimeoutError:
            return [f"gaps or doubts after {PATIENCE_SECONDS:.0f} s", *self._last_words()]
        self._kill_daemon()
        return differences(self.machine.database_url, self._flowdock.truth())

    def cut_without_fsync(self) -> Cut:
        """The negative control: the same once more, but with a Postgres that does not flush."""
        self.machine.cut()
        self.machine.boot({"fsync": "off"})
        self._flowdock.tell("play", **self._traffic)
        cut = self._cut(fsync=False)
        try:
            cut.boot_seconds = self.machine.boot({})
            cut.failures = list(self._compare(cut))
        except (ServerEnded, psycopg.Error) as error:
            cut.lost = cut.events
            last = str(error).strip().split("\n")[-SHOWN:]
            cut.failures = ["the archive cannot be read any more:", *last]
        return cut

    def _cut(self, *, fsync: bool) -> Cut:
        with psycopg.connect(self.machine.database_url) as session:
            self._seen = Evidence()
            self._seen.look(session)
            known = len(self._seen.events)
            self._start_daemon()
            self._watch(session, known)
            # Cut right after the last look, so that what it showed was archived only a moment ago.
            self.machine.cut()
        self._kill_daemon()
        events = len(self._seen.events)
        claims = len(self._seen.claims)
        return Cut(fsync=fsync, events=events, fresh=events - known, claims=claims)

    def _watch(self, session: psycopg.Connection, known: int) -> None:
        """Look at the archive again and again until it is time to cut."""
        began = time.monotonic()
        until = None
        while until is None or time.monotonic() < until:
            self._seen.look(session)
            is_enough = len(self._seen.events) >= known + FRESH_EVENTS
            if until is None and is_enough and self._seen.claims:
                until = time.monotonic() + self._chance.uniform(0, MOST_SECONDS)
            if until is None and time.monotonic() - began > PATIENCE_SECONDS:
                raise TimeoutError("\n".join(["nothing is archived", *self._last_words()]))
            time.sleep(0.05)

    def _compare(self, cut: Cut) -> Iterator[str]:
        """Compare the archive with what was seen before the cut; yield what is wrong."""
        after = Evidence()
        with psycopg.connect(self.machine.database_url) as session:
            after.look(session)
        lost = lost_events(self._seen, after)
        cut.lost = len(lost)
        if lost:
            yield f"{len(lost)} events lost, as {sorted(lost)[:SHOWN]}"
        if claims := lost_claims(self._seen, after):
            yield f"{len(claims)} claims lost, as {claims[:SHOWN]}"
        if wrong := list(false_claims(after, self._flowdock.truth())):
            yield f"{len(wrong)} claimed and not held, as {wrong[:SHOWN]}"
        checked = subprocess.run(
            [*PROGRAM, "rebuild", "--check"],
            env=surroundings(self._settings()),
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        if checked.returncode != 0:
            told = f"{checked.stdout}{checked.stderr}".strip()
            yield f"rebuild --check ends with {checked.returncode}: …{told[-TOLD:]}"

    def _is_settled(self) -> bool:
        return is_settled(self.machine.database_url, self._flowdock)

    def _settings(self) -> dict[str, str]:
        return {
            "ARCHIVER_DATABASE_URL": self.machine.database_url,
            "ARCHIVER_API_URL": self._flowdock.api_url,
            "ARCHIVER_STREAM_URL": self._flowdock.stream_url,
            "ARCHIVER_TOKEN": self._flowdock.token,
            "ARCHIVER_BACKFILL_REQUESTS_PER_SECOND": "50",
            "ARCHIVER_AUDIT_REQUESTS_PER_SECOND": "50",
        }

    def _start_daemon(self) -> None:
        self._kill_daemon()
        self._daemon = Daemon(self._home, self._settings())

    def _kill_daemon(self) -> None:
        if self._daemon:
            self._daemon.kill()
            self._daemon.close()
            self._daemon = None

    def _last_words(self) -> list[str]:
        return self._daemon.last_words().split("\n")[-SHOWN:] if self._daemon else []
