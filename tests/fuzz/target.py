"""The process that the fuzzer runs in: it makes inputs, guided by coverage, and checks the laws.

Half of the mutations are libFuzzer's, of bytes. The others change the JSON in an input as JSON, so
that it stays valid and reaches the decoders.
"""

import json
import sys
from random import Random
from typing import Any

import atheris

with atheris.instrument_imports(include=["archiver.flowdock", "archiver.domain"]):
    from tests.fuzz.laws import check

from archiver.flowdock.decode import MESSAGES, MUTATIONS, SIGNALS
from archiver.flowdock.envelope import Envelope

KINDS = sorted({*MESSAGES, *MUTATIONS, *SIGNALS})
INNER = (
    "message", "updated_content", "updated_tags", "updated_event", "add", "remove", "emoji",
    "type", "thread_id", "thread", "text", "title", "id", "status", "value", "source", "name",
    "application", "file_name", "file_size", "user", "nick", "read", "flows", "commits", "subject",
    "contentType", "content", "description", "email",
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, 10**40, 1.5, -0.0, 1e300, "", " ", "0",
    "7", "\0", "\ud800", "\U0001f600", "İ", "ß", "influx:5", "influx:99999999999999999999", "a,b,",
    ":unread:1", "2014-03-02T09:30:00.250Z", "0001-01-01T00:00:00+23:59", "add", "<p>&#99999999;",
    "<script>x", "x" * 256, [], {}, [[]], [{}], ["a", "A", 1, None], {"": ""}, {"a": ["1", 1]},
    {"flows": 1}, {"id": "t"}, {"text": "t", "title": 1},
)  # fmt: skip


def mutate(content: bytes, max_size: int, seed: int) -> bytes:
    """Return another input, derived from *content*."""
    chance = Random(seed)
    if chance.random() < 0.5:
        start, end = content.find(b"{"), content.rfind(b"}") + 1
        try:
            value = json.loads(content[start:end])
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            for _ in range(chance.randint(1, 3)):
                alter(value, chance)
            try:
                spaced = chance.choice([(",", ":"), (", ", ": ")])
                told = json.dumps(value, ensure_ascii=chance.random() < 0.7, separators=spaced)
                new = content[:start] + told.encode(errors="surrogatepass") + content[end:]
            except (RecursionError, ValueError):
                new = b""
            if 0 < len(new) <= max_size:
                return new
    return bytes(atheris.Mutate(content, max_size))


def alter(value: dict[str, Any], chance: Random) -> None:
    """Change one thing somewhere in *value*."""
    while (inner := [one for one in value.values() if isinstance(one, dict)]) and (
        chance.random() < 0.5
    ):
        value = chance.choice(inner)
    name = chance.choice([*value, *Envelope.__struct_fields__, *INNER])
    match chance.randrange(5):
        case 0:
            value.pop(name, None)
        case 1:
            value[name] = [value.get(name)] * chance.randint(1, 3)
        case 2:
            value[name] = {chance.choice(INNER): value.get(name)}
        case 3:
            value["event"] = chance.choice(KINDS)
        case _:
            value[name] = chance.choice(ODD)


def main() -> None:
    atheris.Setup(sys.argv, check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
