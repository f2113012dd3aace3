"""Arrivals to archive, made by hand or drawn at random, and ways to see what became of them.

`hearsay` draws what no service guarantees: any mixture of forms, listings and mutations of a few
messages, consistent or not. Whatever it draws, the rows must not depend on how it arrived.
"""

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import psycopg
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from typing_extensions import override

from archiver.domain.events import Decoded
from archiver.domain.model import EventId, FlowId
from archiver.flowdock.decode import decode, decode_listed
from archiver.ingest.absence import NOT_FOUND
from archiver.ingest.batch import Arrival, Batch, vanished
from archiver.store import directory
from archiver.store.connection import Engine
from archiver.store.engine import create_engine, transaction

NOW = datetime(2024, 1, 1, tzinfo=UTC)
SENT = 1_577_836_800_000
LONG_AGO = datetime(2010, 1, 1, tzinfo=UTC)

FEW = settings(
    max_examples=25,
    deadline=None,
    # Shrinking a failure takes minutes with a database, and the examples are small as they are.
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
    database=None,
)
"""Settings for properties whose examples are written to a database."""


def frame(id_: int, event: str = "message", **fields: Any) -> bytes:
    """A frame as Flowdock sends it; a message says "hello" unless told otherwise."""
    body = {"id": id_, "event": event, "flow": "f", "user": "1", "sent": SENT + id_}
    return json.dumps({**body, "content": "hello", **fields}).encode()


def edit(id_: int, target: int, content: str, **fields: Any) -> bytes:
    return frame(
        id_, "message-edit", content={"message": target, "updated_content": content, **fields}
    )


def tag_change(
    id_: int, target: int, *, add: Sequence[str] = (), remove: Sequence[str] = ()
) -> bytes:
    content = {"message": target, "add": list(add), "remove": list(remove)}
    return frame(id_, "tag-change", content=content)


def streamed(payload: bytes, flow_key: int, *, at: datetime = NOW) -> Arrival:
    """*payload* as it came on a stream."""
    return _arrival(payload, decode(payload), flow_key, at)


def listed(payload: bytes, flow_key: int, *, as_of: int, at: datetime = NOW) -> Arrival:
    """*payload* as a page showed it when *as_of* was the newest known id of the flow."""
    arrival = _arrival(payload, decode_listed(payload), flow_key, at)
    return replace(arrival, witness="list", origin="list acme/main", listed_as_of=EventId(as_of))


def gone(id_: int, flow_key: int, *, as_of: int, at: datetime = NOW) -> Arrival:
    """A message that a listing did not show, and Show Message did not find."""
    arrival = _arrival(NOT_FOUND, vanished(id_, sent_at=at), flow_key, at)
    return replace(arrival, witness="show", origin="show acme/main", listed_as_of=EventId(as_of))


def _arrival(payload: bytes, decoded: Decoded, flow_key: int, at: datetime) -> Arrival:
    return Arrival(
        frame=payload,
        decoded=decoded,
        flow_key=flow_key,
        witness="stream",
        origin="default 1",
        received_at=at,
    )


async def new_flow(engine: Engine) -> int:
    """The key of a new flow, which has no events."""
    name = FlowId(uuid4().hex)
    async with transaction(engine) as tx:
        return (await directory.name_flows(tx, [name], now=NOW))[name]


@contextmanager
def running(database_url: str, *, engines: int = 1) -> Iterator[tuple[Any, ...]]:
    """Give a function that runs coroutines, and so many *engines* connected to the database."""
    made = [create_engine(database_url) for _ in range(engines)]
    with asyncio.Runner() as runner:
        try:
            yield (runner.run, *made)
        finally:
            for engine in made:
                runner.run(engine.dispose())


def derived(admin: psycopg.Connection, flow_key: int) -> dict[str, list[Any]]:
    """What is stored of the flow's messages, revisions and threads, row by row."""
    order = {"messages": "id", "revisions": "message_id, ordinal", "threads": "thread_id"}
    return {
        table: [
            row
            for (row,) in admin.execute(
                f"SELECT (to_jsonb(t) - 'flow_key')::text FROM store.{table} t "
                f"WHERE flow_key = %s ORDER BY {by}",
                [flow_key],
            )
        ]
        for table, by in order.items()
    }


def query(database_url: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(statement, parameters).fetchall()


def waits_for_lock(database_url: str, *, sessions: int = 1) -> bool:
    """Tell whether at least so many sessions wait for a lock."""
    waiting = """
        SELECT FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND datname = current_database()
    """
    return len(query(database_url, waiting)) >= sessions


def fail_to_journal(database_url: str, id_: int, *, state: str) -> None:
    """Have Postgres fail with the SQLSTATE *state* whenever the event *id_* is journalled."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"RAISE EXCEPTION 'not to be kept' USING ERRCODE = '{state}'; END $$"
        )
        connection.execute(
            "CREATE TRIGGER fail BEFORE INSERT ON store.journal FOR EACH ROW "
            f"WHEN (NEW.id = {id_}) EXECUTE FUNCTION fail()"
        )


@dataclass(frozen=True)
class Heard:
    """A frame as it was received, for any flow."""

    payload: bytes
    seconds: int
    as_of: int | None = None
    """The position of a listing; None on a stream."""

    def arrival(self, flow_key: int) -> Arrival:
        at = NOW + timedelta(seconds=self.seconds)
        if self.as_of is None:
            return streamed(self.payload, flow_key, at=at)
        return listed(self.payload, flow_key, as_of=self.as_of, at=at)


@dataclass(frozen=True)
class Gone(Heard):
    """A message that Show Message could not find."""

    id: int = 0

    @override
    def arrival(self, flow_key: int) -> Arrival:
        at = NOW + timedelta(seconds=self.seconds)
        return gone(self.id, flow_key, as_of=self.as_of or 0, at=at)


def together(heard: Iterable[Heard], flow_key: int) -> Batch:
    """*heard* as one batch, written after all of it was received."""
    arrivals = [one.arrival(flow_key) for one in heard]
    return Batch(now=NOW + timedelta(minutes=1), arrivals=arrivals)


MESSAGES = (1, 2)
TAGS = ("todo", "Bug", ":unread:2", "ÄPFEL")
DATES = (None, "1970-01-01T00:00:02Z", *(f"2020-01-01T00:00:0{n}Z" for n in (1, 2)))
"""Dates of threads; the one of 1970 is as exports have it."""
_tags = st.lists(st.sampled_from(TAGS), unique=True, max_size=2)


@st.composite
def _shown(draw: st.DrawFn) -> bytes:
    """One of the forms in which a message is shown; they are so few that repeats occur."""
    edited = draw(st.sampled_from([None, None, SENT + 5, SENT + 11]))
    kind = draw(st.sampled_from(["message", "message", "vcs", "flow-rename"]))
    fields: dict[str, Any] = {
        "user": draw(st.sampled_from(["1", "1", "2", None])),
        "sent": SENT + draw(st.sampled_from([0, 0, 1])),
        "tags": draw(_tags),
        "edited": edited,
        "content": {"name": "push", "n": 10**25, "x": 1e22} if kind == "vcs" else "hello",
    }
    if edited:
        fields["content"] = draw(st.sampled_from(["", "edited"]))
    if thread := draw(st.sampled_from([None, None, "a", "b"])):
        title = draw(st.sampled_from(["one", "two"]))
        dated = {"updated_at": draw(st.sampled_from(DATES))}
        fields |= {"thread_id": thread, "thread": {"id": thread, "title": title, **dated}}
    return frame(draw(st.sampled_from(MESSAGES)), kind, **fields)


@st.composite
def _mutation(draw: st.DrawFn) -> bytes:
    id_, target = draw(st.integers(2, 12)), draw(st.sampled_from(MESSAGES))
    sent = {} if draw(st.booleans()) else {"sent": draw(st.sampled_from([None, SENT + 5]))}
    match draw(
        st.sampled_from(["edit", "edit", "tags", "tags", "react", "move", "delete", "thread"])
    ):
        case "edit":
            changes: dict[str, Any] = {"message": target}
            changes["updated_content"] = draw(st.sampled_from(["", "one", "two"]))
            if draw(st.booleans()):
                changes["updated_tags"] = draw(_tags)
            return frame(id_, "message-edit", content=changes, **sent)
        case "tags":
            # White space makes another form that says the same.
            spaces = b" " * draw(st.integers(0, 1))
            return tag_change(id_, target, add=draw(_tags), remove=draw(_tags)) + spaces
        case "react":
            kind = draw(st.sampled_from(["add", "remove"]))
            return frame(
                id_, "emoji-reaction", content={"message": target, "emoji": "+1", "type": kind}
            )
        case "move":
            thread = draw(st.sampled_from(["a", "b", None]))
            return frame(id_, "message-change", message_id=target, content={"thread_id": thread})
        case "delete":
            return frame(id_, "message-delete", content={"message": target}, **sent)
        case _:
            thread = draw(st.sampled_from("ab"))
            title = draw(st.sampled_from(["three", "four"]))
            content = {"id": thread, "title": title, "updated_at": draw(st.sampled_from(DATES))}
            return frame(id_, "thread-change", content=content)


@st.composite
def hearsay(draw: st.DrawFn) -> list[Heard]:
    """What is received: a few payloads, each any number of times, on streams and in listings."""
    payloads = draw(st.lists(_shown(), min_size=1, max_size=3))
    payloads += draw(st.lists(_mutation(), max_size=3))
    as_of = st.none() | st.integers(0, 15)
    heard = st.builds(Heard, st.sampled_from(payloads), st.integers(0, 3), as_of)
    absent = st.builds(
        Gone, st.just(NOT_FOUND), st.integers(0, 3), st.integers(0, 15), st.sampled_from(MESSAGES)
    )
    told = draw(st.lists(heard, min_size=1, max_size=12))
    return told + draw(st.lists(absent, max_size=2))


@st.composite
def cut(draw: st.DrawFn, heard: Sequence[Heard]) -> list[list[Heard]]:
    """*heard* in any order, cut into batches of any size."""
    shuffled = draw(st.permutations(heard))
    ends = sorted(draw(st.lists(st.integers(0, len(heard)), max_size=4)))
    pieces = [shuffled[a:b] for a, b in pairwise([0, *ends, len(heard)])]
    return [list(piece) for piece in pieces if piece]
