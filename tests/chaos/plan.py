"""What goes wrong and when: drawn from a seed, so that the same seed hurts the same things at the same seconds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

FIRST_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = (1.0, 4.0)
"""Between the beginnings of two faults; most last longer, so several things are broken at a time."""

RECOVERY_SECONDS: Final = 6.0
"""What was hurt is left alone for so long afterwards."""

LONGEST_SHARE: Final = 0.25
"""A fault may take so much of the whole time."""


@dataclass(frozen=True)
class Kind:
    """A way to go wrong."""

    name: str
    targets: str
    """The group of things that it may happen to."""
    lasts: tuple[float, float]
    """The fewest and the most seconds until it is over."""
    cards: int = 1
    """How often it is in the deck."""


KINDS: Final = (
    Kind("kill", "instances", (0.5, 8), cards=7),
    Kind("terminate", "instances", (0.5, 8), cards=4),
    Kind("freeze", "instances", (2, 15), cards=4),
    Kind("freeze long", "instances", (30, 90)),
    Kind("kill server", "servers", (0.5, 8), cards=2),
    Kind("restart server", "servers", (0.5, 2)),
    Kind("freeze server", "servers", (1, 12), cards=2),
    Kind("reset line", "lines", (0, 0), cards=2),
    Kind("forget line", "lines", (0, 0)),
    Kind("silence to the server", "lines", (1, 12)),
    Kind("silence from the server", "lines", (1, 12)),
    Kind("black hole", "lines", (1, 12), cards=2),
    Kind("late line", "lines", (2, 12)),
    Kind("slow line", "lines", (2, 12)),
    Kind("cut from the database", "owners", (0, 0), cards=2),
    Kind("cut from the broker", "services", (0, 0), cards=2),
    Kind("cut from Redis", "everybody", (0, 0)),
    Kind("flush Redis", "everybody", (0, 0)),
)
"""All of them. One more is a line here and an act of the same name in ``hurt.ACTS``."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong once."""

    at: float
    """Seconds after the beginning."""
    kind: str
    target: str
    seconds: float
    """How long until it is mended."""

    @property
    def ends_at(self) -> float:
        """When it is mended, in seconds after the beginning."""
        return self.at + self.seconds


def draw(seed: int, seconds: float, targets: Mapping[str, Sequence[str]], kinds: Sequence[Kind] = KINDS) -> list[Fault]:
    """Every fault of a run of so many seconds, the first one first; all are over before it ends.

    The kinds come as from a deck of cards, so that each occurs as often as it should. Nothing is hurt by two faults at
    once.
    """
    chance = Random(seed)
    possible = [kind for kind in kinds if kind.lasts[0] <= seconds * LONGEST_SHARE]
    if not possible:
        return []
    cards = deal(chance, possible)
    free_at: dict[str, float] = {}
    faults = []
    at = FIRST_SECONDS
    while at < seconds:
        kind = next(cards)
        lasting = round(chance.uniform(kind.lasts[0], min(kind.lasts[1], seconds * LONGEST_SHARE)), 1)
        free = [target for target in targets[kind.targets] if free_at.get(target, 0.0) <= at]
        if free and at + lasting <= seconds:
            fault = Fault(round(at, 1), kind.name, chance.choice(free), lasting)
            free_at[fault.target] = fault.ends_at + RECOVERY_SECONDS
            faults.append(fault)
        at += chance.uniform(*PAUSE_SECONDS)
    return faults


def deal(chance: Random, kinds: Sequence[Kind]) -> Iterator[Kind]:
    """The cards of one shuffled deck after another."""
    while True:
        deck = [kind for kind in kinds for _ in range(kind.cards)]
        chance.shuffle(deck)
        yield from deck
