"""A small organization of which everything is known, archived by the one writer.

Four people, three flows and a private conversation, from January to March 2023: the cookbook of
``docs/sql.md`` queries them. Times are UTC.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from operator import attrgetter
from typing import Any

from archiver.domain.coverage import Ranges
from archiver.domain.model import EventId, Flow, FlowId, User, UserId
from archiver.flowdock.decode import decode, decode_listed
from archiver.ingest.apply import apply
from archiver.ingest.batch import Arrival, Batch
from archiver.store import directory, files
from archiver.store.connection import Engine
from archiver.store.coverage import Standing
from archiver.store.engine import transaction

PEOPLE = {"anna": "1", "ben": "2", "chloe": "3", "dmitri": "4"}
FLOWS = {"acme/main": "Main", "acme/dev": "Developers", "acme/attic": "The attic"}
PRIVATE = "private/1/2"
LISTED_AT = "2023-04-01 12:00"

Frame = dict[str, Any]


def said(
    id_: int, at: str, nick: str, content: object, *tags: str, thread: str = "", **more: Any
) -> Frame:
    """A message; *thread* holds the id and the title of its thread."""
    frame = {"id": id_, "event": "message", "user": PEOPLE.get(nick, "0"), "sent": millis(at)}
    frame |= {"content": content, "tags": list(tags), "app": "chat", **more}
    if thread:
        thread_id, _, title = thread.partition(" ")
        frame |= {"thread_id": thread_id, "thread": {"id": thread_id, "title": title}}
    return frame


def changed(id_: int, at: str, nick: str, event: str, target: int, **content: Any) -> Frame:
    """An event that changes a message."""
    return said(id_, at, nick, {"message": target, **content}, event=event)


def edited(id_: int, at: str, nick: str, target: int, content: str) -> Frame:
    return changed(id_, at, nick, "message-edit", target, updated_content=content)


def tagged(
    id_: int, at: str, nick: str, target: int, *add: str, remove: Sequence[str] = ()
) -> Frame:
    return changed(id_, at, nick, "tag-change", target, add=list(add), remove=list(remove))


def liked(id_: int, at: str, nick: str, target: int, emoji: str) -> Frame:
    return changed(id_, at, nick, "emoji-reaction", target, emoji=emoji, type="add")


def file(id_: int, at: str, nick: str, name: str, type_: str, size: int) -> Frame:
    told = {"file_name": name, "content_type": type_, "file_size": size, "path": f"/files/{name}"}
    return said(id_, at, nick, told, ":file", event="file")


def millis(at: str) -> int:
    return int(moment(at).timestamp() * 1000)


def moment(at: str) -> datetime:
    return datetime.fromisoformat(at).replace(tzinfo=UTC)


NOTES, DEPLOY, DATABASE, STYLE = "T1 Release notes", "T2 Deploy of 2.0", "T3 Database", "T4 Style"

STREAMED: dict[str, list[Frame]] = {
    "acme/main": [
        said(1, "2023-01-09 09:00", "anna", "Happy new year, everyone"),
        said(2, "2023-01-09 09:05", "ben", "Happy new year!"),
        said(3, "2023-01-16 10:00", "anna", "@ben can you review the notes?", ":user:2",
             thread=NOTES),
        said(4, "2023-01-16 10:12", "ben", "See https://example.com/notes", ":url", thread=NOTES),
        said(5, "2023-01-16 10:15", "anna", "Thnaks", thread=NOTES),
        edited(6, "2023-01-16 10:16", "anna", 5, "Thanks"),
        said(7, "2023-02-06 09:00", "chloe", "Hello, I am new here"),
        said(8, "2023-02-06 09:01", "anna", "Welcome @chloe", ":user:3"),
        said(9, "2023-02-06 09:31", "chloe", "Thank you!"),
        liked(10, "2023-02-06 09:32", "anna", 7, "👋"),
        liked(11, "2023-02-06 09:33", "ben", 7, "👋"),
        liked(12, "2023-02-06 09:40", "ben", 9, "🎉"),
        file(13, "2023-02-13 14:00", "ben", "plan.pdf", "application/pdf", 2_400_000),
        file(14, "2023-02-13 14:02", "chloe", "logo.png", "image/png", 80_000),
        file(15, "2023-02-13 14:05", "chloe", "logo-2.png", "image/png", 120_000),
        changed(16, "2023-02-13 14:06", "chloe", "message-delete", 14),
        said(17, "2023-03-06 09:00", "anna", "The deploy starts #release", "release",
             thread=DEPLOY),
        said(18, "2023-03-06 09:20", "ben", "The deploy is done #release", "release",
             thread=DEPLOY),
        edited(19, "2023-03-06 09:22", "ben", 18, "The deploy is done, all green #release"),
        said(20, "2023-03-06 09:25", "chloe", "The site is down", thread=DEPLOY),
        tagged(21, "2023-03-06 09:26", "anna", 20, "incident"),
        said(22, "2023-03-06 09:27", "ben", "Rolling back", thread=DEPLOY),
        edited(23, "2023-03-06 11:30", "ben", 18, "The deploy was rolled back #release"),
        tagged(24, "2023-03-06 11:31", "ben", 18, "incident", remove=["release"]),
        said(25, "2023-03-06 11:40", "anna", "Who looks after the database?", thread=DATABASE),
        said(26, "2023-03-07 08:00", "chloe", "This is nobody's business"),
        edited(27, "2023-03-07 08:30", "chloe", 26, ""),
        said(28, "2023-03-07 09:00", "anna", "@chloe are you well?", ":user:3"),
        said(29, "2023-03-07 15:00", "chloe", "Yes, thank you"),
        said(30, "2023-03-08 09:00", "ben", "@dmitri what do you think?", ":user:4"),
    ],
    "acme/dev": [
        said(1, "2023-03-01 13:00", "dmitri", "Tabs or spaces? http://example.org/tabs", ":url",
             thread=STYLE),
        said(2, "2023-03-01 13:01", "ben", "Spaces", "influx:1", thread=STYLE),
        said(3, "2023-03-01 13:02", "anna", "Spaces", thread=STYLE),
        said(4, "2023-03-01 13:03", "chloe", "Spaces, see https://example.com/style", ":url",
             thread=STYLE),
        said(5, "2023-03-01 13:10", "dmitri", "Tabs it is", thread=STYLE),
        liked(6, "2023-03-01 13:11", "anna", 5, "😀"),
        liked(7, "2023-03-01 13:11", "ben", 5, "😀"),
        liked(8, "2023-03-01 13:12", "chloe", 5, "😱"),
        said(9, "2023-03-06 09:24", "", None, "incident", event="activity", app="influx",
             title="Build 7 failed", author={"name": "Jenkins"}),
        said(10, "2023-03-06 10:00", "", None, event="activity", app="influx",
             title="Build 8 passed", author={"name": "Jenkins"}),
    ],
    "acme/attic": [said(1, "2023-01-20 16:00", "ben", "I have cleared the attic")],
    PRIVATE: [
        said(9492901419, "2023-02-20 12:00", "anna", "Lunch?", to="2"),
        said(9492901420, "2023-02-20 12:01", "ben", "In ten minutes", to="1"),
    ],
}  # fmt: skip

# Ben edited this in the attic while nobody listened, so only a listing showed it.
LISTED = said(1, "2023-01-20 16:00", "ben", "I have cleared the attic and the cellar",
              edited=millis("2023-01-20 16:03"))  # fmt: skip

ASIDE = [
    b"<html>502 Bad Gateway</html>",
    b"<html>504 Gateway Time-out</html>",
    b'{"event": "message", "content": "without an id"}',
]
SIGNALS = [
    {"event": "activity.user", "user": "2", "sent": millis("2023-03-06 09:19"), "content": {}},
    {"event": "activity.user", "user": "2", "sent": millis("2023-03-06 09:24"), "content": {}},
    {"event": "activity.user", "user": "3", "sent": millis("2023-03-06 09:24"), "content": {}},
]

PROVEN = {
    "acme/main": Standing(streamed=Ranges(((1, 12), (17, 30))), due=30),
    "acme/dev": Standing(streamed=Ranges(((1, 10),)), listed=Ranges(((1, 10),)), due=10),
    "acme/attic": Standing(listed=Ranges(((1, 1),)), due=1),
}


async def build(engine: Engine) -> None:
    """Archive the world in an empty archive."""
    now = moment(LISTED_AT)
    async with transaction(engine) as tx:
        keys = await directory.see_flows(tx, list(map(flow, [*FLOWS, PRIVATE])), now=now)
        await directory.see_users(
            tx, [User(id=UserId(id_), nick=nick) for nick, id_ in PEOPLE.items()], now=now
        )
    arrivals = [
        arrival(json.dumps({**frame, "flow": path}).encode(), keys[FlowId(path)])
        for path, frames in STREAMED.items()
        for frame in frames
    ]
    arrivals += [
        arrival(json.dumps(signal).encode(), keys[FlowId("acme/main")]) for signal in SIGNALS
    ]
    arrivals += [arrival(raw, None) for raw in ASIDE]
    gains = {keys[FlowId(path)]: standing for path, standing in PROVEN.items()}
    await apply(engine, Batch(now=now, arrivals=arrivals, gains=gains))
    await keep_files(engine, keys[FlowId("acme/main")])
    shown = json.dumps({**LISTED, "flow": "acme/attic"}).encode()
    await apply(engine, Batch(now=now, arrivals=[listing(shown, keys[FlowId("acme/attic")])]))


async def keep_files(engine: Engine, flow_key: int) -> None:
    """Store the contents of a flow's files, except one, which the service did not give."""
    async with transaction(engine) as tx:
        first, *others = sorted(
            await files.due(tx, [flow_key], most=9), key=attrgetter("path"), reverse=True
        )
        told = "the file was answered with status 404"
        await files.fail(tx, first, error=told, rest=timedelta(minutes=1))
        for one in others:
            content = b"\x89PNG\r\n\x1a\n" + one.path.encode()
            await files.keep(tx, one, BytesIO(content), sha256=sha256(content).hexdigest())


def flow(path: str) -> Flow:
    """A flow, or a private conversation, as the service lists it."""
    is_private = path.startswith("private/")
    return Flow(
        id=FlowId(path),
        path=path,
        organization=None if is_private else "acme",
        name=FLOWS.get(path),
        access_mode=None if is_private else "organization",
        joined=True,
        disabled=False,
    )


def arrival(raw: bytes, flow_key: int | None) -> Arrival:
    """*raw* as a stream brought it, ten seconds after it was sent."""
    decoded = decode(raw)
    sent_at = getattr(decoded, "sent_at", None)
    return Arrival(
        frame=raw,
        decoded=decoded,
        flow_key=flow_key,
        witness="stream",
        origin="stream work 1",
        received_at=sent_at or moment("2023-03-06 09:23"),
    )


def listing(raw: bytes, flow_key: int) -> Arrival:
    """*raw* as a page showed it at the end."""
    return Arrival(
        frame=raw,
        decoded=decode_listed(raw),
        flow_key=flow_key,
        witness="list",
        origin="list acme/attic",
        received_at=moment(LISTED_AT),
        listed_as_of=EventId(1),
    )
