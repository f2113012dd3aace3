"""Changes in the flows that the daemon hears of late, wrongly, or not at all."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from random import Random

import psycopg

from archiver.simulator import membership
from archiver.simulator.entities import Flow, Message, Place
from archiver.simulator.faults import Fault
from archiver.simulator.world import CHAT, World
from tests.oracle.trial import LISTING_DELAY_SECONDS, Trial
from tests.oracle.troubles.trouble import Trouble

LATE_SECONDS = 0.4
"""Less than the settling time: an archiver cannot know of what becomes listable even later."""

CROWD = 60
"""How many messages are posted so that a bulk of messages can vanish at once."""

BULK = "vanished in bulk"
"""What the daemon logs when it sees that and does not mark the messages as deleted."""

LOOK_SECONDS = 0.3

ROW = 30
"""The minimum number of messages in a run of consecutive ones that vanish."""

DEEP = 200


def readable(trial: Trial) -> list[Flow]:
    """The flows that the daemon's account can read."""
    me = trial.flowdock.me.id
    return [flow for flow in trial.flowdock.world.flows if me in flow.members and not flow.disabled]


async def readable_one(trial: Trial, chance: Random) -> Flow:
    """One of these flows; waits while other troubles have disabled or left all of them."""
    await trial.until(lambda: bool(readable(trial)))
    return chance.choice(readable(trial))


def change(world: World, place: Place, chance: Random) -> bool:
    """Change a random message of *place* in a random way; tell whether there was one."""
    messages = [message for message in place.timeline if not message.is_deleted()]
    if not messages:
        return False
    message = chance.choice(messages)
    someone = chance.choice(world.users)
    ways = ["tag", "react"] + ["edit", "delete"] * (message.event in CHAT)
    ways += ["delete"] * (message.event == "file")
    ways += ["rethread"] * (isinstance(place, Flow) and bool(place.threads))
    match chance.choice(ways):
        case "tag":
            gone = chance.sample(message.tags, min(1, len(message.tags)))
            added = [f"t{chance.randint(1, 9)}"]
            world.change_tags(place, message.id, add=added, remove=gone, user=someone)
        case "react":
            world.react(place, message.id, someone, chance.choice(("🎉", "👍", ":ship:")))
        case "edit":
            world.edit(place, message.id, f"changed to {chance.random()} #changed")
        case "delete":
            world.delete(place, message.id)
        case _:
            assert isinstance(place, Flow)
            thread = chance.choice(list(place.threads.values()))
            world.rethread(place, message.id, thread, user=someone)
    return True


def change_some(trial: Trial, chance: Random) -> None:
    """Change up to ten messages without events on any stream."""
    world = trial.flowdock.world
    places: list[Place] = [*readable(trial)]
    places += world.directory.conversations_of(trial.flowdock.me)
    with world.unheard():
        changed = [change(world, chance.choice(places), chance) for _ in range(10)]
    assert any(changed), "there was nothing to be changed"


async def change_unheard(trial: Trial, chance: Random) -> None:
    """Change messages unheard while the daemon is connected."""
    await trial.flowdock.connected()
    change_some(trial, chance)


async def change_disconnected(trial: Trial, chance: Random) -> None:
    """Change messages while the daemon cannot connect; no replay brings the changes either."""
    trial.flowdock.faults.add(Fault(kind="refuse", seconds=1.0, name="(kept from listening)"))
    await trial.until(lambda: not trial.flowdock.streams.connections)
    change_some(trial, chance)


async def list_late(trial: Trial, chance: Random) -> None:
    """Post messages that become listable later than messages posted after them."""
    world = trial.flowdock.world
    for _ in range(8):
        flow = chance.choice(readable(trial))
        world.listing_delay_ms = round(LATE_SECONDS * 1000)
        world.post(flow, chance.choice(world.users), "listed late")
        world.listing_delay_ms = round(LISTING_DELAY_SECONDS * 1000)
        world.post(flow, chance.choice(world.users), "listed at once")
        await asyncio.sleep(0.02)


async def rename(trial: Trial, chance: Random) -> None:
    """Rename a flow; another one may then get its old address."""
    async with trial.flow_turn:
        world = trial.flowdock.world
        flow, *others = chance.sample(readable(trial), len(readable(trial)))
        old = flow.slug
        world.directory.move_flow(flow, f"renamed-{chance.randint(0, 10**9)}")
        membership.change(world, flow, None, name="Renamed")
        await asyncio.sleep(chance.uniform(0, 1))
        if others and chance.random() < 0.5:
            world.directory.move_flow(others[0], old)


async def leave(trial: Trial, chance: Random) -> None:
    """Let the account leave a flow, and join it again later."""
    async with trial.flow_turn:
        world, me = trial.flowdock.world, trial.flowdock.me
        flow = chance.choice(readable(trial))
        membership.leave(world, flow, me)
        await asyncio.sleep(chance.uniform(0, 2))
        membership.join(world, flow, me)


async def found(trial: Trial, chance: Random) -> None:
    """Let someone found a flow and post there before the account joins it."""
    async with trial.flow_turn:
        world, me = trial.flowdock.world, trial.flowdock.me
        organization = next(iter(world.directory.organizations.values()))
        other = world.users[-1]
        flow = membership.found(world, organization, f"New {chance.randint(0, 10**9)}", other)
        for number in range(chance.randint(0, 150)):
            world.post(flow, other, f"before you came {number}")
        await asyncio.sleep(chance.uniform(0, 0.5))
        membership.join(world, flow, me)
        world.post(flow, me, "here I am")


async def disable(trial: Trial, chance: Random) -> None:
    """Disable a flow, and enable it again later."""
    async with trial.flow_turn:
        world = trial.flowdock.world
        flow = chance.choice(readable(trial))
        membership.change(world, flow, None, disabled=True)
        await asyncio.sleep(chance.uniform(0, 2))
        membership.change(world, flow, None, disabled=False)


async def talk_in_private(trial: Trial, chance: Random) -> None:
    """Let someone new begin a private conversation with the account's user."""
    world, me = trial.flowdock.world, trial.flowdock.me
    organization = next(iter(world.directory.organizations.values()))
    nick = f"new{chance.randint(0, 10**9)}"
    other = world.directory.add_user(organization, nick=nick, name="Someone New")
    talk = world.directory.conversation(me, other)
    for number in range(chance.randint(1, 20)):
        said = world.post(talk, chance.choice((me, other)), f"between us {number}")
        if number % 3 == 0:
            world.edit(talk, said.id, "between us, on second thought")
        await asyncio.sleep(0.02)


async def vanish(trial: Trial, chance: Random) -> None:
    """Let many messages vanish from a flow's listings; the archive must not mark them deleted."""
    async with trial.flow_turn:
        world = trial.flowdock.world
        flow = chance.choice(readable(trial))
        for number in range(CROWD):
            world.post(flow, chance.choice(world.users), f"one of many {number}")
        newest = [message.id for message in flow.timeline][-6]

        def doomed() -> list[Message]:
            return list(flow.timeline.oldest_first(None, newest + 1))

        # Computed anew each time: a message removed meanwhile may never have reached the archive.
        while not {one.id for one in doomed()} <= (await held(trial, flow)).keys():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
        for id_ in put_away(doomed(), chance):
            flow.timeline.conceal(id_)
        said = words_of(trial, BULK)
        while words_of(trial, BULK) == said:  # noqa: ASYNC110 - what another program says
            await asyncio.sleep(LOOK_SECONDS)
        await asyncio.sleep(1)
        marked = {id_ for id_, is_deleted in (await held(trial, flow)).items() if is_deleted}
        wrong = [
            id_
            for id_, message in flow.timeline.concealed.items()
            if id_ in marked and not message.is_deleted()
        ]
        flow.timeline.reveal()
        if wrong:
            trial.failures.append(
                f"{len(wrong)} messages that vanished in bulk were marked deleted"
            )


def put_away(messages: Sequence[Message], chance: Random) -> list[int]:
    """The ids of those that vanish: all, a run of consecutive ones, or all but the inbox's."""
    match chance.choice(("all", "a row", "chat")):
        case "all":
            gone = messages
        case "a row":
            first = chance.randint(0, len(messages) - ROW)
            gone = messages[first : first + chance.randint(ROW, len(messages))]
        case _:
            gone = [one for one in messages if one.app != "influx"]
    return [one.id for one in gone]


def words_of(trial: Trial, words: str) -> int:
    """How often *words* occur in the logs of the daemons."""
    return sum(daemon.log.read_text(errors="replace").count(words) for daemon in trial.daemons)


async def held(trial: Trial, flow: Flow) -> dict[int, bool]:
    """The ids of the messages of *flow* in the archive, each with whether it is marked deleted."""
    query = (
        "SELECT id, deleted_at IS NOT NULL FROM archive.messages JOIN archive.flows USING (flow)"
        " WHERE flow_id = %s"
    )

    def ask() -> dict[int, bool]:
        with psycopg.connect(trial.database_url, connect_timeout=2) as connection:
            return dict(connection.execute(query, [flow.id]).fetchall())

    with suppress(psycopg.OperationalError):
        return await asyncio.to_thread(ask)
    return {}


async def send_without_ids(trial: Trial, chance: Random) -> None:
    """Stream events without ids, of known and unknown kinds."""
    await trial.flowdock.connected()
    flow = await readable_one(trial, chance)
    for kind in ("message", "presence", "tag-change", "nobody-knows"):
        raw = f'{{"event":"{kind}","flow":"{flow.id}","content":"no id","user":"1"}}'
        trial.flowdock.world.inject(flow, raw.encode())
    await trial.flowdock.delivered()


async def poison_stream(trial: Trial, chance: Random) -> None:
    """Stream invalid events: no JSON, no object, no UTF-8, absurd numbers, deep nesting."""
    await trial.flowdock.connected()
    flow = await readable_one(trial, chance)
    named = f'"flow":"{flow.id}","content":"x","user":"1","sent":1'
    for raw in (
        b"this is not JSON",
        b"[1,2,3]",
        b'"text"',
        b'{"event":"message","id":',
        b"\xff\xfe\xfd",
        b'{"event":' + b"[" * 5000 + b"]" * 5000 + b"}",
        f'{{"event":"message","id":{10**30},{named}}}'.encode(),
        f'{{"event":"message","id":-5,{named}}}'.encode(),
        f'{{"event":"message","id":"text",{named}}}'.encode(),
        f'{{"event":null,"id":{{}},{named}}}'.encode(),
    ):
        trial.flowdock.world.inject(flow, raw)
    await trial.flowdock.delivered()


async def poison_rows(trial: Trial, chance: Random) -> None:
    """Post what a database may refuse: NUL, lone surrogates, huge numbers, deep nesting."""
    await trial.flowdock.connected()
    world = trial.flowdock.world
    deep: object = "bottom"
    for _ in range(DEEP):
        deep = [deep]
    texts = ("NUL \x00 here", "half \ud83d", "\ufffe\uffff", "\u2028\x85\x0b", "\u202ex")
    flow = await readable_one(trial, chance)
    for text in texts:
        extra = {"huge": 10**300, "deep": deep, "nul\x00": "\x00", "tiny": 1e-300}
        posted = world.post(flow, chance.choice(world.users), text, extra=extra)
        world.edit(flow, posted.id, f"{text} again")
    world.signal(flow, world.users[0], "strange\x00event", {"deep": deep, "nul": "\x00"})


async def post_giant(trial: Trial, chance: Random) -> None:
    """Post a message of 10 MB."""
    await trial.flowdock.connected()
    flow = await readable_one(trial, chance)
    trial.flowdock.world.post(flow, trial.flowdock.me, "ä giant " * 1_250_000)


TROUBLES = (
    Trouble(name="changes behind our back", inflict=change_unheard),
    Trouble(name="changes while disconnected", inflict=change_disconnected),
    Trouble(name="ids listable late", inflict=list_late),
    Trouble(name="flow renamed", inflict=rename),
    Trouble(name="flow left and joined again", inflict=leave),
    Trouble(name="flow founded and joined", inflict=found),
    Trouble(name="flow disabled and enabled", inflict=disable),
    Trouble(name="private conversation begun", inflict=talk_in_private),
    Trouble(name="bulk disappearance", inflict=vanish),
    Trouble(name="events without ids", inflict=send_without_ids),
    Trouble(name="poison on the stream", inflict=poison_stream),
    Trouble(name="poison in rows", inflict=poison_rows),
    Trouble(name="event of 10 MB", inflict=post_giant),
)
