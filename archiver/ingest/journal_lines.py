"""Reading an export of another archive's journal: its lines, the arrivals in each, its claims.

It is foreign input, so it is validated against types, and refused with the place of the error.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import astuple

from archiver.domain.coverage import Ranges
from archiver.domain.events import Decoded
from archiver.domain.facts import BEFORE_ALL
from archiver.domain.model import LARGEST_ID, EventId
from archiver.errors import ArchiverError
from archiver.flowdock.decode import decode, decode_listed
from archiver.flowdock.redaction import redact
from archiver.ingest.batch import Arrival, erased, vanished
from archiver.store.erasure import is_whole, mark_of
from archiver.store.importing import Moment, Text
from archiver.store.journal import Witness

T = TypeVar("T", bound=Struct)

Id = Annotated[int, Meta(ge=0, le=LARGEST_ID)]


class Line(Struct, frozen=True):
    """A line of a file; *place* says where it is, for people."""

    text: bytes
    place: str


class Form(Struct, frozen=True, kw_only=True):
    """A line of an export of the journal: one form of an event."""

    flow: str
    id: Id
    witness: Witness
    received_at: Moment
    as_of: Id
    payload: str
    shown_as_of: Id | None = None
    shown_at: Moment | None = None
    first_shown_as_of: Id | None = None
    first_shown_at: Moment | None = None


class Reject(Struct, frozen=True, kw_only=True):
    """A line about a reject of the other archive; *raw* is hexadecimal."""

    received_at: Moment
    origin: Text
    reason: Text
    raw: str


class KeptFile(Struct, frozen=True, kw_only=True):
    """A file whose contents the other archive has."""

    flow: str
    path: Text
    sha256: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Proven(Struct, frozen=True, kw_only=True):
    """A range that the other archive claims."""

    witness: Literal["stream", "list"]
    first: Id = field(name="from")
    last: Id = field(name="to")


class Claim(Struct, frozen=True, kw_only=True):
    """What the other archive had proven of a flow."""

    due: Id
    proven: list[Proven]

    def proven_by(self, witness: str) -> Ranges:
        """The ranges that one witness proves."""
        return Ranges.of((one.first, one.last) for one in self.proven if one.witness == witness)


def read(line: Line, type_: type[T]) -> T:
    """Decode *line*.

    Raises:
        ArchiverError: it is not a *type_*, or a time in it is none that can be read again.
    """
    try:
        found = msgspec.json.decode(line.text, type=type_)
        for value in astuple(found):
            if isinstance(value, datetime):
                value.astimezone(UTC)  # beyond the years 1 to 9999, whatever its own zone says
    except (msgspec.DecodeError, UnicodeDecodeError, OverflowError) as error:
        raise ArchiverError(f"{line.place}: {error}") from error
    return found


def read_reject(line: Line) -> tuple[Reject, bytes]:
    """Decode a *line* about a reject; returns it and its bytes.

    Raises:
        ArchiverError: it is not about a reject.
    """
    told = read(line, Reject)
    try:
        return told, bytes.fromhex(told.raw)
    except ValueError as error:
        raise ArchiverError(f"{line.place}: its bytes are not hexadecimal") from error


def read_claims(coverage: Mapping[str, Any]) -> dict[str, Claim]:
    """By the paths of flows: what the other archive had proven, from its manifest's *coverage*.

    Raises:
        ArchiverError: it cannot be understood.
    """
    try:
        return msgspec.convert(coverage, dict[str, Claim])
    except msgspec.ValidationError as error:
        raise ArchiverError(f"its coverage cannot be read: {error}") from error


def arrivals_of(line: Line, keys: Mapping[str, int]) -> Iterator[Arrival]:
    """Yield a form as it first came, then as the first and the newest listing showed it again.

    *keys* has the flows' keys by path.

    Raises:
        ArchiverError: *line* is not a form, or is of a flow that is not in *keys*.
    """
    form = read(line, Form)
    if form.flow not in keys:
        raise ArchiverError(f"{line.place}: {form.flow} is not a flow of the export")
    was_listed = form.witness != "stream"
    yield _arrival(
        form,
        keys[form.flow],
        form.witness,
        at=form.received_at,
        as_of=form.as_of if was_listed else None,
        origin=line.place,
    )
    for as_of, at in (
        (form.first_shown_as_of, form.first_shown_at),
        (form.shown_as_of, form.shown_at),
    ):
        if as_of is None or at is None:
            continue
        again: Witness = "list" if form.witness == "stream" else form.witness
        if again == "import" and at > BEFORE_ALL:
            again = "list"
        elif again == "list" and at == BEFORE_ALL:
            again = "import"
        yield _arrival(form, keys[form.flow], again, at=at, as_of=as_of, origin=line.place)


def _arrival(
    form: Form,
    flow_key: int,
    witness: Witness,
    *,
    at: datetime,
    as_of: int | None,
    origin: str,
) -> Arrival:
    frame = redact(form.payload.encode())
    mark = mark_of(text := frame.decode())
    decoded: Decoded
    match witness:
        case _ if mark and is_whole(text):
            decoded = erased(form.id)
        case "stream":
            decoded = decode(frame)
        case "show":
            decoded = vanished(form.id, sent_at=at)
        case "list" | "import":
            decoded = decode_listed(frame)
    return Arrival(
        frame=frame,
        decoded=decoded,
        flow_key=flow_key,
        witness=witness,
        origin=origin,
        received_at=at,
        listed_as_of=None if as_of is None else EventId(as_of),
        digest=bytes.fromhex(mark.received) if mark else None,
    )
