"""What goes wrong on the wire between Flowdock and the daemon."""

from random import Random
from typing import Literal

from archiver.simulator.faults import Fault
from tests.oracle.trial import Trial
from tests.oracle.troubles.trouble import Trouble, by_fault, reconnect_until

LISTS = "*/messages"
HTML = "<html><body><h1>Bad gateway</h1></body></html>"
STATUSES = (400, 403, 404, 409, 429, 500, 502, 503)


async def cut_in_head(trial: Trial, chance: Random) -> None:
    """Cut a stream inside the headers of its answer."""
    await _cut_through_door(trial, chance.randint(1, 150))


async def cut_in_chunk(trial: Trial, chance: Random) -> None:
    """Cut a stream anywhere in its body, including inside the size of an HTTP chunk."""
    await _cut_through_door(trial, chance.randint(200, 6000))


async def _cut_through_door(trial: Trial, after_bytes: int) -> None:
    door = trial.stream_door
    already = door.cuts

    def is_cut() -> bool:
        if door.cuts == already:
            door.cut_after = after_bytes  # a refusal too short to be cut may have used it up
        return door.cuts > already

    await reconnect_until(trial, is_cut)
    door.cut_after = None


async def forsake_streams(trial: Trial, chance: Random) -> None:
    """Leave the streams half-open: the daemon gets neither data nor a sign that they ended."""
    await trial.until(lambda: trial.stream_door.forsake() > 0)


async def forsake_pages(trial: Trial, chance: Random) -> None:
    """Cut the connections to the REST API, idle or in use."""
    await trial.until(lambda: trial.api_door.cut() > 0)


def refusal(status: int, on: Literal["stream", "rest"]) -> Trouble:
    """An answer with an error *status*, to a stream or to a page."""
    asked = "1" if status == 429 else None
    path = LISTS if on == "rest" else "*"
    name = f"{status} for a {'page' if on == 'rest' else 'stream'}"

    def make(chance: Random) -> Fault:
        return Fault(kind="status", on=on, path=path, status=status, retry_after=asked, times=1)

    return by_fault(name, make, anew=on == "stream")


TROUBLES = (
    by_fault(
        "stream cut after an event", lambda c: Fault(kind="cut", after_events=c.randint(1, 20))
    ),
    by_fault("stream cut at a byte", lambda c: Fault(kind="cut", after_bytes=c.randint(1, 5000))),
    by_fault(
        "stream reset", lambda c: Fault(kind="cut", after_bytes=c.randint(1, 5000), how="reset")
    ),
    by_fault(
        "stream ended in good order",
        lambda c: Fault(kind="cut", after_events=c.randint(1, 20), how="end"),
    ),
    by_fault(
        "stream cut inside a character",
        lambda c: Fault(kind="cut_inside_character", after_events=c.randint(1, 5)),
    ),
    Trouble(name="stream cut in the headers", inflict=cut_in_head),
    Trouble(name="stream cut anywhere in its chunks", inflict=cut_in_chunk),
    by_fault(
        "stream silent for ever", lambda c: Fault(kind="silence", after_events=c.randint(1, 9))
    ),
    by_fault(
        "stream stalled for half a second",
        lambda c: Fault(kind="silence", after_events=c.randint(1, 9), seconds=0.5),
    ),
    Trouble(name="stream half-open", inflict=forsake_streams),
    by_fault("streams refused", lambda c: Fault(kind="refuse", seconds=c.uniform(0.3, 2))),
    by_fault("API refused", lambda c: Fault(kind="refuse", on="rest", seconds=c.uniform(0.3, 2))),
    Trouble(name="connections of the API cut", inflict=forsake_pages),
    by_fault("page cut short", lambda c: Fault(kind="cut", on="rest", path=LISTS)),
    by_fault("page late", lambda c: Fault(kind="silence", on="rest", path=LISTS, seconds=1.5)),
    by_fault(
        "HTML for a page",
        lambda c: Fault(kind="status", on="rest", path=LISTS, status=200, body=HTML),
    ),
    by_fault("HTML for a stream", lambda c: Fault(kind="status", status=200, body=HTML), anew=True),
    by_fault(
        "HTML for the flows",
        lambda c: Fault(kind="status", on="rest", path="/flows", status=502, body=HTML),
    ),
    by_fault("401 for a page", lambda c: Fault(kind="status", on="rest", path=LISTS, status=401)),
    by_fault("401 for a stream", lambda c: Fault(kind="status", status=401), anew=True),
    *(refusal(status, "rest") for status in STATUSES),
    *(refusal(status, "stream") for status in STATUSES),
    by_fault(
        "events repeated",
        lambda c: Fault(kind="repeat", after_events=c.randint(1, 9), frames=c.randint(1, 9)),
    ),
    by_fault(
        "events reordered",
        lambda c: Fault(kind="reorder", after_events=1, frames=c.randint(1, 12), times=5),
    ),
    by_fault("event dropped silently", lambda c: Fault(kind="drop", after_events=c.randint(1, 9))),
    by_fault(
        "replay too late",
        lambda c: Fault(kind="replay_late", frames=c.randint(1, 20)),
        anew=True,
        needs_replay=True,
    ),
    by_fault(
        "replay too early",
        lambda c: Fault(kind="replay_early", frames=c.randint(1, 50)),
        anew=True,
        needs_replay=True,
    ),
    by_fault(
        "page short though there is more",
        lambda c: Fault(kind="short", on="rest", path=LISTS, frames=c.randint(1, 5), times=3),
    ),
    by_fault(
        "page with messages left out",
        lambda c: Fault(kind="hollow", on="rest", path=LISTS, frames=c.choice((1, 3, 100))),
    ),
)
