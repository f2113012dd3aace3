"""The journal: what was received, as received; and its sightings.

An event may come in several *forms*: as the stream sent it, as a listing showed it, as another
listing showed it after an edit. Each form is kept once. When listings show a form that the journal
already has, the positions of the first and of the newest of these sightings are kept. The newest
matters since the same words said again can outweigh what came in between; the first, since it is
how long the content of the form has been known.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import asdict, replace
from sqlalchemy import (
    ColumnElement,
    FromClause,
    Text,
    and_,
    case,
    cast,
    func,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import insert

from archiver.domain.facts import BEFORE_ALL
from archiver.store.bulk import (
    Key,
    key_table,
    keys_of,
    moment,
    reached,
    small,
)
from archiver.store.connection import Transaction
from archiver.store.engine import carried
from archiver.store.erasure import OPENING, WHOLE, digest, erasure_of, is_whole
from archiver.store.fetching import fetch, query
from archiver.store.rows import Row, Rows, add_rows
from archiver.store.schema import flows, journal, sightings

Witness = Literal["stream", "list", "show", "import"]

COLUMNS = (
    "flow_key", "id", "form", "digest", "witness", "event", "user_id", "sent_at", "target_id",
    "payload", "as_of", "received_at",
)  # fmt: skip

NEWEST_FORMS = 1000
"""How many of the newest forms of a flow `newest_from_service` looks through."""

_PLACES = ("as_of", "shown_at", "first_as_of", "first_shown_at")

_ASKED = key_table()
_OWN = reached(journal, journal.c.flow_key == _ASKED.c.flow_key, journal.c.id == _ASKED.c.id)
_SEEN = reached(
    sightings,
    sightings.c.flow_key == _OWN.c.flow_key,
    sightings.c.id == _OWN.c.id,
    sightings.c.form == _OWN.c.form,
)
_FORMS = _ASKED.join(_OWN, true()).outerjoin(_SEEN, true())
"""The forms of the requested keys, each with its sightings, if any."""
_CHANGES = reached(
    journal, journal.c.flow_key == _ASKED.c.flow_key, journal.c.target_id == _ASKED.c.id
)


class Newest(NamedTuple):
    """The witness, position and time that count for a form: those of its newest sighting."""

    witness: ColumnElement[str]
    as_of: ColumnElement[int]
    shown_at: ColumnElement[datetime]


def newest_of(own: FromClause, seen: FromClause) -> Newest:
    """What counts for a form; *own* is its row in the journal, *seen* that of its sightings."""
    return Newest(
        witness=case(
            (and_(own.c.witness == "stream", seen.c.as_of.is_not(None)), "list"),
            else_=own.c.witness,
        ),
        as_of=func.coalesce(seen.c.as_of, own.c.as_of),
        shown_at=func.coalesce(
            seen.c.shown_at,
            # Nobody knows when the file was made, so any listing of the same position is newer.
            case((own.c.witness == "import", BEFORE_ALL), else_=own.c.received_at),
        ),
    )


def first_of(
    own: FromClause, seen: FromClause
) -> tuple[ColumnElement[int], ColumnElement[datetime]]:
    """Position and time of the first listing that showed a form; null if none of known time did."""
    was_listed = or_(own.c.witness == "list", own.c.witness == "show")
    was_seen = seen.c.shown_at > BEFORE_ALL
    return (
        func.coalesce(
            seen.c.first_as_of,
            case((was_listed, own.c.as_of), (was_seen, seen.c.as_of), else_=None),
        ),
        func.coalesce(
            seen.c.first_shown_at,
            case((was_listed, own.c.received_at), (was_seen, seen.c.shown_at), else_=None),
        ),
    )


_WITNESS, _NEWEST_AS_OF, _NEWEST_SHOWN_AT = newest_of(_OWN, _SEEN)
_FIRST_AS_OF, _FIRST_SHOWN_AT = first_of(_OWN, _SEEN)


class Entry(Struct, frozen=True, gc=False):
    """One form in which an event was received; the fields are in the order of `COLUMNS`."""

    flow_key: int
    id: int
    form: int
    digest: bytes
    witness: Witness
    event: str
    user: str | None
    sent_at: datetime | None
    target: int | None
    payload: str
    as_of: int
    received_at: datetime
    first_as_of: int | None = None
    first_shown_at: datetime | None = None
    """Position and time of the first listing that showed the form."""


class KnownForm(Struct, frozen=True, gc=False):
    """A form that the journal holds, and the positions of its newest and its first sighting."""

    form: int
    digest: bytes
    as_of: int
    shown_at: datetime
    was_listed: bool
    """Whether a listing or an imported file has shown it. If not, the first of them counts as newer
    than the stream's own position and time, whatever these are."""
    first_as_of: int | None
    first_shown_at: datetime | None
    """None when no listing of a known time has shown it."""
    left: str | None = None
    """The payload, if words were erased from it: what is shown again is not taken in again."""

    @property
    def is_gone(self) -> bool:
        """Tell whether the event was erased as a whole."""
        return self.left is not None and is_whole(self.left)


class Sighting(Struct, frozen=True, kw_only=True):
    """The newest and the first listing that showed a form that the journal already had."""

    flow_key: int
    id: int
    form: int
    as_of: int
    shown_at: datetime
    first_as_of: int | None
    first_shown_at: datetime | None


def is_as_received(entry: Entry) -> bool:
    """Tell whether the payload of *entry* still has the digest that was kept with it."""
    return digest(entry.payload.encode()) == entry.digest


def is_as_left(entry: Entry) -> bool:
    """Tell whether the payload of *entry* is as it was received, or as an erasure left it."""
    return is_as_received(entry) or is_erased(entry)


def is_erased(entry: Entry) -> bool:
    """Tell whether words, or all, were erased from *entry*, and it is as that left it."""
    return erasure_of(entry.payload, entry.digest) is not None


def lacks_words(entry: Entry) -> bool:
    """Tell whether words, or all, were erased from *entry* itself."""
    mark = erasure_of(entry.payload, entry.digest)
    return mark is not None and not mark.is_of_nothing


def is_erased_whole(entry: Entry) -> bool:
    """Tell whether nothing is left of the event of *entry* but that it was erased."""
    return entry.event == WHOLE and is_erased(entry) and is_whole(entry.payload)


async def known(tx: Transaction, keys: Iterable[Key]) -> dict[Key, list[KnownForm]]:
    """The forms that the journal holds of each of *keys*; new keys are left out."""
    forms: dict[Key, list[KnownForm]] = {}
    for flow_key, id_, *form, left in await fetch(tx, _KNOWN, keys_of(keys)):
        known_form = KnownForm(*form)
        if left is not None and erasure_of(left, known_form.digest):
            known_form = replace(known_form, left=left)
        forms.setdefault((flow_key, id_), []).append(known_form)
    return forms


async def append(tx: Transaction, entries: Sequence[Entry]) -> None:
    """Keep *entries*, none of which the journal holds."""
    await add_rows(tx, rows_of(entries))


def rows_of(entries: Sequence[Entry]) -> Rows:
    """The rows that `append` inserts."""
    return Rows(journal, COLUMNS, entries, _row)


def _row(one: Entry) -> Row:
    return (
        one.flow_key, one.id, small(one.form), one.digest, one.witness, one.event, one.user,
        moment(one.sent_at), one.target, one.payload, one.as_of, moment(one.received_at),
    )  # fmt: skip


async def sight(tx: Transaction, seen: Sequence[Sighting]) -> None:
    """Store sightings; one is ignored if the stored newest sighting of its form is newer."""
    new = insert(sightings)
    held = tuple_(sightings.c.as_of, sightings.c.shown_at)
    statement = new.on_conflict_do_update(
        index_elements=[sightings.c.flow_key, sightings.c.id, sightings.c.form],
        set_={name: new.excluded[name] for name in _PLACES},
        where=held <= tuple_(new.excluded.as_of, new.excluded.shown_at),
    )
    await tx.execute(statement, [asdict(one) for one in seen])


async def about(tx: Transaction, keys: Collection[Key]) -> list[Entry]:
    """All that the journal holds of the messages *keys*: their own forms, and what changes them.

    A form that a listing showed again has the position and time of its newest sighting, and
    the listing as its witness.
    """
    rows = await fetch(tx, _ABOUT, keys_of(keys))
    return _entries(tx, rows) + await targeting(tx, keys)


async def targeting(tx: Transaction, keys: Collection[Key]) -> list[Entry]:
    """The events that change the messages *keys*."""
    return _entries(tx, await fetch(tx, _TARGETING, keys_of(keys)))


def _entries(tx: Transaction, rows: Sequence[Sequence[Any]]) -> list[Entry]:
    entries = [Entry(*row) for row in rows]
    carried(tx, (len(one.payload) for one in entries))
    return entries


async def newest(tx: Transaction) -> dict[int, int]:
    """By flow key: the newest id in the journal; flows without events are left out."""
    return await _newest(tx, _newest_forms(1))


async def newest_from_service(tx: Transaction) -> dict[int, int]:
    """By flow key: the newest id that came from the service, and not only from an imported file.

    Only the newest forms are looked through, so as not to read all of a flow that was imported.
    """
    forms = _newest_forms(NEWEST_FORMS)
    told = (
        select(forms.c.id)
        .where(forms.c.witness != "import")
        .order_by(forms.c.id.desc())
        .limit(1)
        .lateral("told")
    )
    return await _newest(tx, told)


def _newest_forms(most: int) -> FromClause:
    return (
        select(journal.c.id, journal.c.witness)
        .where(journal.c.flow_key == flows.c.flow_key)
        .order_by(journal.c.id.desc())
        .limit(most)
        .correlate(flows)
        .lateral("newest_forms")
    )


async def _newest(tx: Transaction, last: FromClause) -> dict[int, int]:
    rows = await tx.execute(select(flows.c.flow_key, last.c.id).join_from(flows, last, true()))
    return {flow_key: id_ for flow_key, id_ in rows}  # noqa: C416  (typed so, dict() is not)


def entry_of(form: FromClause, *, witness: ColumnElement[str]) -> list[ColumnElement[Any]]:
    """The columns for the fields of an `Entry`, except those for positions and times."""
    return [
        form.c.flow_key,
        form.c.id,
        form.c.form,
        func.uuid_send(form.c.digest),
        witness,
        form.c.event,
        form.c.user_id,
        form.c.sent_at,
        form.c.target_id,
        cast(form.c.payload, Text),
    ]


_PAYLOAD = cast(_OWN.c.payload, Text)
_MAY_BE_MARKED = func.strpos(_PAYLOAD, OPENING) > 0
_KNOWN = query(
    select(
        _OWN.c.flow_key,
        _OWN.c.id,
        _OWN.c.form,
        func.uuid_send(_OWN.c.digest),
        _NEWEST_AS_OF,
        _NEWEST_SHOWN_AT,
        _WITNESS != "stream",
        _FIRST_AS_OF,
        _FIRST_SHOWN_AT,
        case((_MAY_BE_MARKED, _PAYLOAD), else_=None),
    ).select_from(_FORMS)
)
_ABOUT = query(
    select(
        *entry_of(_OWN, witness=_WITNESS),
        _NEWEST_AS_OF,
        _NEWEST_SHOWN_AT,
        _FIRST_AS_OF,
        _FIRST_SHOWN_AT,
    ).select_from(_FORMS)
)
_TARGETING = query(
    select(
        *entry_of(_CHANGES, witness=_CHANGES.c.witness),
        _CHANGES.c.as_of,
        _CHANGES.c.received_at,
    ).select_from(_ASKED.join(_CHANGES, true()))
)
