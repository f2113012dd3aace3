"""Decode and fold: the events of the bench of ingest in memory, from bytes to rows of messages.

The limit is the parser alone: each frame becomes the envelope that the decoder begins with, which
is the fastest that this parser can read an event. One batch is 1,000 events, and garbage is looked
for as in the daemon: a collector that walks through all frames again and again makes the parser
look twice as slow as it is.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from time import process_time

import msgspec

from archiver.domain.events import Decoded, Event
from archiver.domain.facts import Fact, Showing, target
from archiver.flowdock.decode import decode
from archiver.flowdock.envelope import Envelope
from archiver.ingest.batch import fact_of
from archiver.ingest.folding import replayed, shows
from archiver.memory import collect_rarely
from archiver.store.bulk import Key
from archiver.store.messages import Held, History
from tests.bench import traffic
from tests.bench.figures import Figure, Target
from tests.bench.lab import Lab
from tests.bench.options import Options

BATCH = 1000


def run(lab: Lab, options: Options) -> Iterator[Figure]:
    """Yield decode and fold against the parser, and by itself."""
    sent = list(traffic.events(options.amount(500_000, quick=20_000), flows=200))
    frames = [(one.flow, one.frame) for one in sent]
    values, limits = [], []
    collect_rarely()
    for _ in range(3):
        limits.append(len(frames) / timed(parse, frames))
        values.append(len(frames) / timed(decode_and_fold, frames))
    yield Figure(
        bench="decode + fold",
        unit="events/s",
        values=values,
        limits=limits,
        target=Target("ratio", "at least", 0.4),
    )
    yield Figure(
        bench="decode + fold, CPU",
        unit="µs/event",
        values=[1e6 / value for value in values],
        target=Target("value", "at most", 8.0),
    )


Frames = Sequence[tuple[int, bytes]]


def parse(frames: Frames) -> None:
    """Read the JSON of each frame, and nothing else."""
    read = msgspec.json.Decoder(Envelope).decode
    for batch in batches(frames):
        _ = [read(frame) for _, frame in batch]


def decode_and_fold(frames: Frames) -> int:
    """Make messages of *frames*, as the writer does with those that are new; returns how many."""
    return sum(fold(decode_batch(batch)) for batch in batches(frames))


def time_fold(frames: Frames) -> float:
    """How many seconds of processor time `decode_and_fold` spends on folding."""
    seconds = 0.0
    for batch in batches(frames):
        events = decode_batch(batch)
        began = process_time()
        fold(events)
        seconds += process_time() - began
    return seconds


def decode_batch(batch: Frames) -> list[tuple[int, Decoded]]:
    """What *batch* says, each with its flow."""
    return [(flow_key, decode(frame)) for flow_key, frame in batch]


def fold(events: Sequence[tuple[int, Decoded]]) -> int:
    """Make messages of *events*; returns how many."""
    facts: dict[Key, list[Fact]] = {}
    for flow_key, event in events:
        if isinstance(event, Event) and (fact := fact_of(event, position=event.id, shown_at=None)):
            about_id = event.id if isinstance(fact, Showing) else target(fact)
            facts.setdefault((flow_key, about_id), []).append(fact)
    histories: dict[Key, History] = {}
    held: dict[Key, Held] = {}
    for key, about in facts.items():
        if shows(about):
            held[key] = replayed(key, about, histories)
    return len(held)


def timed(work: Callable[[Frames], object], frames: Frames) -> float:
    """How many seconds of processor time *work* takes."""
    began = process_time()
    work(frames)
    return process_time() - began


def batches(frames: Frames) -> Iterator[Frames]:
    """*frames*, as many at a time as one transaction takes."""
    waiting = iter(frames)
    while batch := list(islice(waiting, BATCH)):
        yield batch
