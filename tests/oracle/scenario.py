"""The scenario that a seed stands for: a world, its traffic, what goes wrong in it, and when."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.oracle.trial import Size
from tests.oracle.troubles import daemon, database, wire, world
from tests.oracle.troubles.trouble import Trouble

CATALOGUE = (*wire.TROUBLES, *world.TROUBLES, *database.TROUBLES, *daemon.TROUBLES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A world and a list of troubles, each with the moment, in seconds, at which it begins."""

    seed: int
    size: Size
    troubles: tuple[tuple[float, Trouble], ...]
    is_early: bool
    """Whether the traffic begins before the daemon starts."""

    def describe(self) -> str:
        """The troubles in their order."""
        return ", ".join(trouble.name for _, trouble in self.troubles)


def draw(seed: int, *, has_small_disk: bool) -> Scenario:
    """The scenario of *seed*. Consecutive seeds go through the whole catalogue."""
    chance = Random(f"{seed}/scenario")
    possible = [one for one in CATALOGUE if has_small_disk or not one.needs_small_disk]
    turn = CATALOGUE[seed % len(CATALOGUE)]
    if turn not in possible:
        turn = daemon.KILL
    others = [one for one in possible if one is not turn and not one.is_long]
    chosen = [turn, *chance.sample(others, chance.randint(1, 4))]
    chosen += [daemon.KILL] * chance.choice((0, 1, 1, 2))
    chance.shuffle(chosen)
    return compose(seed, chosen)


def named(*names: str) -> list[Trouble]:
    """The troubles of the catalogue with these names."""
    by_name = {one.name: one for one in CATALOGUE}
    return [by_name[name] for name in names]


def compose(seed: int, chosen: Sequence[Trouble]) -> Scenario:
    """A scenario of the troubles *chosen*, in this order; the rest is drawn from the seed."""
    chance = Random(f"{seed}/world")
    seconds = chance.uniform(1.5, 2.5)
    moments = sorted(chance.uniform(0, seconds) for _ in chosen)
    replays = any(one.needs_replay for one in chosen)
    return Scenario(
        seed=seed,
        size=Size(
            flows=chance.randint(1, 4),
            users=chance.randint(2, 6),
            history=chance.choice((0, 30, 250, 600)),
            rate=chance.uniform(40, 200),
            seconds=seconds,
            replay="all" if replays or chance.random() < 0.5 else "none",
            stream_format="event-stream" if replays else chance.choice(("event-stream", "json")),
        ),
        troubles=tuple(zip(moments, chosen, strict=True)),
        is_early=chance.random() < 0.5,
    )
