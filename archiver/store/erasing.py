"""What an erasure reads and writes; only the owner of the tables has the rights to."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import text

from archiver.store.connection import Transaction
from archiver.store.engine import carried
from archiver.store.erasure import CASES, WHOLE, erasure_of, is_whole
from archiver.store.files import RENAMED
from archiver.store.rejecting import ERASED


class Form(Struct, frozen=True, kw_only=True):
    """One form of an event in the journal."""

    id: int
    form: int
    event: str
    target_id: int | None
    digest: bytes
    payload: str

    @property
    def is_left(self) -> bool:
        """Tell whether it is what an erasure left."""
        return erasure_of(self.payload, self.digest) is not None

    @property
    def is_gone(self) -> bool:
        """Tell whether it was erased as a whole."""
        return is_whole(self.payload) and self.is_left


class Told(Struct, frozen=True, kw_only=True):
    """An event to be erased, for people."""

    id: int
    event: str
    sent_at: datetime | None
    nick: str | None


class Written(Struct, frozen=True, kw_only=True):
    """What a form becomes."""

    id: int
    form: int
    payload: str


async def may_erase(tx: Transaction) -> bool:
    """Tell whether the user has the owner's rights on the tables."""
    return bool((await tx.execute(_MAY_ERASE)).scalar_one())


async def how_many_in(tx: Transaction, path: str, ids: Collection[int]) -> int:
    """How many of the events *ids* are in the flow with this path, and not erased as a whole."""
    asked = {"path": path, "ids": list(ids), "kind": WHOLE}
    return int((await tx.execute(_HOW_MANY_IN, asked)).scalar_one())


async def own_forms(tx: Transaction, flow_key: int, ids: Collection[int]) -> list[Form]:
    """The forms of the events *ids*, and of all events that change these messages."""
    asked = {"flow_key": flow_key, "ids": list(ids)}
    return _forms(tx, await tx.execute(_OWN_FORMS, asked))


async def told(tx: Transaction, flow_key: int, ids: Collection[int]) -> list[Told]:
    """When and by whom the events *ids* were sent, in the order of ids."""
    rows = await tx.execute(_TOLD, {"flow_key": flow_key, "ids": list(ids)})
    return [Told(**row) for row in rows.mappings()]


async def said(tx: Transaction, flow_key: int, ids: Collection[int]) -> list[tuple[int, str]]:
    """All that the messages *ids* say or have said, and the names of their files, each by id."""
    rows = await tx.execute(_SAID, {"flow_key": flow_key, "ids": list(ids)})
    return [(id_, words) for id_, words in rows]


async def begun(tx: Transaction, flow_key: int, ids: Collection[int]) -> list[tuple[int, str]]:
    """The threads that the messages *ids* began, each by id."""
    rows = await tx.execute(_BEGUN, {"flow_key": flow_key, "ids": list(ids)})
    return [(id_, thread) for id_, thread in rows]


async def replies(
    tx: Transaction, flow_key: int, ids: Collection[int], threads: Collection[str]
) -> list[Form]:
    """What may repeat the messages *ids*, which began *threads*, as a title.

    These are replies, comments, and changes of these.
    """
    asked = {"flow_key": flow_key, "threads": list(threads)}
    found = list(await tx.scalars(_REPLIES, {**asked, "ids": list(ids)}))
    return _forms(tx, await tx.execute(_OF_REPLIES, {**asked, "replies": found}))


async def events_with(tx: Transaction, flow_key: int, parts: Sequence[str]) -> list[Form]:
    """The forms of events of a flow that may hold one of *parts*, which are in small letters."""
    asked = {"flow_key": flow_key, "parts": list(parts)}
    return _forms(tx, await tx.execute(_EVENTS_WITH, asked))


async def rejects_with(tx: Transaction, parts: Sequence[str]) -> dict[int, bytes]:
    """The rejects that may hold one of *parts*: their bytes by id."""
    rows = await tx.execute(_REJECTS_WITH, {"parts": list(parts)})
    return {id_: bytes(raw) for id_, raw in rows}


async def signals_with(tx: Transaction, flow_key: int, parts: Sequence[str]) -> dict[int, bytes]:
    """The same of signals of a flow, or of none."""
    rows = await tx.execute(_SIGNALS_WITH, {"flow_key": flow_key, "parts": list(parts)})
    return {key: payload.encode() for key, payload in rows}


async def paths_named_only_by(
    tx: Transaction, flow_key: int, ids: Collection[int], paths: Collection[str]
) -> list[str]:
    """Those of *paths* that are wanted, and named by no message of the flow but *ids*."""
    asked = {"flow_key": flow_key, "ids": list(ids), "paths": list(paths)}
    return list(await tx.scalars(_NAMED_ONLY_BY, asked))


async def attached_paths(tx: Transaction, flow_key: int) -> list[str]:
    """The paths of all files of a flow."""
    return list(await tx.scalars(_PATHS, {"flow_key": flow_key}))


async def leave_tombstones(tx: Transaction, flow_key: int, forms: Sequence[Written]) -> None:
    """Put a tombstone in place of each of *forms*, with the digest of what was received."""
    if forms:
        rows = [{"flow_key": flow_key, "kind": WHOLE, **asdict(one)} for one in forms]
        await tx.execute(_LEAVE, rows)
        await tx.execute(_FORGET_SIGHTINGS, rows)


async def reword(tx: Transaction, flow_key: int, forms: Sequence[Written]) -> None:
    """Change the payloads of *forms*."""
    if forms:
        await tx.execute(_REWORD, [{"flow_key": flow_key, **asdict(one)} for one in forms])


async def remove_asides(
    tx: Transaction, *, rejects: Collection[int], signals: Collection[int]
) -> None:
    """Remove input that contains what is erased.

    Of a reject, its digest stays, by which the same input is known when it comes again.
    """
    await tx.execute(_EMPTY_REJECTS, {"ids": list(rejects), "why": ERASED})
    await tx.execute(_REMOVE_SIGNALS, {"ids": list(signals)})


async def remove_files(tx: Transaction, flow_key: int, paths: Collection[str]) -> None:
    """Forget files, and remove the contents that no other file has."""
    if paths:
        await tx.execute(_LOCK_FILES)  # or somebody may be about to name contents that are known
        asked = {"flow_key": flow_key, "paths": list(paths)}
        digests = list(await tx.scalars(_REMOVE_PATHS, asked))
        orphans = list(await tx.scalars(_REMOVE_FILES, {"digests": digests}))
        await tx.execute(_REMOVE_PARTS, {"digests": orphans})


async def rename_files(tx: Transaction, flow_key: int, paths: Iterable[tuple[str, str]]) -> None:
    """Give files other paths, as the messages that name them have now.

    Where these lead, the service has nothing: a file that is not kept yet is never due again.
    """
    for old, new in paths:
        asked = {"flow_key": flow_key, "old": old, "new": new, "why": RENAMED}
        await tx.execute(_RENAME, asked)


async def threads_shown_by(tx: Transaction, flow_key: int, ids: Collection[int]) -> list[str]:
    """The threads that are stored as the events *ids* showed them."""
    return list(await tx.scalars(_THREADS, {"flow_key": flow_key, "ids": list(ids)}))


async def threads_as_shown(
    tx: Transaction, flow_key: int, ids: Collection[int]
) -> list[tuple[str, str]]:
    """The same threads, each with the JSON that shows it."""
    rows = await tx.execute(_THREADS_AS_SHOWN, {"flow_key": flow_key, "ids": list(ids)})
    return [(thread, detail) for thread, detail in rows]


async def in_threads(
    tx: Transaction, flow_key: int, threads: Collection[str]
) -> list[tuple[str, Form]]:
    """The first forms of the messages in *threads*, each after its thread."""
    if not threads:
        return []
    asked = {"flow_key": flow_key, "threads": list(threads)}
    rows = (await tx.execute(_IN_THREADS, asked)).all()
    return [
        (thread, form)
        for (*_, thread), form in zip(rows, _forms(tx, (row[:-1] for row in rows)), strict=True)
    ]


async def events_about(tx: Transaction, flow_key: int, threads: Collection[str]) -> list[int]:
    """The ids of events that mention one of *threads*."""
    return list(await tx.scalars(_ABOUT, {"flow_key": flow_key, "threads": list(threads)}))


def _forms(tx: Transaction, rows: Iterable[Sequence[object]]) -> list[Form]:
    names = Form.__struct_fields__
    forms = [Form(**dict(zip(names, row, strict=True))) for row in rows]  # type: ignore[arg-type]
    carried(tx, (len(one.payload) for one in forms))
    return forms


_MAY_ERASE = text("""
    SELECT bool_and(pg_has_role(current_user, relowner, 'USAGE')) FROM pg_class
    WHERE relnamespace = CAST('store' AS regnamespace) AND relkind = 'r'
""")

_HOW_MANY_IN = text("""
    SELECT count(DISTINCT j.id) FROM store.journal AS j JOIN store.flows AS f USING (flow_key)
    WHERE f.path = :path AND j.id = ANY(:ids) AND j.event <> :kind
""")

_FORM = """
    SELECT id, form, event, target_id, uuid_send(digest), CAST(payload AS text)
    FROM store.journal AS j
"""
_OWN_FORMS = text(f"""
    {_FORM} WHERE flow_key = :flow_key AND id = ANY(:ids)
    UNION {_FORM} WHERE flow_key = :flow_key AND target_id = ANY(:ids)
""")

_TOLD = text("""
    SELECT j.id, coalesce(m.event, j.event) AS event, coalesce(m.sent_at, j.sent_at) AS sent_at,
           coalesce(u.nick, m.external_user_name, 'user ' || j.user_id) AS nick
    FROM store.journal AS j LEFT JOIN store.messages AS m USING (flow_key, id)
    LEFT JOIN store.users AS u ON u.user_id = coalesce(m.user_id, j.user_id)
    WHERE flow_key = :flow_key AND j.id = ANY(:ids) AND form = 0 ORDER BY j.id
""")

_SAID = text("""
    SELECT id, content FROM store.messages WHERE flow_key = :flow_key AND id = ANY(:ids)
    UNION SELECT message_id, content FROM store.revisions
    WHERE flow_key = :flow_key AND message_id = ANY(:ids) AND content IS NOT NULL
    UNION SELECT id, file ->> 'file_name'
    FROM store.messages, jsonb_array_elements(attachments) AS file
    WHERE flow_key = :flow_key AND id = ANY(:ids) AND file ->> 'file_name' IS NOT NULL
""")

# Those that were moved into a thread, or out of it, did so later.
_BEGUN = text("""
    WITH posted AS (
        SELECT m.id, coalesce(r.thread_id, m.thread_id) AS thread_id
        FROM store.messages AS m LEFT JOIN store.revisions AS r
             ON r.flow_key = m.flow_key AND r.message_id = m.id AND r.ordinal = 0
        WHERE m.flow_key = :flow_key AND m.id = ANY(:ids)
    )
    SELECT id, thread_id FROM posted
    WHERE thread_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM store.messages AS other
        WHERE other.thread_id = posted.thread_id AND other.flow_key = :flow_key
          AND other.id < posted.id AND NOT EXISTS (
              SELECT FROM store.revisions AS r
              WHERE r.flow_key = :flow_key AND r.message_id = other.id AND r.ordinal = 0
                AND r.thread_id <> other.thread_id))
    AND NOT EXISTS (
        SELECT FROM store.revisions AS r
        WHERE r.flow_key = :flow_key AND r.ordinal = 0 AND r.thread_id = posted.thread_id
          AND r.message_id < posted.id)
""")
_REPLIES = text("""
    SELECT id FROM store.messages
    WHERE flow_key = :flow_key AND (thread_id = ANY(:threads) OR parent_id = ANY(:ids))
    UNION SELECT message_id FROM store.revisions
    WHERE flow_key = :flow_key AND thread_id = ANY(:threads)
""")
_OF_REPLIES = text(f"""
    {_FORM} WHERE flow_key = :flow_key AND (
        id = ANY(:replies) OR target_id = ANY(:replies)
        OR event IN ('thread-change', 'message-change') AND EXISTS (
            SELECT FROM unnest(CAST(:threads AS text[])) AS thread
            WHERE strpos(CAST(payload AS text), thread) > 0))
""")


def _small(words: str) -> str:
    """*words* in small letters, as far as `Phrases.parts` has any.

    As in C: in a Turkish database, lower('I') is no i.
    """
    return (
        f"translate(lower({words} COLLATE \"C\"), '{''.join(CASES)}', '{''.join(CASES.values())}')"
    )


def _with(words: str, part: str = "part", *, small: str = "") -> str:
    return rf"""EXISTS (
        SELECT FROM unnest(CAST(:parts AS text[])) AS part
        WHERE strpos({small or _small(words)}, {part}) > 0 OR strpos({words}, '\u') > 0)
    """


def _escaped(letter: str) -> str:
    return "".join(f"\\{byte:o}" for byte in letter.encode())


_EVENTS_WITH = text(f"{_FORM} WHERE flow_key = :flow_key AND {_with('CAST(payload AS text)')}")
_RAW = "encode(raw, 'escape')"
_SMALL_RAW = f'lower({_RAW} COLLATE "C")'
for _letter, _small_letter in CASES.items():
    _SMALL_RAW = f"replace({_SMALL_RAW}, '{_escaped(_letter)}', '{_small_letter}')"
_RAW_PART = "encode(convert_to(part, 'UTF8'), 'escape')"
_REJECTS_WITH = text(
    f"SELECT id, raw FROM store.rejects WHERE {_with(_RAW, _RAW_PART, small=_SMALL_RAW)}"  # noqa: S608
)
_SIGNALS_WITH = text(
    f"""
    SELECT signal_key, CAST(payload AS text) FROM store.signals
    WHERE (flow_key = :flow_key OR flow_key IS NULL) AND {_with("CAST(payload AS text)")}
    """  # noqa: S608
)

_NAMED_ONLY_BY = text("""
    SELECT path FROM store.attached AS a
    WHERE flow_key = :flow_key AND path = ANY(:paths) AND NOT EXISTS (
        SELECT FROM store.messages AS m
        WHERE m.flow_key = a.flow_key AND m.attachments IS NOT NULL AND m.id <> ALL(:ids)
          AND m.attachments @> jsonb_build_array(jsonb_build_object('path', a.path)))
""")
_PATHS = text("SELECT path FROM store.attached WHERE flow_key = :flow_key")

_AT = "flow_key = :flow_key AND id = :id AND form = :form"
_LEAVE = text(f"""
    UPDATE store.journal
    SET event = :kind, user_id = NULL, sent_at = NULL, target_id = NULL,
        payload = CAST(:payload AS json)
    WHERE {_AT}
""")  # noqa: S608
_FORGET_SIGHTINGS = text(f"DELETE FROM store.sightings WHERE {_AT}")  # noqa: S608
_REWORD = text(
    f"UPDATE store.journal SET payload = CAST(:payload AS json) WHERE {_AT}"  # noqa: S608
)
_EMPTY_REJECTS = text("UPDATE store.rejects SET raw = '', reason = :why WHERE id = ANY(:ids)")
_REMOVE_SIGNALS = text("DELETE FROM store.signals WHERE signal_key = ANY(:ids)")

_LOCK_FILES = text("LOCK TABLE store.files IN SHARE ROW EXCLUSIVE MODE")
_REMOVE_PATHS = text("""
    DELETE FROM store.attached WHERE flow_key = :flow_key AND path = ANY(:paths) RETURNING sha256
""")
_REMOVE_FILES = text("""
    DELETE FROM store.files AS f WHERE sha256 = ANY(:digests)
    AND NOT EXISTS (SELECT FROM store.attached AS a WHERE a.sha256 = f.sha256) RETURNING sha256
""")
_REMOVE_PARTS = text("DELETE FROM store.file_parts WHERE sha256 = ANY(:digests)")
_RENAME = text("""
    WITH old AS (DELETE FROM store.attached WHERE flow_key = :flow_key AND path = :old RETURNING *)
    INSERT INTO store.attached (flow_key, path, size_bytes, sha256, attempts, due_at, error)
    SELECT flow_key, :new, size_bytes, sha256, attempts,
           CASE WHEN sha256 IS NULL THEN 'infinity' ELSE due_at END,
           CASE WHEN sha256 IS NULL THEN :why ELSE error END
    FROM old ON CONFLICT DO NOTHING
""")

_THREADS = text(
    "SELECT thread_id FROM store.threads WHERE flow_key = :flow_key AND as_of = ANY(:ids)"
)
_THREADS_AS_SHOWN = text("""
    SELECT thread_id, CAST(detail AS text) FROM store.threads
    WHERE flow_key = :flow_key AND as_of = ANY(:ids) AND detail IS NOT NULL
""")
_IN_THREADS = text("""
    SELECT id, form, j.event, target_id, uuid_send(digest), CAST(payload AS text), thread_id
    FROM store.messages AS m JOIN store.journal AS j USING (flow_key, id)
    WHERE flow_key = :flow_key AND thread_id = ANY(:threads) AND form = 0
""")
_ABOUT = text("""
    SELECT DISTINCT id FROM store.journal WHERE flow_key = :flow_key AND EXISTS (
        SELECT FROM unnest(CAST(:threads AS text[])) AS thread
        WHERE strpos(CAST(payload AS text), thread) > 0)
""")
