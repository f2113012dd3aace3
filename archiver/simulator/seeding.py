"""A world from a seed: an organization, its users and flows, and their history."""

from random import Random

from archiver.simulator.entities import User
from archiver.simulator.traffic import Traffic
from archiver.simulator.world import World

HISTORY_ENDS_AT = 1_690_000_000_000
"""When the history of a world ends by default; fixed, so that a seed determines every byte."""

DAY = 86_400_000
HISTORY_DAYS = 30
EARLIEST_END = -62_135_596_800_000 + HISTORY_DAYS * DAY
"""A history that ended earlier would begin before the year 1, which `datetime` does not have."""
LATEST_END = 253_402_300_799_999
"""The last moment of the year 9999."""

_PEOPLE = (
    ("Anna", "Anna Virtanen"),
    ("Mike", "Mike Johnson"),
    ("Jackie", "Jackie O'Neil"),
    ("Jose", "José Álvarez"),
    ("soren", "Søren Kjær"),
    ("Yulia", "Юлия Иванова"),
    ("Taro", "山田 太郎"),
    ("Lukasz", "Łukasz Nowak"),
    ("zoe", "Zoë Müller"),
    ("Hubot", "Hubot"),
    ("Fatima", "فاطمة علي"),
    ("An_Nguyen", "Nguyễn Văn An"),
    ("Aoife", "Aoife Byrne"),
    ("olu", "Olu Adeyemi"),
    ("Li", "李 小龙"),
    ("ada.l", "Ada L"),
)
_FLOWS = (
    ("main", "Main"),
    ("development", "Development"),
    ("operations", "Operations"),
    ("random", "Random"),
    ("design-uber", "Design Über"),
    ("support", "Support"),
    ("releases", "Releases"),
    ("japan", "日本チーム"),
    ("sales", "Sales"),
    ("incidents", "Incidents"),
)


def settle(world: World, *, flows: int, users: int, token: str | None) -> User:
    """Create the organization ``acme`` and return its first user, who has joined every flow.

    That user's API token is *token*, if given. The others have joined most flows, by the seed.
    """
    chance = world.chance
    acme = world.directory.add_organization("acme", "Acme")
    people = []
    for index in range(max(1, users)):
        nick, name = _PEOPLE[index % len(_PEOPLE)]
        people.append(
            world.directory.add_user(
                acme,
                nick=nick + (str(index // len(_PEOPLE) + 1) if index >= len(_PEOPLE) else ""),
                name=name,
                token=token if index == 0 else None,
                admin=index == 0,
            )
        )
    modes = ("organization", "invitation", "link")
    for index in range(flows):
        further = (f"flow-{index + 1}", f"Flow {index + 1}")
        slug, name = _FLOWS[index] if index < len(_FLOWS) else further
        flow = world.directory.add_flow(acme, slug=slug, name=name, access_mode=modes[index % 3])
        joined = [people[0], *(user for user in people[1:] if chance.random() < 0.8)]
        flow.members |= {user.id: True for user in joined}
    return people[0]


def write_history(world: World, *, seed: int, messages: int, until: int = HISTORY_ENDS_AT) -> None:
    """Create a history of *messages* in all, over the `HISTORY_DAYS` before *until*.

    It includes edits, deletions and all other traffic; nothing of it is sent to the streams.
    """
    if not messages or not world.flows:
        return
    now = until - HISTORY_DAYS * DAY
    # About four operations in five store a message. The pause is a little shorter than that allows,
    # so that all messages are stored before *until*.
    pause = HISTORY_DAYS * DAY * 7 // (messages * 10)
    chance = Random(f"{seed}/history")
    traffic = Traffic(world, seed)
    with world.unheard(), world.at(lambda: now):
        while sum(stored(world)) < messages:
            for _ in range(max(1, (messages - sum(stored(world))) // 2)):
                now = min(until, now + chance.randint(1, 2 * pause + 1))
                traffic.step()


def stored(world: World) -> tuple[int, int]:
    """Count the messages in all flows, and in all private conversations."""
    directory = world.directory
    return (
        sum(len(flow.timeline) for flow in directory.flows.values()),
        sum(len(talk.timeline) for talk in directory.conversations.values()),
    )
