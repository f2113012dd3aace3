"""What the feeder can say: prepared events for its streams, and messages that it lists."""

from functools import lru_cache

from msgspec import Struct

from tests.bench import traffic
from tests.bench.traffic import Sent


class Scene(Struct, frozen=True, kw_only=True):
    """What can be said: events for the streams, in their order, and messages to list."""

    numbers: dict[str, int]
    """Of the flows, by their paths."""
    events: list[Sent]
    listed: dict[int, tuple[list[int], list[bytes]]]
    """By the flow's number: the ids, and with them the messages."""
    newest: dict[int, int]
    """The newest id of each flow."""


class Asked(Struct, frozen=True, kw_only=True):
    """What a scene is to have; what is left out is as usual."""

    flows: int
    seed: int = 1
    events: int = 0
    after: int = 0
    large: int = 0
    content_bytes: int = 0
    messages: int = 0


@lru_cache(maxsize=2)
def prepare(asked: Asked) -> Scene:
    """Make a scene; the last ones are kept, since half a million events take a while to make."""
    flows, seed = asked.flows, asked.seed
    said = list(traffic.events(asked.events, flows=flows, seed=seed, after=asked.after))
    said += traffic.large(asked.large, flows=flows, content_bytes=asked.content_bytes)
    listed = {}
    for number in range(flows if asked.messages else 0):
        shown = list(traffic.messages(asked.messages, flow=number, seed=seed))
        listed[number] = [one.id for one in shown], [one.frame for one in shown]
    newest = {one.flow: one.id for one in said}
    newest |= {number: ids[-1] for number, (ids, _) in listed.items()}
    numbers = {traffic.path_of(number): number for number in range(flows)}
    return Scene(numbers=numbers, events=said, listed=listed, newest=newest)
