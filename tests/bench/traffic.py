"""Prepared events: what a busy organization says, as the bytes that its service would send.

Of 100 events 80 are messages, a fifth of them in threads, and 5 each are comments, edits, changes
of tags and activities. They have 300 to 500 bytes. The same seed gives the same bytes.
"""

from collections.abc import Iterable, Iterator
from random import Random
from uuid import UUID

import msgspec
from msgspec import Struct

ORGANIZATION = "acme"
BEGAN_AT = 1_700_000_000_000
"""When the first event was sent, in milliseconds since 1970."""
RECENT = 200
"""How far back people still change what was said, in messages of one flow."""

_WORDS = """
    the build is green again and we deploy after lunch unless somebody has seen the log of last
    night where cache lookups took twice as long as before could you have a look at this pull
    request it touches session handling thanks that was quick I think it should roll back first
    then compare both branches
""".split()  # noqa: SIM905 - fifty lines of single words read worse
_ELSEWHERE = ("größere Änderungen am Grundgerüst", "всё готово", "明日見ます", "👍 käy hyvin")
_TAGS = ("todo", "Release", "ops", "ünïcode", "later", ":url", ":user:7", "bug", "q3", "idea")
_KINDS = ("message", "comment", "message-edit", "tag-change", "activity")
_WEIGHTS = (80, 5, 5, 5, 5)

encode = msgspec.json.Encoder().encode


class Sent(Struct, frozen=True):
    """One event, ready to be sent."""

    flow: int
    id: int
    frame: bytes


def path_of(flow: int) -> str:
    """The path of the flow of this number, below its organization."""
    return f"{ORGANIZATION}/project-{flow}"


def id_of(flow: int) -> str:
    """Flowdock's id of the flow of this number."""
    return str(UUID(int=0xF10D0C << 96 | flow))


def flow_objects(flows: int) -> bytes:
    """What the service lists of so many flows."""
    return encode([_flow(number) for number in range(flows)])


def flow_object(flow: int) -> bytes:
    """What the service tells of one flow."""
    return encode(_flow(flow))


def _flow(number: int) -> dict[str, object]:
    return {
        "id": id_of(number),
        "name": f"Project {number}",
        "parameterized_name": path_of(number).partition("/")[2],
        "organization": {"id": 1, "name": "Acme", "parameterized_name": ORGANIZATION},
        "joined": True,
        "url": f"https://api.flowdock.com/flows/{path_of(number)}",
        "access_mode": "organization",
    }


def events(count: int, *, flows: int, seed: int = 1, after: int = 0) -> Iterator[Sent]:
    """*count* events of so many flows, in the order in which they happen, with ids above *after*.

    The first of each flow comes next after that: nothing is missing that nobody could list.
    """
    chance = Random(f"{seed}/events")
    heads = [after] * flows
    recent: list[list[int]] = [[] for _ in range(flows)]
    sentences = [_sentence(chance) for _ in range(2000)]
    kinds = chance.choices(_KINDS, _WEIGHTS, k=count)
    for number, kind in enumerate(kinds):
        flow = int(flows * chance.random())
        said = recent[flow]
        # Signals and what is never stored take ids as well.
        is_next = not said or chance.random() < 0.7
        heads[flow] += 1 if is_next else chance.randint(2, 5)
        event = _event(chance, kind if said else "message", heads[flow], said, sentences)
        event["flow"] = id_of(flow)
        event["sent"] = BEGAN_AT + 7 * number
        event["created_at"] = "2023-11-14T22:13:20.000Z"
        if event["event"] in {"message", "comment"}:
            said.append(heads[flow])
            del said[:-RECENT]
        yield Sent(flow, heads[flow], encode(event))


def messages(count: int, *, flow: int, seed: int = 1) -> Iterator[Sent]:
    """*count* messages of one flow, as a listing shows them."""
    chance = Random(f"{seed}/messages/{flow}")
    sentences = [_sentence(chance) for _ in range(500)]
    id_ = 0
    for number in range(count):
        id_ += 1 if chance.random() < 0.7 else chance.randint(2, 5)
        event = _event(chance, "message", id_, [], sentences)
        event["flow"] = id_of(flow)
        event["sent"] = BEGAN_AT + 7 * number
        event["created_at"] = "2023-11-14T22:13:20.000Z"
        event["edited"] = None
        yield Sent(flow, id_, encode(event))


def large(count: int, *, flows: int, content_bytes: int) -> Iterator[Sent]:
    """*count* messages that are as long as no service should allow."""
    for number in range(count):
        event = {
            "event": "message",
            "id": number + 1,
            "flow": id_of(number % flows),
            "content": f"{number:09} " * (content_bytes // 10),
            "user": "1",
            "sent": BEGAN_AT + number,
        }
        yield Sent(number % flows, number + 1, encode(event))


def as_event_stream(sent: Iterable[Sent]) -> bytes:
    """*sent* as records of an event stream."""
    return b"".join(b"id: %d\ndata: %b\n\n" % (one.id, one.frame) for one in sent)


def _event(
    chance: Random, kind: str, id_: int, said: list[int], sentences: list[str]
) -> dict[str, object]:
    event: dict[str, object] = {
        "app": "chat",
        "event": kind,
        "tags": chance.sample(_TAGS, k=chance.choice((0, 0, 0, 1, 2))),
        "uuid": f"{chance.getrandbits(128):032x}",
        "id": id_,
        "content": "",
        "attachments": [],
        "user": str(chance.randint(1, 400)),
    }
    sentence = sentences[int(2000 * chance.random()) % len(sentences)]
    target = said[int(len(said) * (1 - chance.random() ** 2))] if said else 0
    match kind:
        case "message":
            event["content"] = sentence
            if chance.random() < 0.2:
                event["thread_id"] = f"T{id_ // 20:026d}"
        case "comment":
            event["content"] = {"title": sentence[:40], "text": sentence}
            event["tags"] = [f"influx:{target}"]
        case "message-edit":
            event["content"] = {"message": target, "updated_content": sentence}
            event["tags"] = []
        case "tag-change":
            tag = chance.choice(_TAGS)
            add, remove = ([tag], []) if chance.random() < 0.7 else ([], [tag])
            event["content"] = {"message": target, "add": add, "remove": remove}
            event["tags"] = []
        case _:
            event |= _activity(id_, sentence)
    return event


def _activity(id_: int, sentence: str) -> dict[str, object]:
    thread = {"id": f"P{id_ // 50}", "title": sentence[:20], "status": {"value": "open"}}
    return {
        "app": None,
        "tags": [],
        "title": "pushed <b>two</b> commits",
        "body": f"<p>{sentence[:60]}</p>",
        "author": {"name": "Ann", "email": "ann@acme.example"},
        "thread_id": thread["id"],
        "thread": thread,
    }


def _sentence(chance: Random) -> str:
    """Some words: now a few, now many; most fit into one line."""
    words = chance.choices(_WORDS, k=chance.randint(8, 40))
    if chance.random() < 0.15:
        words.append(chance.choice(_ELSEWHERE))
    text = " ".join(words)
    return text.replace(" and ", ' "and" ', 1).replace(" then ", "\n", 1)
