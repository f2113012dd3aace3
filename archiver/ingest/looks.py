"""What a verification saw of a flow, and how that differs from what was stored; no I/O."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import md5
from typing import Literal, Self

from msgspec import Struct

from archiver.domain.coverage import Ranges
from archiver.domain.events import Posted
from archiver.domain.fold import DELETED_BY_EMPTYING
from archiver.domain.tags import visible
from archiver.ingest.batch import Arrival
from archiver.store.coverage import Standing
from archiver.store.verifying import Seen

Kind = Literal["not held", "changed", "vanished"]

FIELDS = {
    "content": "content",
    "digest": "content",
    "event": "kind",
    "user_id": "sender",
    "external_user_name": "sender",
    "sent_at": "time",
    "tags": "tags",
    "thread_id": "thread",
    "reactions": "reactions",
    "is_deleted": "deleted",
}
"""The compared columns, and what each is called in reports."""

EXPLAINED = {
    "message-edit": {"content", "kind", "tags", "deleted"},
    "tag-change": {"tags"},
    "emoji-reaction": {"reactions"},
    "message-change": {"thread"},
    "message-delete": {"content", "deleted"},
}
"""By kind of event: what it changes of a message, in the words of `FIELDS`."""


class Difference(Struct, frozen=True, kw_only=True):
    """A message of a claimed range that the archive did not hold as the service shows it."""

    id: int
    kind: Kind
    """``not held``: the archive did not have it. ``changed``: the archive had it otherwise.
    ``vanished``: the archive had it, and the service does not have it any more."""
    fields: tuple[str, ...]
    before: str | None
    """The start of the content."""
    after: str | None
    as_of: int
    """The newest id that the stored message reflected before; 0 if there was none."""


@dataclass(slots=True, kw_only=True)
class Look:
    """What was seen of one flow."""

    flow_key: int
    scope: Ranges
    """The ids to verify."""
    claimed: Ranges
    """Those of `scope` that are claimed."""
    before: Standing
    after: Standing
    looked: Ranges
    """The ids listed so far."""
    head_at: float
    """When the newest message was last requested, in the event loop's seconds."""
    pages: int = 0
    listed: int = 0
    """Messages that the service listed."""
    differences: dict[int, Difference] = field(default_factory=dict)
    meanwhile: int = 0
    """Messages that changed during the verification, as a stream told."""
    troubles: list[str] = field(default_factory=list)
    """Why not everything could be verified."""

    @classmethod
    def over(cls, flow_key: int, standing: Standing, first: int, *, now: float) -> Self:
        """A look at all ids from *first* up to what the ledger says is due."""
        scope = Ranges.of([(first, standing.due)])
        return cls(
            flow_key=flow_key,
            scope=scope,
            claimed=standing.proven & scope,
            before=standing,
            after=standing,
            looked=Ranges(),
            head_at=now,
        )

    @property
    def gaps(self) -> Ranges:
        """The ids in scope that no witness proves."""
        return self.scope - self.after.proven

    @property
    def doubted(self) -> Ranges:
        """The proven ids in scope that may have changed unheard and were not listed since."""
        return (self.after.doubted & self.scope) - self.gaps

    @property
    def is_doubtful(self) -> bool:
        """Tell whether something in scope is not certain."""
        return bool(self.troubles or self.gaps or self.doubted)

    def excuse(self, heard: Mapping[int, Mapping[str, int]]) -> None:
        """Take out the differences that a stream explains.

        *heard* is, by message, the id of the newest change of each kind that a stream brought. A
        change newer than the stored message was on its way when it was compared. An older one was
        known already and explains nothing.
        """
        for id_, kinds in heard.items():
            difference = self.differences[id_]
            new = [kind for kind, newest in kinds.items() if newest > difference.as_of]
            explained = {field for kind in new for field in EXPLAINED.get(kind, ())}
            if explained.issuperset(difference.fields):
                del self.differences[id_]
                self.meanwhile += 1


def compare(
    before: Mapping[int, Seen],
    after: Mapping[int, Seen],
    *,
    listed: Collection[int],
) -> Iterator[Difference]:
    """Yield how messages differ from *before* to *after* their claimed range was *listed*."""
    for id_, is_ in after.items():
        was = before.get(id_)
        kind: Kind = "not held"
        fields: list[str] = []
        if was is not None:
            fields = [name for name in FIELDS if getattr(was, name) != getattr(is_, name)]
            if not fields:
                continue
            gone = is_.is_deleted and not was.is_deleted and id_ not in listed
            kind = "vanished" if gone else "changed"
        yield Difference(
            id=id_,
            kind=kind,
            fields=tuple(dict.fromkeys(FIELDS[name] for name in fields)),
            before=None if was is None else was.content,
            after=is_.content,
            as_of=0 if was is None else was.as_of,
        )


def stored_differently(listed: Iterable[Arrival], stored: Mapping[int, Seen]) -> list[int]:
    """The ids of *listed* messages that are *stored* otherwise, without a newer fact as a reason.

    That happens when the service dates an edit earlier than the edit before it: nobody can tell
    which of them is the newer one.
    """
    return [event.id for event, held in _settled(listed, stored) if not _is_so(event, held)]


def listed_again(listed: Iterable[Arrival], stored: Mapping[int, Seen]) -> list[int]:
    """The ids of *listed* messages of whose deletion an event has told before.

    That happens when the service was restored from a backup. A chat message that an edit has
    emptied is still listed, and is not meant.
    """
    return [
        event.id
        for event, held in _settled(listed, stored)
        if held.is_deleted and (event.content or event.kind not in DELETED_BY_EMPTYING)
        if _is_so(event, held)
    ]


def _settled(
    listed: Iterable[Arrival], stored: Mapping[int, Seen]
) -> Iterator[tuple[Posted, Seen]]:
    """The *listed* messages of which nothing newer is *stored*, each with what is."""
    for arrival in listed:
        if isinstance(event := arrival.decoded, Posted):
            held = stored.get(event.id)
            if held is not None and held.as_of <= max(event.id, arrival.listed_as_of or 0):
                yield event, held


def _is_so(message: Posted, held: Seen) -> bool:
    return (
        held.text_digest == md5(message.content.encode(), usedforsecurity=False).hexdigest()
        and (held.event, held.user_id, held.sent_at, held.thread_id)
        == (message.kind, message.user, message.sent_at, message.thread_id)
        and sorted(held.tags) == sorted(visible(message.tags))
    )
