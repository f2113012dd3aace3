"""What an archive was seen to hold before a power cut, and what is missing afterwards.

It is seen by another session of the database: an event that this session can read was committed,
and a range of ids in the view ``coverage`` is the daemon's claim that all of it is archived.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from tests.truth import by_flow

ME = "1"
BEGINNING = datetime.fromtimestamp(0, UTC)
OVERLAP = timedelta(seconds=30)
"""The overlap between two reads: what was received earlier may have been committed later."""

FORMS = (
    "SELECT flow, id, md5(payload::text), received_at FROM archive.forms WHERE received_at >= %s"
)
COVERAGE = "SELECT flow, witness, from_id, to_id FROM archive.coverage"

Form = tuple[str, int, str]
"""A flow, the id of an event, and the digest of the exact bytes of one form of it."""

Claim = tuple[str, str, int, int]
"""A flow, a witness, and the first and last id of a range that the witness proves."""


@dataclass(slots=True)
class Evidence:
    """What was seen of one archive since the machine was last booted."""

    forms: set[Form] = field(default_factory=set)
    claims: list[Claim] = field(default_factory=list)
    newest_at: datetime = BEGINNING

    def look(self, connection: psycopg.Connection) -> None:
        """Add what is there now; events and claims are read in one snapshot.

        Raises:
            psycopg.Error: the archive cannot be read.
        """
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with connection.transaction():
            found = connection.execute(FORMS, [self.newest_at - OVERLAP]).fetchall()
            self.claims = connection.execute(COVERAGE).fetchall()
        self.forms.update((flow, id_, digest) for flow, id_, digest, _ in found)
        self.newest_at = max([self.newest_at, *(at for *_, at in found)])

    @property
    def events(self) -> set[tuple[str, int]]:
        """Flow and id of all events that were seen."""
        return {(flow, id_) for flow, id_, _ in self.forms}


def lost_events(before: Evidence, after: Evidence) -> set[tuple[str, int]]:
    """The events that were seen *before* and are missing or changed *after*."""
    return {(flow, id_) for flow, id_, _ in before.forms - after.forms}


def lost_claims(before: Evidence, after: Evidence) -> list[Claim]:
    """The ranges that were claimed *before* and are no longer claimed *after*."""
    kept = defaultdict(list)
    for flow, witness, first, last in after.claims:
        kept[flow, witness].append((first, last))
    return [
        (flow, witness, first, last)
        for flow, witness, first, last in before.claims
        if not any(low <= first and last <= high for low, high in kept[flow, witness])
    ]


def false_claims(seen: Evidence, records: Iterable[dict[str, Any]]) -> Iterator[tuple[str, int]]:
    """The messages in *records*, which the service lists, that are claimed but not held."""
    claimed = defaultdict(list)
    for flow, _, first, last in seen.claims:
        claimed[flow].append((first, last))
    held = seen.events
    for flow, told in by_flow(records, ME).items():
        for record in told:
            place = (flow, record["id"])
            is_claimed = any(first <= record["id"] <= last for first, last in claimed[flow])
            if record["kind"] == "message" and is_claimed and place not in held:
                yield place
